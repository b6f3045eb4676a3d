# SPDX-License-Identifier: GPL-3.0-or-later
"""conmon, podman's monitor beside each container: its arguments have the container's name, its variables the job."""

from __future__ import annotations

from ..linux.fast_stdlib import closing, environment, fsdecode, os, read_all
from ..linux.process import Process

_CONMON = b"conmon\n"
_ANCESTORS = 4  # of the hook, among which it is
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")  # the number of the job, of Slurm, PBS and LSF
_LIMIT = 1 << 20  # bytes


def find() -> tuple[list[str], dict[str, str]]:
    """Return arguments and variables of the conmon that has called the runtime; empty where there is none.

    It must be the caller's: a read waits for whoever holds the memory of a process.
    """
    pid = os.getppid()
    for _generation in range(_ANCESTORS):
        try:
            process = Process(pid)
        except OSError:
            break
        try:
            if process.read("comm") == _CONMON and os.fstat(process.directory).st_uid == os.geteuid():
                variables = [entry for entry in _strings(process, "environ") if "=" in entry]
                return _strings(process, "cmdline"), dict(entry.split("=", 1) for entry in variables)
            pid = process.parent()
        except OSError:
            break
        finally:
            process.close()
    return [], {}


def _strings(process: Process, name: str) -> list[str]:
    """Return the strings in cmdline or environ. Raises OSError."""
    with closing(process.open(name, os.O_RDONLY)) as descriptor:
        return fsdecode(read_all(descriptor, _LIMIT)).split("\0")


def container_name(arguments: list[str]) -> str:
    """Return the container's name by the arguments of its monitor; empty without one."""
    return next((value for option, value in zip(arguments, arguments[1:]) if option == "-n"), "")


def job_by_variables(monitors: dict[str, str]) -> str:
    """Return the scheduler's job by the variables of the hook, or these of the monitor; empty where they name none."""
    named = (variables.get(name, "") for variables in (environment(), monitors) for name in JOB_VARIABLES)
    return next(filter(None, named), "")
