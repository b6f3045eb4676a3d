# SPDX-License-Identifier: GPL-3.0-or-later
"""Enter the container's mount and user namespaces, as provisioner and daemon do."""

from __future__ import annotations

import sys

from ..errors import CONTAINER_ENDED, HookError
from ..kernel.identity import Identity
from ..kernel.ids import become
from ..kernel.lean import TYPE_CHECKING, os, stat
from ..kernel.process import Process
from ..kernel.root_mount import Outside, open_root_mount
from ..kernel.rootfs import Rootfs

if TYPE_CHECKING:
    from ..kernel.root_mount import RootMount
    from .context import StartContext

_NULL = os.makedev(1, 3)


class EnteredContainer:
    """The container as the calling process has entered it, with all capabilities over its user namespace.

    Attributes:
        rootfs: the container's root directory.
        null: a descriptor of the container's /dev/null.
    """

    def __init__(self, context: StartContext, root: RootMount | None) -> None:
        """Disable imports, and join the namespaces; `root` is what `open_root` returned. Raises HookError."""
        _disable_imports()
        if root is not None:
            self.rootfs = _enter(context, root)
        else:
            assert context.opened is not None
            self.rootfs = context.opened
        self.null = _open_null(self.rootfs)


def open_root(context: StartContext) -> RootMount | None:
    """Open the container's root directory, for all processes that enter it; None where it is open. Raises HookError.

    Before a process joins the container's mount namespace: `/proc/PID/root` leads there.
    """
    if context.opened is not None:
        return None
    try:
        return open_root_mount(context.container.rootfs, context.process, _outside(context))
    except (HookError, OSError):
        if context.init.is_alive():
            raise
        raise HookError(CONTAINER_ENDED) from None


def _outside(context: StartContext) -> Outside | None:
    """Return the mount namespace from which the container's was cloned; None where the hook may not look into it."""
    if context.namespaces is not None:
        return Outside()
    if context.watcher is not None:
        return None  # enroot's, which belongs to the node's user namespace
    try:
        return Outside(Process(context.init.parent()))
    except OSError:
        return None


def _enter(context: StartContext, root: RootMount) -> Rootfs:
    container, namespaces = context.container, context.namespaces
    if namespaces is not None:
        namespaces.join("mnt", "user")
        if namespaces.has("user"):
            become(0, 0)
    os.chdir("/")
    rootfs = Rootfs(root.descriptor, Identity(container.uid, container.gid))
    rootfs.mountinfo = root.mountinfo
    return rootfs


def _disable_imports() -> None:
    """Make every further import fail, so that no module can come from the image."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()


def _open_null(rootfs: Rootfs) -> int:
    """Open the container's own /dev/null: root in the container could change mode and owner of the host's."""
    try:
        handle = rootfs.open("/dev/null", os.O_PATH)
        status = os.fstat(handle)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _NULL:
            raise HookError("/dev/null in the container is not the null device")
        return os.open(f"/proc/self/fd/{handle}", os.O_RDWR)
    except OSError as error:
        raise HookError(f"cannot open /dev/null in the container, which a session takes: {error.strerror}") from None
