# SPDX-License-Identifier: GPL-3.0-or-later
"""What earlier versions have left in /run/ocihooks-ssh: doors, messages, and records of jobs that run.

Any user can look up these names, so root removes them in a process that can be left behind (stop/janitor.py).
"""

from __future__ import annotations

from ..fast_stdlib import closing, fsdecode, os, read_all
from ..linux.files import READ, SEARCH, names
from .access import open_roots
from .door_collection import of_ended_daemons
from .locks import PLACE

_JOBS = "jobs"
_MAX_SIZE = 256 << 10  # bytes
_FREED = b"\0"  # the first byte of a record whose job has ended


def job_text(name: str, is_rootless: bool) -> str:
    """Return the record of job `name`, which began before an upgrade; empty if there is none. Raises HookError."""
    try:
        with closing(open_roots(PLACE, SEARCH, None, is_rootless)) as place:
            with closing(open_roots(_JOBS, SEARCH, place, is_rootless)) as jobs:
                with closing(open_roots(name, READ, jobs, is_rootless)) as file:
                    return fsdecode(read_all(file, _MAX_SIZE).partition(_FREED)[0])
    except OSError:
        return ""


def left() -> list[str]:
    """Return the paths of what nobody needs any more. Must be called by root. Raises OSError."""
    directories = [f"{PLACE}/{name}" for name in ("doors", "last", "removed")]
    ended = [f"{PLACE}/{_JOBS}/{name}" for name in jobs() if not job_text(name, False)]
    return ended + [f"{path}/{name}" for path in directories for name in of_ended_daemons(names(path))]


def jobs() -> list[str]:
    """Return the names of jobs that began before an upgrade. Must be called by root. Raises OSError."""
    return names(f"{PLACE}/{_JOBS}")


def free_job(name: str) -> None:
    """Free the record of job `name`, if there is one: a sweep removes it. Must be called by root. Raises OSError."""
    try:
        with closing(os.open(f"{PLACE}/{_JOBS}/{name}", os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            os.pwrite(file, _FREED, 0)
    except FileNotFoundError:
        pass
