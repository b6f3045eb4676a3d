# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories for the doors of users who have jobs on this node, /run/ocihooks-ssh/users/UID (door.py).

A rootless engine makes its doors with its user's rights, and a user without a login session has no directory for that.
She could fill the node's /run by one of hers. So each is a small tmpfs of its own, from the user's first job on the
node to the end of the last. ``ssh_hook prolog`` mounts it, and ``ssh_hook epilog`` removes it.

The user can change the owner of her directory, mount a file system on it by fusermount that never answers, and hold its
inode lock. So root asks for mount ids alone, which no file system is asked for, and never mounts anything on hers.

Whoever lets go of a FUSE file system last may wait for its server without end, where SIGKILL does not help. That is who
unmounts it, closes the last descriptor, or removes a name of root's on which any user has mounted it in a mount
namespace of her own. So a process does all of that which can be left behind, and does not hold the lock. It keeps its
descriptors until the name is gone: then it waits when all is done.
"""

from __future__ import annotations

import fcntl

from ..errors import SYSTEM, HookError
from ..linux import disposable_process, syscalls
from ..linux.fast_stdlib import TYPE_CHECKING, closing, os, signal
from ..linux.mounts import mount_id, mount_users_tmpfs, unmount
from ..linux.process import MAX_ID, is_decimal
from . import job_record
from .engine import state_directory
from .own_files import open_directory

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = state_directory(0)
_USERS = "users"
_SIZE = 1 << 20  # bytes: what a user writes into files there; an entry of a daemon takes a page
_INODES = 1024  # names that a user makes there; a door is one
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW
_MAX_DIGITS = 10  # of a uid
_TIMEOUT = 0.5  # seconds; less than a Prolog has


def make(uid: int) -> None:
    """Make the directory of the user `uid`, where there is none. To be called by root. Raises HookError and OSError."""
    with closing(_lock()):
        _change(uid, _make)


def leave(uid: int) -> None:
    """Remove the directory of the user `uid` where no record of a job of hers is left. To be called by root.

    Raises HookError and OSError.
    """
    # A Prolog writes its record before it waits for the lock: so either that is seen here, or it makes a new directory.
    with closing(_lock()):
        if not job_record.has_job_of(uid):
            _change(uid, _remove)


def users() -> list[int]:
    """Return the uids of the users who have a directory. To be called by root. Raises OSError."""
    try:
        names = os.listdir(f"{PLACE}/{_USERS}")
    except FileNotFoundError:
        return []  # no Prolog has been called
    return [int(name) for name in names if is_decimal(name, _MAX_DIGITS) and int(name) <= MAX_ID]


def _lock() -> int:
    """Open the directory of users' directories; until it is closed, others who do so wait. Raises OSError.

    Nobody else can open it for reading, and so lock it.
    """
    users = open_directory(PLACE, _USERS)
    fcntl.flock(users, fcntl.LOCK_EX)
    return users


def _change(uid: int, work: Callable[[int, int], None]) -> None:
    """Run `work` on the directory of directories and `uid` in a process that lacks the lock. Raises HookError."""

    caller = os.getpid()

    def change() -> bytes:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # who is killed has the lock no more
        if os.getppid() == caller:
            work(open_directory(PLACE, _USERS), uid)
        return b""

    what = f"cannot make or remove {PLACE}/{_USERS}/{uid}"
    disposable_process.run(change, what, None, timeout=_TIMEOUT)


def _make(users: int, uid: int) -> None:
    """Make the user's directory in the directory `users`, where there is none. Raises HookError."""
    name = str(uid)
    try:
        try:
            os.mkdir(name, 0o700, dir_fd=users)
        except FileExistsError:
            pass
        directory = os.open(name, os.O_PATH | _DIRECTORY, dir_fd=users)
        # Otherwise it is an earlier job's, or the site's own.
        if not _is_mounted(directory, users) and os.fstat(directory).st_uid != uid:
            mount_users_tmpfs(directory, _SIZE, _INODES, uid)
    except OSError as error:
        raise HookError(
            SYSTEM, f"cannot mount a tmpfs for the doors of its user on {PLACE}/{_USERS}/{name}: {error.strerror}"
        ) from None


def _remove(users: int, uid: int) -> None:
    """Remove what `_make` has made, and what its user has mounted on it; leave descriptors open. Raises OSError."""
    name = str(uid)
    while True:
        try:
            directory = os.open(name, os.O_PATH | _DIRECTORY, dir_fd=users)
        except FileNotFoundError:
            return
        if not _is_mounted(directory, users):
            break
        unmount(directory)
    if os.fstat(directory).st_uid != uid:  # else it is the site's own
        os.rmdir(name, dir_fd=users)


def _is_mounted(directory: int, users: int) -> bool:
    """Tell whether something is mounted on a directory in the directory `users`."""
    return mount_id(directory) != mount_id(users)
