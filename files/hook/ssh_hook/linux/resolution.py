# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve a path like the kernel, and visit each file on the way. The hook and the Ansible modules share this file.

Paths are resolved from ``/`` with descriptors (O_PATH, O_NOFOLLOW), and each directory and link is visited before a
name is looked up in it. So if only root can change the visited files, only root can have replaced a component.
"""

from __future__ import annotations

import errno

from ..fast_stdlib import MAX_LINKS, TYPE_CHECKING, os, stat

if TYPE_CHECKING:
    from collections.abc import Callable

_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class File:
    """An open file.

    Attributes:
        fd: a descriptor, open as O_PATH.
        path: its path without links.
        status: its status when it was opened.
    """

    __slots__ = ("fd", "path", "status")

    def __init__(self, fd: int, path: bytes, status: os.stat_result) -> None:
        self.fd = fd
        self.path = path
        self.status = status

    @property
    def identity(self) -> tuple[int, int]:
        """Return the device and inode numbers."""
        return self.status.st_dev, self.status.st_ino

    @property
    def is_directory(self) -> bool:
        """Return whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        """Return whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


class UnreachableError(Exception):
    """A path cannot be resolved.

    Attributes:
        error: why.
        path: the resolved part, and the first component that could not be resolved.
        link: the link that contains the path; None for the requested path.
    """

    def __init__(self, error: OSError, path: bytes, link: File | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.path = path
        self.link = link


def resolve(path: bytes, *, follow: bool, visit: Callable[[File], None]) -> File:
    """Resolve a path from ``/``; if its last component is a link, follow it only with `follow`.

    `visit` is called with each open file in order, including the last, before a name is looked up in it. The caller
    must close the returned file. Raises UnreachableError.
    """
    pending = _components(path, None)
    here = _root()
    links = 0
    try:
        visit(here)
        while pending:
            name, origin = pending.pop()
            below = join(here.path, name)
            try:
                there = open_above(here) if name == b".." else open_entry(name, here)
            except OSError as error:
                raise UnreachableError(error, below, origin) from error
            if not there.is_link or not (pending or follow):
                here.close()
                here = there
                visit(here)
                continue
            try:
                visit(there)
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink(b"", dir_fd=there.fd)
            except OSError as error:
                raise UnreachableError(error, below, there) from error
            finally:
                there.close()
            pending += _components(target, there)
            if target.startswith(b"/"):
                root = _root()
                here.close()
                here = root
    except BaseException:
        here.close()
        raise
    return here


def open_entry(name: bytes, parent: File) -> File:
    """Open an entry of a directory without following a link. Raises OSError."""
    try:
        # First with O_DIRECTORY, which triggers an automount.
        fd = os.open(name, _HANDLE | os.O_DIRECTORY, dir_fd=parent.fd)
    except NotADirectoryError:
        fd = os.open(name, _HANDLE, dir_fd=parent.fd)
    return _as_file(fd, join(parent.path, name))


def open_above(directory: File) -> File:
    """Open the parent directory. Raises OSError."""
    fd = os.open(b"..", _HANDLE | os.O_DIRECTORY, dir_fd=directory.fd)
    return _as_file(fd, directory.path.rpartition(b"/")[0] or b"/")


def join(directory: bytes, name: bytes) -> bytes:
    """Return the path of an entry of a directory."""
    return directory.rstrip(b"/") + b"/" + name


def _root() -> File:
    return _as_file(os.open(b"/", _HANDLE | os.O_DIRECTORY), b"/")


def _as_file(fd: int, path: bytes) -> File:
    try:
        return File(fd, path, os.fstat(fd))
    except OSError:
        os.close(fd)
        raise


def _components(path: bytes, origin: File | None) -> list[tuple[bytes, File | None]]:
    """Return the components of a path in reverse order, each with the link that contains the path."""
    return [(name, origin) for name in reversed(path.split(b"/")) if name not in (b"", b".")]
