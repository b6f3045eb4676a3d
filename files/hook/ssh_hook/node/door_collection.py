# SPDX-License-Identifier: GPL-3.0-or-later
"""How the names of doors are removed whose daemons have ended, and that nobody has removed then.

Whoever ends a daemon under enroot has nothing of the node's, and the supervisor of an attach may be killed.
"""

from __future__ import annotations

from ..errors import HookError, describe_failure, kind_of
from ..linux import disposable_process
from ..linux.fast_stdlib import os
from ..linux.process import MAX_PID, Process, is_decimal, pid_is_taken, pid_namespace
from ..log import INFO, log
from . import entries, entry_reader
from .door import places
from .door_removal import REMOVED, ROOT_PLACE, unlink

_MAX_DIGITS = 20  # of 64 bits


def collect_doors(uid: int, level: int = INFO) -> int:
    """Remove the doors of daemons of an engine of `uid` that have ended; return how many directories failed.

    A user's entries of such daemons are removed too. Failures are logged at `level`.
    """
    failures = 0
    for directory in places(uid):
        try:
            removed = collect(directory) if uid else _collect_roots()
        except (HookError, OSError) as error:
            log(level, f"cannot remove the doors of daemons that have ended: {describe_failure(error)}", kind_of(error))
            failures += 1
        else:
            if removed:
                log(INFO, f"{directory}: removed the doors of {removed} daemons that have ended")
    for directory in entries.directories(uid) if uid else ():
        entry_reader.collect(directory)
    return failures


def _collect_roots() -> int:
    """Do what `collect` does in root's directory, and remove the names that were moved. Raises HookError."""

    def work() -> bytes:
        for name in _names(REMOVED):
            unlink(f"{REMOVED}/{name}")
        return b"%d" % collect(ROOT_PLACE)

    return int(disposable_process.run(work, f"cannot remove names in {ROOT_PLACE}", None))


def collect(directory: str) -> int:
    """Remove names in a directory of doors whose daemons have ended; return how many. Raises OSError."""
    # A daemon lived before its name was made.
    return sum(unlink(f"{directory}/{name}") for name in _names(directory) if not _has_daemon(name))


def _names(directory: str) -> list[str]:
    """Return the names in a directory of doors. Raises OSError."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, PermissionError):
        return []  # or root's, where what it has mounted there for the user is in another mount namespace


def _has_daemon(name: str) -> bool:
    """Tell whether the process lives that a door is named after, or one of its pid that the caller may not see.

    One of another pid namespace, as of a job that has its own, is taken to live.
    """
    pid, start_time, namespace = [*name.split("-"), "", ""][:3]
    if not (all(is_decimal(part, _MAX_DIGITS) for part in (pid, start_time, namespace)) and 0 < int(pid) <= MAX_PID):
        return False
    if int(namespace) != pid_namespace():
        return True
    try:
        process = Process(int(pid))
    except OSError:
        return pid_is_taken(int(pid))  # hidepid hides those of another user namespace, though they are the same user's
    try:
        return process.is_alive() and process.start_time() == int(start_time)
    except OSError:
        return pid_is_taken(int(pid))
    finally:
        process.close()
