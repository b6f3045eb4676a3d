# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories for the doors of users who have jobs on this node, /run/ocihooks-ssh/users/UID (door.py).

A rootless engine makes its doors with its user's rights, and a user without a login session has no directory for that.
She could fill the node's /run by one of hers. So each is a small tmpfs of its own, from the user's first job on the
node to the end of the last. ``ssh_hook prolog`` mounts it, and ``ssh_hook epilog`` removes it.

The user can change the owner of her directory, mount a file system on it by fusermount that never answers, and hold its
inode lock. So root asks for mount ids alone, which no file system is asked for, and never mounts anything on hers.
"""

from __future__ import annotations

import fcntl

from ..errors import SYSTEM, HookError
from ..linux.fast_stdlib import closing, os
from ..linux.mounts import mount_id, mount_users_tmpfs, unmount
from . import job_record
from .engine import state_directory
from .own_files import open_directory

PLACE = state_directory(0)
_USERS = "users"
_SIZE = 16 << 10  # bytes: what a user writes into files there
_INODES = 1024  # names that a user makes there; a door is one
_MOST_MOUNTS = 64  # of the user's own, one on the other
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW


def open_locked() -> int:
    """Open the directory of users' directories; until it is closed, others who do so wait. To be called by root.

    Raises OSError. Nobody else can open it for reading, and so lock it.
    """
    users = open_directory(PLACE, _USERS)
    fcntl.flock(users, fcntl.LOCK_EX)
    return users


def make(users: int, uid: int) -> None:
    """Make the directory of the user `uid`, where there is none, in the directory `users`. Raises HookError."""
    name = str(uid)
    try:
        try:
            os.mkdir(name, 0o700, dir_fd=users)
        except FileExistsError:
            pass
        with closing(os.open(name, os.O_PATH | _DIRECTORY, dir_fd=users)) as directory:
            # Otherwise it is an earlier job's, or the site's own.
            if not _is_mounted(directory, users) and os.fstat(directory).st_uid != uid:
                try:
                    mount_users_tmpfs(directory, _SIZE, _INODES, uid)
                except OSError:
                    _remove_empty(name, users)  # else the Epilog would take it for the site's own
                    raise
    except OSError as error:
        raise HookError(
            SYSTEM, f"cannot mount a tmpfs for the doors of its user on {PLACE}/{_USERS}/{name}: {error.strerror}"
        ) from None


def _remove_empty(name: str, users: int) -> None:
    try:
        os.rmdir(name, dir_fd=users)
    except OSError:
        pass


def remove(users: int, uid: int) -> None:
    """Remove what `make` has made for the user `uid` in the directory `users`. Raises OSError."""
    name = str(uid)
    for mounts in range(_MOST_MOUNTS):
        try:
            directory = os.open(name, os.O_PATH | _DIRECTORY, dir_fd=users)
        except FileNotFoundError:
            return
        with closing(directory):
            if not _is_mounted(directory, users):
                if mounts == 0:
                    return  # it is the site's own
                break
            unmount(directory)
    os.rmdir(name, dir_fd=users)


def leave(uid: int) -> None:
    """Remove the directory of the user `uid` where no record of a job of hers is left. Raises OSError."""
    # A Prolog writes its record before it waits for the lock: so either that is seen here, or it makes a new directory.
    with closing(open_locked()) as users:
        if not job_record.has_job_of(uid):
            remove(users, uid)


def _is_mounted(directory: int, users: int) -> bool:
    """Tell whether something is mounted on a directory in the directory `users`."""
    return mount_id(directory) != mount_id(users)
