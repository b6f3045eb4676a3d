# SPDX-License-Identifier: GPL-3.0-or-later
"""Entering the container that is being made: what the hook's child does, and the daemon's process beside it."""

from __future__ import annotations

import _stat as stat
import posix
import sys

from .errors import HookError
from .identity import Identity, set_groups
from .paths import is_same
from .rootfs import Rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .target import Target

_NULL = posix.makedev(1, 3)


class Entry:
    """The caller in the container's mount and user namespaces, with all rights over the latter; nothing is imported any more.

    Attributes: rootfs, the container's root directory; null, a descriptor of its /dev/null.
    """

    def __init__(self, target: Target) -> None:
        """Join, where there is something to join, and open the container's root directory. Raises HookError."""
        container, namespaces = target.container, target.namespaces
        _close_imports()
        if namespaces is not None:
            namespaces.join("mnt", "user")
            if namespaces.has("user"):
                _become_root()
        self.rootfs = Rootfs(_open_root(container.rootfs, target.rootfs), Identity(container.uid, container.gid))
        self.null = _open_null(self.rootfs)


def _close_imports() -> None:
    """From here on no module can come from the container."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()


def _become_root() -> None:
    set_groups([])
    posix.setresgid(0, 0, 0)
    posix.setresuid(0, 0, 0)


def _open_root(path: str, known: posix.stat_result | None) -> int:
    """Open the container's root directory, which is `known` to the hook. A runtime may have pivoted to it already."""
    posix.chdir("/")
    if known is not None and is_same(known, posix.stat("/")):
        path = "/"
    try:
        descriptor = posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise HookError(f"cannot open the container's root directory {path}: {error.strerror}") from None
    if path != "/" and is_same(posix.fstat(descriptor), posix.stat("/")):
        raise HookError(f"the container's root directory {path} is the host's own")
    return descriptor


def _open_null(rootfs: Rootfs) -> int:
    """The container's own /dev/null: the host's would be the container's root's to change."""
    try:
        handle = rootfs.open("/dev/null", posix.O_PATH)
        status = posix.fstat(handle)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _NULL:
            raise HookError("/dev/null in the container is not the null device")
        return posix.open(f"/proc/self/fd/{handle}", posix.O_RDWR | posix.O_CLOEXEC)
    except OSError as error:
        raise HookError(f"cannot open /dev/null in the container, which a session takes: {error.strerror}") from None
