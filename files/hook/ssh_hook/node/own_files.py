# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's files for users to read, such as those below /run/ocihooks-ssh: only their owner can list or write them.

A user who could list such a directory could hold its inode lock, and so block the processes that write there.
"""

from __future__ import annotations

from ..linux.fast_stdlib import closing, os, stat
from ..linux.files import is_own

_MODE = 0o711
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20  # tags of acl(5), in the order that they must have
_READ, _READ_WRITE = 4, 6


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
    """Let only the user `uid` read the open `file`. Raises OSError. Format: xattr of acl(5), version 2."""
    none = 2**32 - 1
    entries = [
        (_OWNER, _READ_WRITE, none),
        (_USER, _READ, uid),
        (_GROUP, 0, none),
        (_MASK, _READ, none),
        (_OTHER, 0, none),
    ]
    packed = [
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + owner.to_bytes(4, "little")
        for tag, rights, owner in entries
    ]
    os.setxattr(file, _ACL, _ACL_VERSION.to_bytes(4, "little") + b"".join(packed))
