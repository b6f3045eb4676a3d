# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's files for users to read, such as those below /run/ocihooks-ssh: only their owner can list or write them.

A user who could list such a directory could hold its inode lock, and so block the processes that write there.
"""

from __future__ import annotations

from ..errors import NOT_TRUSTED, HookError
from ..linux.fast_stdlib import closing, os, read_file, stat
from ..linux.files import is_own

_MODE = 0o711
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20  # tags of acl(5), in the order that they must have
_SEARCH, _READ, _READ_WRITE, _ALL = 1, 4, 6, 7
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def open_directory(place: str, name: str) -> int:
    """Open the directory `name` in the directory `place`; create both if missing. Raises OSError."""
    with closing(_make_and_open(place, None)) as outer:
        return _make_and_open(name, outer)


def _make_and_open(path: str, parent: int | None) -> int:
    """Create if missing, and open, a directory that only the caller can write to. Raises OSError."""
    try:
        os.mkdir(path, _MODE, dir_fd=parent)
    except FileExistsError:
        pass
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        if not is_own(os.fstat(directory), stat.S_IFDIR):
            raise PermissionError
        os.fchmod(directory, _MODE)  # a umask such as 077 has removed permissions; earlier versions used 0700
        return directory
    except OSError:
        os.close(directory)
        raise


def let_read(file: int, uid: int) -> None:
    """Let only the user `uid` read the open `file`. Raises OSError."""
    _set_acl(file, _READ_WRITE, uid, _READ)


def let_search(directory: int, uid: int) -> None:
    """Let only the user `uid` search the open `directory`. Raises OSError."""
    _set_acl(directory, _ALL, uid, _SEARCH)


def _set_acl(file: int, own: int, uid: int, rights: int) -> None:
    """Let only the owner and the user `uid` use an open file. Raises OSError. Format: xattr of acl(5), version 2."""
    none = 2**32 - 1
    entries = [(_OWNER, own, none), (_USER, rights, uid), (_GROUP, 0, none), (_MASK, rights, none), (_OTHER, 0, none)]
    packed = [
        tag.to_bytes(2, "little") + allowed.to_bytes(2, "little") + owner.to_bytes(4, "little")
        for tag, allowed, owner in entries
    ]
    os.setxattr(file, _ACL, _ACL_VERSION.to_bytes(4, "little") + b"".join(packed))


def open_roots(path: str, flags: int, parent: int | None, is_rootless: bool) -> int:
    """Open a file or directory that only root can write to. Raises HookError for others, and OSError.

    `is_rootless`: whether the caller is in a user namespace, which shows root's files as owned by nobody. A user who
    replaces /run in her own namespace misleads only herself.
    """
    descriptor = os.open(path, flags, dir_fd=parent)
    status = os.fstat(descriptor)
    kind = stat.S_IFDIR if flags & os.O_DIRECTORY else stat.S_IFREG
    is_roots = status.st_uid in _roots(is_rootless)
    if stat.S_IFMT(status.st_mode) == kind and is_roots and not status.st_mode & _OTHERS_WRITE:
        return descriptor
    os.close(descriptor)
    raise HookError(NOT_TRUSTED, f"{path} is writable by users other than root, or is of the wrong type")


def _roots(is_rootless: bool) -> set[int]:
    """Return the uids that root's files may appear to have."""
    return {0, int(read_file("/proc/sys/kernel/overflowuid"))} if is_rootless else {0}
