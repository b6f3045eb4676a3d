"""The environment of the command of ``first``: none of a task's, and launchers that use ssh. Sessions have the same."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[4]
FIRST = REPOSITORY / "files/hook/ssh_hook/provision/first.sh"
PATCH = REPOSITORY / "roles/dropbear/files/patches/dropbear/09-environment.patch"
SHELLS = {"dash": ["dash"], "bash as sh": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
BY_SSH = {
    "HYDRA_BOOTSTRAP": "ssh",
    "I_MPI_HYDRA_BOOTSTRAP": "ssh",
    "OMPI_MCA_plm": "^slurm",
    "PRTE_MCA_plm": "^slurm",
}
SRUN = {  # what srun of Slurm 24.11 leaves in tasks for launchers
    "HYDRA_BOOTSTRAP": "slurm",
    "HYDRA_LAUNCHER_EXTRA_ARGS": "--external-launcher",
    "I_MPI_HYDRA_BOOTSTRAP": "slurm",
    "I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS": "--external-launcher",
    "OMPI_MCA_plm_slurm_args": "--external-launcher",
    "PRTE_MCA_plm_slurm_args": "--external-launcher",
}
TASK = {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_GTIDS": "2,3",
    "SLURM_SRUN_COMM_HOST": "10.0.0.1",
    "SLURM_PMIX_MAPPING_SERV": "x",
    "PMI_FD": "9",
    "PMI2_DEBUG": "1",
    "PMIX_RANK": "3",
    "OMPI_COMM_WORLD_RANK": "3",
}
KEPT = {
    "HOME": "/h",
    "SLURM_JOB_ID": "7",
    "SLURM_NODEID": "0",
    "PMIX_MCA_gds": "hash",
    "PMIX_PREFIX": "/opt/pmix",
    "PMIX_INSTALL_PREFIX": "/opt/pmix",
    "VALUE": "a\nexport PMI_FD='9'\n*",
    "GLOB": "/*",
}


def left(shell: list[str], environment: dict[str, str]) -> dict[str, str]:
    function = re.search(r"^leave_task\(\) \{\n.*?^\}\n", FIRST.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert function is not None
    script = f"set -u\n{function[0]}leave_task\nexec env -0\n"
    given = {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run([*shell, "-c", script], env=given, stdout=subprocess.PIPE, check=True)
    found = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry)
    return {name: value for name, value in found.items() if name not in ("PATH", "PWD", "OLDPWD", "SHLVL", "_")}


@pytest.fixture(params=SHELLS, name="shell")
def fixture_shell(request: pytest.FixtureRequest) -> list[str]:
    return SHELLS[request.param]


def test_a_task_of_slurms(shell: list[str]) -> None:
    assert left(shell, {**KEPT, **TASK, **SRUN}) == {**KEPT, **BY_SSH}


def test_outside_of_jobs_nothing_is_set(shell: list[str]) -> None:
    assert left(shell, {"HOME": "/h"}) == {"HOME": "/h"}


def test_what_users_choose_stays(shell: list[str]) -> None:
    chosen = {
        "SLURM_JOBID": "7",
        "HYDRA_BOOTSTRAP": "fork",
        "I_MPI_HYDRA_BOOTSTRAP": "rsh",
        "OMPI_MCA_plm": "isolated",
        "PRTE_MCA_plm": "ssh",
        "HYDRA_LAUNCHER_EXTRA_ARGS": "-q",
    }
    assert left(shell, chosen) == chosen


def test_sessions_have_the_same_rules() -> None:
    """Each variable that Dropbear leaves out, as its list has it, goes here too."""
    text = PATCH.read_text(encoding="utf-8")
    found = re.search(r"not_in_sessions\[\] = \{(.*?)NULL", text, re.DOTALL)
    defaults = re.search(r"job_defaults\[\] = \{(.*?)NULL", text, re.DOTALL)
    assert found is not None
    assert defaults is not None
    listed = re.findall('"([^"]*)"', found[1])
    assert len(listed) > 20
    environment = {}
    for start in listed:
        name, equals, value = start.partition("=")
        environment[name if equals else f"{name}X"] = value if equals and value else "1"
    assert left(["dash"], environment) == {}
    job = {"SLURM_JOB_ID": "7"}
    assert left(["dash"], job) == {**job, **dict(item.split("=", 1) for item in re.findall('"([^"]*)"', defaults[1]))}
