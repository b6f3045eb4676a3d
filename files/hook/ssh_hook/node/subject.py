# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose container a call of the hook is about: the fields of its messages in the system log.

A call that has something to say looks for them, and each start whose logins are logged. They come from what the start
has found out, and from whatever is at hand even where it failed at once: what decides who may read the kept messages
(last_messages.py), the cgroup, and podman's monitor.
"""

from __future__ import annotations

from ..errors import HookError
from ..linux.cgroups import job_and_step
from ..linux.fast_stdlib import closing, environment, fsdecode, os, read_all, read_file
from ..linux.process import Process
from ..log import log, one_line
from . import last_messages

_CONMON = b"conmon\n"  # podman's monitor beside each container, from whose arguments the container's name comes
_ANCESTORS = 4  # of the hook, among which it is
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")  # the number of the job, of Slurm, PBS and LSF
_LIMIT = 1 << 20  # bytes
_MAX_VALUE = 200  # characters


def fields() -> dict[str, str]:
    """Return the fields, by name; a value that is not known is empty."""
    identity, bundle = log.subject
    arguments, variables = _monitor()
    found = {
        "user": log.user,
        "uid": log.known.get("uid") or _uid(bundle),
        "container": _name(arguments),
        "container_id": identity,
        "job": log.known.get("job") or job(variables),
    }
    return {name: one_line(value)[:_MAX_VALUE] for name, value in found.items()}


def job(monitor: dict[str, str]) -> str:
    """Return the scheduler's job: by Slurm's cgroup, else by the variables of the hook or of podman's `monitor`."""
    own = environment()
    named = (variables.get(name, "") for variables in (own, monitor) for name in JOB_VARIABLES)
    return _job_of_cgroup() or next(filter(None, named), "")


def _job_of_cgroup() -> str:
    try:
        number, _step = job_and_step(fsdecode(read_file("/proc/self/cgroup")).split("\n"))
    except OSError:
        return ""
    return number


def _uid(bundle: str) -> str:
    try:
        return str(last_messages.concerned_uid(bundle))
    except (HookError, OSError):
        return ""


def _monitor() -> tuple[list[str], dict[str, str]]:
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


def _name(arguments: list[str]) -> str:
    return next((value for option, value in zip(arguments, arguments[1:]) if option == "-n"), "")
