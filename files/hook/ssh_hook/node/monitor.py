# SPDX-License-Identifier: GPL-3.0-or-later
"""conmon, podman's monitor beside each container: its arguments have the container's name, its variables the job."""

from __future__ import annotations

from ..errors import HookError
from ..linux.fast_stdlib import TYPE_CHECKING, closing, fsdecode, fsencode, os, read_all, read_file

if TYPE_CHECKING:
    from ..linux.process import Process

CONMON = "conmon"  # the name of its processes
_PARENT = 1  # of the fields of proc_pid_stat(5) after the name
_ANCESTORS, _ANCESTORS_IN_CONTAINER = 4, 16  # of the hook, and of a process of a container, among which it is
_TIMEOUT = 2.0  # seconds
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")  # the number of the job, of Slurm, PBS and LSF
_LIMIT = 1 << 20  # bytes


def find() -> tuple[list[str], dict[str, str]]:
    """Return arguments and variables of the conmon that has called the runtime; empty where there is none.

    It must be the caller's: a read waits for whoever holds the memory of a process.
    """
    try:
        process = _above(os.getppid(), _ANCESTORS)
        if process is None:
            return [], {}
        with closing(process):
            return _strings(process, "cmdline"), _variables(_strings(process, "environ"))
    except Exception:
        return [], {}  # it has exited, or there is not enough memory


def find_above(process: Process) -> tuple[list[str], dict[str, str]]:
    """Return the same of the conmon that is an ancestor of a running container's `process`.

    A process of the container may have that name too. So another process reads, which can be left behind.
    """
    from ..linux.memory import read_memory  # here: starts need it not

    try:
        found = _above(process.parent(), _ANCESTORS_IN_CONTAINER)
        if found is None:
            return [], {}
        with closing(found):
            arguments, variables = (
                fsdecode(read_memory(found, name, "podman's monitor", _LIMIT, _TIMEOUT)).split("\0")
                for name in ("cmdline", "environ")
            )
    except (HookError, OSError):
        return [], {}
    return arguments, _variables(variables)


def _above(pid: int, generations: int) -> int | None:
    """Return the open directory in /proc of the caller's conmon: `pid`, or one above it. Raises OSError."""
    for _generation in range(generations):
        process = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
        before, _bracket, fields = read_file("stat", process).rpartition(b")")
        if before.partition(b"(")[2] == CONMON.encode() and os.fstat(process).st_uid == os.geteuid():
            return process
        os.close(process)
        pid = int(fields.split()[_PARENT])
    return None


def _variables(strings: list[str]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in strings if "=" in entry)


def _strings(process: int, name: str) -> list[str]:
    """Return the strings in cmdline or environ of the open directory of a process. Raises OSError."""
    with closing(os.open(name, os.O_RDONLY, dir_fd=process)) as descriptor:
        return fsdecode(read_all(descriptor, _LIMIT)).split("\0")


def container_of(arguments: list[str]) -> tuple[str, str, str]:
    """Return a container's id, name and bundle from the arguments of its monitor; each is empty if missing there."""
    return _option(arguments, "-c"), _option(arguments, "-n"), _option(arguments, "-b")


def _option(arguments: list[str], name: str) -> str:
    return next((value for option, value in zip(arguments, arguments[1:]) if option == name), "")


def job_by_variables(monitors: dict[str, str]) -> str:
    """Return the scheduler's job by the variables of the hook, or these of the monitor; empty where they name none."""
    own = {name: fsdecode(os.environ.get(fsencode(name), b"")) for name in JOB_VARIABLES}
    named = (variables.get(name, "") for variables in (own, monitors) for name in JOB_VARIABLES)
    return next(filter(None, named), "")
