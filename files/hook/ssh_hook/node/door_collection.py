# SPDX-License-Identifier: GPL-3.0-or-later
"""How the names of doors are removed.

A user's own commands remove doors that are left over. Under enroot, the process that ends the daemon cannot reach the
node's files, and the supervisor of an attach may be killed before it removes its door. Root's doors are removed by its
sweep (stop/janitor.py), or by a start that finds too many names.
"""

from __future__ import annotations

import time

from ..errors import HookError
from ..fast_stdlib import TYPE_CHECKING, basename, os
from ..linux.files import names
from ..linux.process import MAX_PID, is_decimal, pid_namespace
from ..linux.process_search import are_running
from . import places, record, user_child
from .places import unlink

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_DIGITS = 20  # of 64 bits
_TIMEOUT = 0.5  # seconds
_GRACE_PERIOD = 60  # seconds; a start makes the door before the entry


def collect(directory: str) -> int:
    """Remove names in a directory of doors whose daemons have ended; return how many. Raises OSError."""
    # A daemon is older than its door's name: without such a process it has ended. Subdirectories have no '-'.
    found = [name for name in names(directory) if "-" in name]
    return sum(unlink(f"{directory}/{name}") for name in of_ended_daemons(found))


def left_by_root(uid: int) -> list[str]:
    """Return the paths of root's doors for the user `uid` that no entry names. Raises OSError.

    A start may have made a door, and failed to write an entry. Such a door is kept while its daemon is alive, if the
    caller's pid namespace can show that.
    """
    directory = f"{places.ENTRIES}/{uid}"
    known = (record.parse(text) for _path, text in places.entries(uid, False))
    used = {basename(each.door) for each in known if each is not None}
    unused = {name for name in names(directory) if "-" in name and name not in used}
    known_here = {name for name in unused if name.endswith(f"-{pid_namespace()}")}
    left = unused - known_here | set(of_ended_daemons(known_here))
    return [path for name in left if _is_old(path := f"{directory}/{name}")]


def _is_old(path: str) -> bool:
    try:
        return time.time() - os.stat(path, follow_symlinks=False).st_mtime > _GRACE_PERIOD
    except FileNotFoundError:
        return False  # another process has removed it


def make_room(uid: int) -> None:
    """Remove root's doors for the user `uid` that no entry names, as far as that takes less than half a second.

    Must be called by root. Raises OSError.
    """
    paths = left_by_root(uid)

    def remove() -> bytes:
        for path in paths:
            unlink(path)
        return b""

    try:
        user_child.run(uid, remove, f"cannot remove doors of uid {uid}", timeout=_TIMEOUT)
    except HookError:
        pass  # the user holds it up


def of_ended_daemons(doors: Iterable[str]) -> list[str]:
    """Return those of the names `doors` whose daemons have ended.

    If /proc hides that process, or it does not answer, any process with its pid counts. A daemon of another pid
    namespace, which a job may have, counts as alive.
    """
    here, ended, daemons = pid_namespace(), [], {}
    for name in doors:
        pid, start_time, namespace = [*name.split("-"), "", ""][:3]
        are_numbers = all(is_decimal(part, _MAX_DIGITS) for part in (pid, start_time, namespace))
        if not (are_numbers and 0 < int(pid) <= MAX_PID):
            ended.append(name)
        elif int(namespace) == here:
            daemons[name] = int(pid), int(start_time)
    return ended + [name for name, runs in zip(daemons, are_running(list(daemons.values()))) if not runs]
