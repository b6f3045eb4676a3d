# SPDX-License-Identifier: GPL-3.0-or-later
"""conmon, podman's monitor beside each container: its arguments have the container's name, its variables the job."""

from __future__ import annotations

from ..linux.fast_stdlib import closing, fsdecode, fsencode, os, read_all, read_file

_CONMON = b"conmon"
_PARENT = 1  # of the fields of proc_pid_stat(5) after the name
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
            with closing(os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)) as process:
                before, _bracket, fields = read_file("stat", process).rpartition(b")")
                if before.partition(b"(")[2] == _CONMON and os.fstat(process).st_uid == os.geteuid():
                    variables = [entry for entry in _strings(process, "environ") if "=" in entry]
                    return _strings(process, "cmdline"), dict(entry.split("=", 1) for entry in variables)
        except OSError:
            break
        pid = int(fields.split()[_PARENT])
    return [], {}


def _strings(process: int, name: str) -> list[str]:
    """Return the strings in cmdline or environ of the open directory of a process. Raises OSError."""
    with closing(os.open(name, os.O_RDONLY, dir_fd=process)) as descriptor:
        return fsdecode(read_all(descriptor, _LIMIT)).split("\0")


def container_name(arguments: list[str]) -> str:
    """Return the container's name by the arguments of its monitor; empty without one."""
    return next((value for option, value in zip(arguments, arguments[1:]) if option == "-n"), "")


def job_by_variables(monitors: dict[str, str]) -> str:
    """Return the scheduler's job by the variables of the hook, or these of the monitor; empty where they name none."""
    own = {name: fsdecode(os.environ.get(fsencode(name), b"")) for name in JOB_VARIABLES}
    named = (variables.get(name, "") for variables in (own, monitors) for name in JOB_VARIABLES)
    return next(filter(None, named), "")
