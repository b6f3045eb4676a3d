# SPDX-License-Identifier: GPL-3.0-or-later
"""Root's directory for each user, /run/ocihooks-ssh/entries/UID: entries of daemons and jobs, doors, kept messages.

Only root lists it or writes there. Its user can open files in it by name; nobody else can. But this user can block any
process that removes, replaces or truncates such a file (docs/why.md). So root overwrites its files in place, and a
process that may be left behind removes doors (stop/janitor.py). A file is valid if its first byte, which is written
last, is not NUL. Its text ends at the next NUL. An entry gets the lowest name that is free: 0, 1, ... for daemons, j0,
j1, ... for jobs. The user, who cannot list them, tries all. The directory stays until the node boots.
"""

from __future__ import annotations

import errno

from ..errors import SYSTEM, HookError
from ..fast_stdlib import TYPE_CHECKING, closing, exists, fsdecode, os, write_all
from ..linux.files import READ, SEARCH, names
from ..linux.process import is_decimal
from . import locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ENTRIES = f"{locks.PLACE}/entries"
ROOT_COPIES = "/var/lib/ocihooks-ssh/daemons"  # root's entries that survive a power failure
# Names of one user's entries: what they begin with, and how many there are.
DAEMONS = ("", 1000)
JOBS = ("j", 256)
_MAX_DIGITS = 10  # of a uid
_MAX_STRANGERS = 1000
_MAX_SIZE = 128 << 10  # bytes of a file: a job's list of hosts is the longest text
_END = b"\0"
_LAST_ACL = "system.posix_acl_default"  # of those that access.admit sets


def open_directory(uid: int) -> int:
    """Open root's directory for the user `uid`; make it if it is missing. Raises OSError."""
    path = f"{ENTRIES}/{uid}"
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        _make(path)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    if uid and _LAST_ACL not in os.listxattr(directory):
        from .access import admit  # here: only a user's first start since the node booted needs it

        admit(directory, uid)
    return directory


def _make(path: str) -> None:
    """Make a user's directory, and those above it. Raises OSError."""
    locks.make_place(locks.PLACE)
    locks.make_place(ENTRIES)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # another start was faster


def unlink(path: str) -> bool:
    """Remove a name; return False where that failed."""
    try:
        os.unlink(path)
    except OSError:
        return False  # there is none, or a sweep removes it
    return True


def users() -> list[int]:
    """Return the uids of the users who have such a directory. Must be called by root. Raises OSError."""
    return [int(name) for name in names(ENTRIES) if is_decimal(name, _MAX_DIGITS)]


def add(uid: int, data: bytes, names: tuple[str, int] = DAEMONS) -> str:
    """Write an entry for the user `uid`, with a name of `names`; return its path. Must be called by root.

    Raises OSError.
    """
    with closing(locks.lock(uid, is_prolog=names is JOBS)), closing(open_directory(uid)) as directory:
        name = _lowest_free(directory, names)
        _overwrite(directory, name, data)
        return f"{ENTRIES}/{uid}/{name}"


def write(uid: int, name: str, data: bytes) -> None:
    """Write the file `name` for the user `uid`. Must be called by root. Raises OSError."""
    # The uid may be any number in the config.json of a failed start. So messages make no directory beyond a limit.
    if not exists(f"{ENTRIES}/{uid}") and len(users()) >= _MAX_STRANGERS:
        raise OSError(errno.EDQUOT, f"there are already directories for {_MAX_STRANGERS} users")
    with closing(locks.lock(uid)), closing(open_directory(uid)) as directory:
        _overwrite(directory, name, data)


def _lowest_free(directory: int, names: tuple[str, int]) -> str:
    beginning, number = names
    for name in (f"{beginning}{index}" for index in range(number)):
        try:
            with closing(os.open(name, READ, dir_fd=directory)) as file:
                if os.pread(file, 1, 0) in (b"", _END):
                    return name
        except FileNotFoundError:
            return name
    raise OSError(errno.EDQUOT, f"the user has {number} entries of {'jobs' if names is JOBS else 'containers'}")


def _overwrite(directory: int, name: str, data: bytes) -> None:
    """Write `data` into a file in an open directory of a user. Raises OSError.

    If there is no room, the file stays as it was. If the caller is killed, it is not valid.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with closing(os.open(name, flags, 0o640, dir_fd=directory)) as file:  # with a default ACL no umask counts
        os.posix_fallocate(file, 0, len(data))
        size = os.fstat(file).st_size
        os.pwrite(file, _END, 0)
        os.lseek(file, 1, 0)
        write_all(file, data[1:].ljust(size - 1, _END))
        os.pwrite(file, data[:1], 0)


def read(file: int) -> str:
    """Return the text of an open file; empty if it is not valid. Raises OSError."""
    before, data = b"", os.pread(file, _MAX_SIZE, 0)
    while data != before:  # root has written to it meanwhile
        before, data = data, os.pread(file, _MAX_SIZE, 0)
    return fsdecode(data.partition(_END)[0])


def free(path: str, is_meant: Callable[[str], bool]) -> bool:
    """Free the name of the entry `path`, if `is_meant` is true for its text; return whether it was.

    Must be called by root. Raises OSError.
    """
    with closing(locks.lock(int(path.split("/")[-2]))):
        return free_own(path, is_meant)


def free_own(path: str, is_meant: Callable[[str], bool]) -> bool:
    """Do as `free`, but without the lock: nobody but the caller frees this entry, so that no other can get its name."""
    with closing(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        if not is_meant(read(file)):
            return False
        os.pwrite(file, _END, 0)
        return True


def entries(uid: int, is_rootless: bool, names: tuple[str, int] = DAEMONS) -> Iterator[tuple[str, str]]:
    """Yield path and text of each entry that root keeps for the user `uid`, who may be the caller, of DAEMONS or JOBS.

    `is_rootless`: whether the caller is in a user namespace, which shows root's files as nobody's. Raises HookError if
    other users can write to one of them, or one cannot be read.
    """
    from .access import open_roots  # here: a start that adds an entry reads none

    path = f"{ENTRIES}/{uid}"
    try:
        found = _names(path, *names)
        if not found:
            return  # most users have no job
        with closing(open_roots(ENTRIES, SEARCH, None, is_rootless)) as place:
            with closing(open_roots(str(uid), SEARCH, place, is_rootless)) as directory:
                for name in found:
                    try:
                        with closing(open_roots(name, READ, directory, is_rootless)) as file:
                            text = read(file)
                    except (FileNotFoundError, PermissionError):
                        continue  # no such entry
                    if text:
                        yield f"{path}/{name}", text
    except (FileNotFoundError, PermissionError):
        return  # root has never kept one
    except OSError as error:
        raise HookError(SYSTEM, f"cannot read {path}: {error.strerror}") from None


def _names(path: str, beginning: str, number: int) -> Iterable[str]:
    """Return the names of a user's entries; if the caller cannot list them, all possible names. Raises OSError."""
    try:
        found = os.listdir(path)
    except PermissionError:
        return (f"{beginning}{index}" for index in range(number))
    return [name for name in found if name.startswith(beginning) and is_decimal(name[len(beginning) :], _MAX_DIGITS)]
