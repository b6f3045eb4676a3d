# SPDX-License-Identifier: GPL-3.0-or-later
"""Enter the container's mount and user namespaces, as provisioner and daemon do."""

from __future__ import annotations

import sys

from ..errors import HookError
from ..kernel.files import is_same
from ..kernel.identity import Identity
from ..kernel.ids import become
from ..kernel.lean import TYPE_CHECKING, os, stat
from ..kernel.rootfs import Rootfs

if TYPE_CHECKING:
    from .context import StartContext

_NULL = os.makedev(1, 3)


class EnteredContainer:
    """The container as the calling process has entered it, with all capabilities over its user namespace.

    Attributes:
        rootfs: the container's root directory.
        null: a descriptor of the container's /dev/null.
    """

    def __init__(self, context: StartContext) -> None:
        """Disable imports, join the namespaces, and open the container's root directory. Raises HookError."""
        _disable_imports()
        self.rootfs = _enter(context) if context.opened is None else context.opened
        self.null = _open_null(self.rootfs)


def _enter(context: StartContext) -> Rootfs:
    container, namespaces = context.container, context.namespaces
    if namespaces is not None:
        namespaces.join("mnt", "user")
        if namespaces.has("user"):
            become(0, 0)
    return Rootfs(_open_root(container.rootfs, context.rootfs), Identity(container.uid, container.gid))


def _disable_imports() -> None:
    """Make every further import fail, so that no module can come from the image."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()


def _open_root(path: str, expected: os.stat_result | None) -> int:
    """Open the container's root directory at `path`, or at / where the runtime has already pivoted to `expected`.

    `expected` is the directory's status, None where it is not known. Raises HookError.
    """
    os.chdir("/")
    if expected is not None and is_same(expected, os.stat("/")):
        path = "/"
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise HookError(f"cannot open the container's root directory {path}: {error.strerror}") from None
    if path != "/" and is_same(os.fstat(descriptor), os.stat("/")):
        raise HookError(f"the container's root directory {path} is the host's own")
    return descriptor


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
