# SPDX-License-Identifier: GPL-3.0-or-later
"""conmon, podman's monitor for each container: its command line has the container's name, its environment the job."""

from __future__ import annotations

from ..errors import HookError
from ..fast_stdlib import TYPE_CHECKING, closing, fsdecode, fsencode, os, read_all, read_file

if TYPE_CHECKING:
    from ..linux.process import Process

CONMON = "conmon"  # the name of its processes
_ANCESTORS, _ANCESTORS_IN_CONTAINER = 4, 16  # to look at, of the hook and of a process in a container
_TIMEOUT = 2.0  # seconds
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")  # the job's number in Slurm, PBS and LSF
_LIMIT = 1 << 20  # bytes


def find() -> tuple[list[str], dict[str, str]]:
    """Return arguments and variables of the conmon that called the runtime; empty if there is none.

    Only a conmon of the caller's uid is read: another user could block the read by holding the process's mmap lock.
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
    """Return arguments and variables of the conmon that is an ancestor of `process`, of a running container.

    A process of the container may have the name conmon, too, and block the read. So a disposable process reads.
    """
    from ..linux.memory import read_memory  # here: starts do not need it

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
    """Return the open directory in /proc of the caller's conmon, if it is `pid` or an ancestor. Raises OSError."""
    for _generation in range(generations):
        process = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
        # Its stat could keep the hook waiting (linux/process_questions.py).
        status = dict(line.split(b":\t", 1) for line in read_file("status", process).split(b"\n") if b":\t" in line)
        if status[b"Name"] == CONMON.encode() and os.fstat(process).st_uid == os.geteuid():
            return process
        os.close(process)
        pid = int(status[b"PPid"])
    return None


def _variables(strings: list[str]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in strings if "=" in entry)


def _strings(process: int, name: str) -> list[str]:
    """Return the strings in the file `name`, cmdline or environ, of an open directory in /proc. Raises OSError."""
    with closing(os.open(name, os.O_RDONLY, dir_fd=process)) as descriptor:
        return fsdecode(read_all(descriptor, _LIMIT)).split("\0")


def container_of(arguments: list[str]) -> tuple[str, str, str]:
    """Return a container's id, name and bundle from the arguments of its monitor; each is empty if it is missing."""
    return _option(arguments, "-c"), _option(arguments, "-n"), _option(arguments, "-b")


def _option(arguments: list[str], name: str) -> str:
    return next((value for option, value in zip(arguments, arguments[1:]) if option == name), "")


def job_by_variables(monitors: dict[str, str]) -> str:
    """Return the scheduler's job from the hook's variables, or else from `monitors`, the monitor's; empty if unset."""
    own = {name: fsdecode(os.environ.get(fsencode(name), b"")) for name in JOB_VARIABLES}
    named = (variables.get(name, "") for variables in (own, monitors) for name in JOB_VARIABLES)
    return next(filter(None, named), "")
