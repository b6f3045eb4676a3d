# SPDX-License-Identifier: GPL-3.0-or-later
"""Root's locks, two for each user: for changes of what root keeps for the user, and for a process that may hang.

A lock is a POSIX lock of one byte of a file that only root can open. The kernel frees it when its process has ended,
and not before, even if that was killed and hangs in a user's file system. So nobody has to look for such processes, in
whatever pid namespace they are. A process has one descriptor of the file at a time: closing one frees all its locks.
"""

from __future__ import annotations

import errno
import time

from ..fast_stdlib import os

PLACE = "/run/ocihooks-ssh"  # root's on the node
CHANGES, CHILD = 0, 1
_TIMEOUT = 1.0  # seconds
_OF_A_PROLOG = 0.4  # seconds: it has one, and needs the lock twice
_POLL = 0.001  # seconds


def lock(uid: int, is_prolog: bool = False) -> int:
    """Return a descriptor: until it is closed, no other process changes what root keeps for the user `uid`.

    Raises OSError, TimeoutError after a second, or less for a Prolog: who has the lock may be frozen, with a job.
    """
    file = open_at(uid, CHANGES)
    if not wait(file, _OF_A_PROLOG if is_prolog else _TIMEOUT):
        os.close(file)
        raise TimeoutError(errno.ETIMEDOUT, f"another process has the lock of uid {uid} in {PLACE}/locks")
    return file


def wait(file: int, timeout: float) -> bool:
    """Call `try_lock` until it returns True, for `timeout` seconds at most; return whether it did."""
    deadline = 0.0
    while not try_lock(file):
        deadline = deadline or time.monotonic() + timeout
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def open_at(uid: int, kind: int) -> int:
    """Open the file, positioned at a lock of the user; make it if it is missing. Raises OSError."""
    path = f"{PLACE}/locks"
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        make_place(PLACE)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.lseek(file, 2 * uid + kind, 0)
    return file


def make_place(path: str) -> None:
    """Make a directory of the caller's in which all users may look up names, if it is missing. Raises OSError."""
    try:
        os.mkdir(path, 0o711)
    except FileExistsError:
        return
    os.chmod(path, 0o711)  # whatever the umask


def try_lock(file: int) -> bool:
    """Lock the byte at which the file is positioned; return False if another process has it."""
    try:
        os.lockf(file, os.F_TLOCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    return True
