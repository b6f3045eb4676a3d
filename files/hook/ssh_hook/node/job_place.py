# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of users who have jobs on this node, /run/ocihooks-ssh/users/UID, for their rootless engines.

A user without a login session has no directory for doors and entries, and could fill the node's /run from one of hers.
So each is a small tmpfs of its own. ``ssh_hook prolog`` mounts it, and a sweep unmounts it when its user has no job on
record. The empty directory below it stays, since any user can hold up whoever removes it (docs/why.md). The user can
mount there what never answers. So root reads the list of mounts, and opens nothing there.
"""

from __future__ import annotations

from ..errors import SYSTEM, HookError
from ..fast_stdlib import closing, fsencode, os, read_file
from ..linux import syscalls
from ..linux.files import SEARCH
from ..linux.mounts import mount_users_tmpfs
from . import locks
from .engine import JOBS_PLACE

_SIZE = 1 << 20  # bytes: what a user writes into files there; an entry of a daemon takes a page
_INODES = 1024  # names that a user makes there; a door is one


def make(uid: int) -> None:
    """Make the directory of the user `uid`, where there is none. Must be called by root. Raises HookError."""
    path = f"{JOBS_PLACE}/{uid}"
    try:
        with closing(locks.lock(uid, is_prolog=True)):
            if uid in users():
                return  # of an earlier job
            locks.make_place(locks.PLACE)
            locks.make_place(JOBS_PLACE)
            locks.make_place(path)  # without a mount, doors in it are gone for its user, not forbidden
            with closing(os.open(path, SEARCH)) as directory:
                if os.fstat(directory).st_uid != uid:  # else it is the site's own
                    mount_users_tmpfs(directory, _SIZE, _INODES, uid)
    except OSError as error:
        raise HookError(SYSTEM, f"cannot mount a tmpfs for the doors of its user on {path}: {error.strerror}") from None


def users() -> set[int]:
    """Return the uids of the users on whose directory something is mounted. Raises OSError."""
    above = fsencode(f"{JOBS_PLACE}/")
    points = (line.split(b" ", 5)[4] for line in read_file("/proc/self/mountinfo").splitlines())
    names = (point[len(above) :] for point in points if point.startswith(above))
    return {int(name) for name in names if name.isdigit()}


def remove(uid: int) -> None:
    """Unmount all that is mounted on the directory of the user `uid`. It may wait for this user. Raises OSError.

    By path: a process that ends with a descriptor of what it has unmounted waits after it has lost its locks.
    """
    while uid in users():
        syscalls.umount(fsencode(f"{JOBS_PLACE}/{uid}"), syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
