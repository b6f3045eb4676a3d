"""What slurmd does for jobs of alice's: it calls `ssh_hook prolog` and `epilog` as root, and makes cgroups of steps.

PBS's mom does the same, by hooks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from containers import ALICE, LAUNCHER, Engine, Result, repeat_while, run, wait_for

DOORS = Path("/run/ocihooks-ssh/users", str(ALICE))  # alice's directory, while she has jobs
_PLACE = DOORS.parent
_TOO_LATE = re.compile(rb"no answer within 0\.5 s|timed out after 1 s")
_LATE = "calls of slurmd's that were late"


def call(command: str, job: int, label: Sequence[str] = (), **variables: str) -> Result:
    """Call `ssh_hook prolog` or `epilog` for a job on three nodes, by the command `label` where there is one."""
    return repeat_while(_TOO_LATE, lambda: call_once(command, job, label, **variables), _LATE)


def call_once(command: str, job: int, label: Sequence[str] = (), **variables: str) -> Result:
    """Call it once, even if its own second is over before it is done."""
    slurm = {"SLURM_JOB_ID": str(job), "SLURM_JOB_UID": str(ALICE), "SLURM_JOB_NODELIST": "127.0.0.1,nid[001-002]"}
    words = [f"{name}={value}" for name, value in {**slurm, **variables}.items()]
    return run([*label, "env", "-i", *words, LAUNCHER, command])


def call_for_pbs(command: str, job: str) -> Result:
    """Call `ssh_hook prolog` or `epilog` for a job of PBS's on two nodes, as the hook in docs/schedulers.md does."""
    words = [f"PBS_JOBID={job}", f"PBS_JOB_UID={ALICE}", "PBS_EXEC_HOST2=127.0.0.1:15002/0*8+node2:15002/0*8"]
    called = ["env", "-i", *words, "PBS_SCHEDSELECT=2:ncpus=8:mpiprocs=4", LAUNCHER, command]
    return repeat_while(_TOO_LATE, lambda: run(called), _LATE)


def is_mounted(uid: int = ALICE) -> bool:
    """Tell whether the user's directory is there."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return any(line.split()[4] == f"{_PLACE}/{uid}" for line in lines)


def step(job: int) -> str:
    """Return the cgroup of a step of the job's."""
    return f"slurm/uid_{ALICE}/job_{job}/step_0"


def pbs_job(job: str) -> str:
    """Return the cgroup of a job of PBS's."""
    return f"pbs_jobs.service/jobid/{job}"


def rootless_in(cgroup: str) -> Engine:
    """Return alice's podman, which runs in `cgroup`. `remove_cgroups` is for the end."""
    freezer = Path("/sys/fs/cgroup/freezer")  # of cgroup v1
    directory = (freezer if freezer.is_dir() else freezer.parent) / cgroup
    directory.mkdir(parents=True, exist_ok=True)
    engine = Engine("rootless")
    run([*engine.podman, "ps"]).checked()  # podman's own process, which stays, is not to be in the job
    engine.podman = ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', str(directory), *engine.podman]
    return engine


def remove_cgroups() -> None:
    """Remove the cgroups of jobs, whose processes have ended or end. Runtimes remove their own, and none above."""
    top = Path("/sys/fs/cgroup")
    for hierarchy in [top, *(path for path in top.iterdir() if path.is_dir() and not path.is_symlink())]:
        for scheduler in ("slurm", "pbs_jobs.service"):
            for directory, _names, _files in os.walk(hierarchy / scheduler, topdown=False):
                wait_for(partial(_is_empty, Path(directory)), f"end of all in {directory}")
                os.rmdir(directory)


def _is_empty(cgroup: Path) -> bool:
    return not (cgroup / "cgroup.procs").read_text(encoding="ascii")
