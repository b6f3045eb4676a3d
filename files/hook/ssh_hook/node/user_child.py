# SPDX-License-Identifier: GPL-3.0-or-later
"""The one process of root's that may wait for a user, such as for a file system that never answers.

Root removes what users can hold up in a disposable process, which has a lock (locks.py) until it has ended. While it
hangs, no other is started for the same user. When a process ends, the kernel closes its descriptors in their order, and
may hang at one of a user's file. So the descriptor that has the lock is the last. What a process does as the user, it
does without a lock. It is known by name, state and uid instead.
"""

from __future__ import annotations

import errno

from ..errors import HOME_HANGS, SYSTEM, HookError, LateError
from ..fast_stdlib import TYPE_CHECKING, closing, os
from ..linux import disposable_process, syscalls
from ..linux.process import all_processes
from . import locks
from .engine import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable

_LAST = 255  # a descriptor above all others, if the limit on descriptors allows it
_NOFILE = 7  # RLIMIT_NOFILE: a container's limits may be the hook's
_PATIENCE = 0.3  # seconds: another sweep may have the lock for a moment
NAME = b"ssh_hook user"  # of processes that have become the user
METRICS, EARLIER = NOBODY + 1, NOBODY + 2  # in place of a uid: for the metrics, and what earlier versions have left


def run(
    uid: int,
    work: Callable[[], bytes],
    what: str,
    kept: tuple[int, ...] = (),
    timeout: float = disposable_process.TIMEOUT,
) -> bytes:
    """Run `work`, which may wait for the user `uid`, as `disposable_process.run` does.

    Raises HookError; LateError also if a process for this user still hangs. Users, who may not open the locks, wait for
    themselves.
    """
    late = f"{what}: an earlier process is still blocked on a file system of uid {uid}"

    def work_alone() -> bytes:
        try:
            with closing(locks.open_at(uid, locks.CHILD)) as file:
                last = min(_LAST, syscalls.getrlimit(_NOFILE)[0] - 1)
                os.dup2(file, last)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EROFS):
                return work()  # a user
            raise HookError(SYSTEM, f"{what}: {error.strerror}") from None
        if not locks.wait(last, _PATIENCE):
            raise HookError(HOME_HANGS, late)
        return work()

    try:
        return disposable_process.run(work_alone, what, None, kept, timeout)
    except HookError as error:
        raise LateError(error.kind, late) if str(error) == late else error from None


def users_of_left() -> set[int]:
    """Return the uids of the processes called NAME that hang. Users can imitate only their own."""
    found = set()
    for process in all_processes():
        try:
            if process.hangs() and process.read("comm") == NAME + b"\n":
                found.add(process.uid())
        except OSError:
            continue  # it has exited
    return found
