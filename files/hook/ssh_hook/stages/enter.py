# SPDX-License-Identifier: GPL-3.0-or-later
"""Enter the container that is being made, as the provisioner and the daemon's process do."""

from __future__ import annotations

import sys

from ..errors import HookError
from ..kernel.files import is_same
from ..kernel.identity import Identity, set_groups
from ..kernel.lean import TYPE_CHECKING, os, stat
from ..kernel.rootfs import Rootfs

if TYPE_CHECKING:
    from .context import StartContext

_NULL = os.makedev(1, 3)


class EnteredContainer:
    """The caller in the container's mount and user namespaces, with all rights over the latter; nothing is imported any more.

    Attributes: rootfs, the container's root directory; null, a descriptor of its /dev/null.
    """

    def __init__(self, context: StartContext) -> None:
        """Join, where there is something to join, and open the container's root directory. Raises HookError."""
        container, namespaces = context.container, context.namespaces
        _close_imports()
        if namespaces is not None:
            namespaces.join("mnt", "user")
            if namespaces.has("user"):
                _become_root()
        self.rootfs = Rootfs(_open_root(container.rootfs, context.rootfs), Identity(container.uid, container.gid))
        self.null = _open_null(self.rootfs)


def _close_imports() -> None:
    """From here on no module can come from the container."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()


def _become_root() -> None:
    set_groups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _open_root(path: str, known: os.stat_result | None) -> int:
    """Open the container's root directory, which is `known` to the hook. A runtime may have pivoted to it already."""
    os.chdir("/")
    if known is not None and is_same(known, os.stat("/")):
        path = "/"
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise HookError(f"cannot open the container's root directory {path}: {error.strerror}") from None
    if path != "/" and is_same(os.fstat(descriptor), os.stat("/")):
        raise HookError(f"the container's root directory {path} is the host's own")
    return descriptor


def _open_null(rootfs: Rootfs) -> int:
    """The container's own /dev/null: the host's would be the container's root's to change."""
    try:
        handle = rootfs.open("/dev/null", os.O_PATH)
        status = os.fstat(handle)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _NULL:
            raise HookError("/dev/null in the container is not the null device")
        return os.open(f"/proc/self/fd/{handle}", os.O_RDWR)
    except OSError as error:
        raise HookError(f"cannot open /dev/null in the container, which a session takes: {error.strerror}") from None
