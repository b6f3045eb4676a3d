"""The environment of the command of ``first``: none of a task's, and launchers that use ssh. Sessions have the same."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[4]
FIRST = REPOSITORY / "files/hook/ssh_hook/provision/first.sh"
GUIDE = REPOSITORY / "docs/launchers.md"
DROPBEAR = REPOSITORY / "roles/dropbear/files/src/dropbear/svr-environment.c"
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


def of_dropbear(name: str) -> list[str]:
    """Return a list of beginnings of NAME=VALUE in Dropbear."""
    found = re.search(rf"\b{name}\[\] = \{{(.*?)NULL", DROPBEAR.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return re.findall('"([^"]*)"', found[1])


def of_first() -> list[set[str]]:
    """Return the patterns of each branch of the case: what stays, what goes, and what goes with one of two values."""
    found = re.search(r" case \$_name in\n(.*?)\n {8}esac\n", FIRST.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    branches = re.findall(r"^ {12}(\S[^)]*)\)", found[1], re.MULTILINE)
    return [set(re.split(r"[\s|\\]+", patterns)) for patterns in branches]


def as_pattern(start: str) -> str:
    """Return the shell's pattern of the names of variables that begin so in Dropbear's list."""
    name, equals, _value = start.partition("=")
    return name if equals else f"{name}*"


def is_of_value(start: str) -> bool:
    """Tell whether only one value of the variable is meant."""
    return bool(start.partition("=")[2])


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
    kept, left_out, by_value = of_first()
    goes = of_dropbear("not_in_sessions")
    assert kept - {"*[!A-Za-z0-9_]*"} == {as_pattern(start) for start in of_dropbear("in_sessions")}
    assert left_out == {as_pattern(start) for start in goes if not is_of_value(start)}
    assert by_value == {as_pattern(start) for start in goes if is_of_value(start)}
    job = {"SLURM_JOB_ID": "7"}
    defaults = dict(item.split("=", 1) for item in of_dropbear("job_defaults"))
    assert left(["dash"], job) == {**job, **defaults}


@pytest.mark.parametrize("start", [start for start in of_dropbear("not_in_sessions") if is_of_value(start)])
def test_values_of_slurms_go(start: str) -> None:
    assert left(["dash"], dict([start.split("=", 1)])) == {}


def test_the_guide_names_each() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    start = text.index("A session is not one of the job's tasks")
    named = set(re.findall("`([^`]*)`", text[start : text.index("\n## ", start)]))
    for listed in [*of_dropbear("not_in_sessions"), *of_dropbear("in_sessions")]:
        name, equals, value = listed.partition("=")
        if not equals:
            assert f"{name}…" in named
        elif value != "--external-launcher":
            assert listed.removesuffix("=") in named
    assert "--external-launcher" in named
