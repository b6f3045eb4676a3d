# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may use root's files and directories: an ACL for one user, and a check that only root can write."""

from __future__ import annotations

from ..errors import NOT_TRUSTED, HookError
from ..fast_stdlib import os, read_file, stat

_ACLS = ("system.posix_acl_access", "system.posix_acl_default")  # whoever sees the second one has both
_ACL_VERSION = 2
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20  # tags of acl(5), in the order that they must have
_SEARCH, _READ_WRITE, _ALL = 1, 6, 7
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def admit(directory: int, uid: int) -> None:
    """Let only the owner and the user `uid` look up names in an open directory, and use what is made there.

    Modes of files and sockets in it still apply: their group bits are those of the user. Raises OSError. Format: xattr
    of acl(5), version 2.
    """
    no = 2**32 - 1
    for name, rights in zip(_ACLS, (_SEARCH, _READ_WRITE)):
        entries = [(_OWNER, _ALL, no), (_USER, rights, uid), (_GROUP, 0, no), (_MASK, rights, no), (_OTHER, 0, no)]
        packed = [
            tag.to_bytes(2, "little") + allowed.to_bytes(2, "little") + owner.to_bytes(4, "little")
            for tag, allowed, owner in entries
        ]
        os.setxattr(directory, name, _ACL_VERSION.to_bytes(4, "little") + b"".join(packed))


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
