# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's own directories, for entries and doors of a rootless engine, of enroot and of an attach.

Root has made one if the user has a job on the node (job_place.py). Another is the login session's. A third, in /tmp,
outlives both. Poststop, a sweep or a supervisor removes what is in them.
"""

from __future__ import annotations

from ..errors import HookError
from ..fast_stdlib import TYPE_CHECKING, closing, create_file, dirname, os, stat
from ..linux.files import is_own
from .engine import JOBS_PLACE, Engine, state_directory, temporary_directory
from .places import unlink

if TYPE_CHECKING:
    from .record import Record

# Directories in a directory of the user's: for entries, and for locks of attached processes.
ENTRIES, ATTACHED = "daemons", "attached"


def for_entries(uid: int) -> list[str]:
    """Return the directories for entries of `uid`, an id of the initial user namespace: jobs', the login's, /tmp's."""
    return [f"{place}/{ENTRIES}" for place in _places(uid)]


def for_attached(uid: int) -> list[str]:
    """Return the directories for locks of attached processes of `uid`: like `for_entries`, the preferred one first."""
    return [f"{place}/{ATTACHED}" for place in _places(uid)]


def _places(uid: int) -> tuple[str, ...]:
    return f"{JOBS_PLACE}/{uid}", state_directory(uid), temporary_directory(uid)


def for_doors(uid: int) -> list[str]:
    """Return the directories for doors of `uid`, an id of the initial user namespace: jobs', the login's."""
    return [f"{JOBS_PLACE}/{uid}", f"{state_directory(uid)}/doors"]


def is_entry(path: str, name: str) -> bool:
    """Return whether `path` is where the caller can have made the entry `name`. For root it is always."""
    uid = Engine().host_uid
    return uid == 0 or path in (f"{directory}/{name}" for directory in for_entries(uid))


def remove_door(path: str) -> None:
    """Remove the name of a door of the caller's own, if it is there. Root's are left (door_collection.py)."""
    uid = Engine().host_uid
    if uid and dirname(path) in for_doors(uid):
        unlink(path)


def write(known: Record, directory: int) -> None:
    """Create the entry in the open `directory`, and remove it if it cannot be written. Raises OSError."""
    name = known.name()
    try:
        os.close(create_file(name, known.data(), 0o600, directory))
    except FileExistsError:
        raise
    except OSError:
        try:
            os.unlink(name, dir_fd=directory)
        except OSError:
            pass  # it was not created
        raise


def open_own(path: str, *, create: bool = False) -> int:
    """Open the directory `path` for reading; only the caller can write to it and to the directory above it.

    `create` makes both if they are missing. Raises OSError.
    """
    place, _slash, name = path.rpartition("/")
    above, _slash, place_name = place.rpartition("/")
    with closing(os.open(above, os.O_PATH | os.O_DIRECTORY)) as parent:
        with closing(_open_own_in(parent, place_name, create)) as outer:
            return _open_own_in(outer, name, create)


def _open_own_in(parent: int, name: str, create: bool) -> int:
    """Open the directory `name` in the open `parent` for reading, if only the caller can write to it.

    Where everyone can make names, as in /tmp, another user may have mounted FUSE on this one. Whoever opens, reads or
    stats that waits for this user. O_PATH and the mount's id do not ask the file system.
    """
    try:
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
        os.mkdir(name, 0o700, dir_fd=parent)
        return _open_own_in(parent, name, create)
    with closing(handle):
        is_public = os.fstat(parent).st_mode & stat.S_IWOTH
        if (is_public and not _is_same_mount(handle, parent)) or not is_own(os.fstat(handle), stat.S_IFDIR):
            raise PermissionError
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)


def _is_same_mount(first: int, second: int) -> bool:
    from ..linux.mounts import mount_id  # here: poststop, which only needs the paths, loads no ctypes

    try:
        return mount_id(first) == mount_id(second)
    except HookError:
        return False  # the kernel is too old to show it
