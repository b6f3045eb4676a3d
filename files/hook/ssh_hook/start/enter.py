# SPDX-License-Identifier: GPL-3.0-or-later
"""Enter the container's mount and user namespaces, for provisioner and daemon."""

from __future__ import annotations

import sys

from ..errors import IMAGE_UNFIT, INSTALL_DAMAGED, ContainerEndedError, HookError
from ..fast_stdlib import TYPE_CHECKING, os, stat
from ..linux.identity import Identity
from ..linux.ids import become
from ..linux.mounts import mount_bind
from ..linux.root_mount import open_root_mount
from ..linux.rootfs import Rootfs

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..linux.namespaces import Namespaces
    from ..linux.process import Process
    from ..linux.root_mount import OuterMounts, RootMount
    from ..node.owner import Owner
    from ..oci.oci_config import Container
    from .channel import Sender
    from .plan import OpenRoot

_NULL = os.makedev(1, 3)


class EnteredContainer:
    """The container that the calling process has entered, with all capabilities over its user namespace.

    Attributes:
        rootfs: the container's root directory.
        null: a descriptor of the container's /dev/null.
    """

    def __init__(self, root: OpenRoot, to_hook: Sender) -> None:
        """Disable imports and join the namespaces. Raises HookError."""
        _disable_imports()
        self.rootfs = root.enter(to_hook)
        self.null = _open_null(self.rootfs)


class MountedRoot:
    """The root directory of a container under construction: the runtime has mounted it, but not pivoted to it."""

    def __init__(
        self,
        container: Container,
        owner: Owner,
        init: Process,
        process: int,
        namespaces: Namespaces,
        outside: Callable[[], OuterMounts | None],
        programs: str,
    ) -> None:
        """Store its location.

        `process` is the open directory in /proc of a process in the container's mount namespace: its first process
        `init`, or the hook. `outside` returns the mount namespace from which that was cloned, or None if the hook may
        not read it. `programs` is the path of Dropbear's programs on the node.
        """
        self._container = container
        self._owner = owner
        self._init = init
        self._process = process
        self._namespaces = namespaces
        self._outside = outside
        self._programs = programs

    def open(self) -> OpenRoot:
        """Implement Root. Must be called in the host's mount namespace, where /proc/PID/root is the container's."""
        try:
            mount = open_root_mount(self._container.rootfs, self._process, self._outside())
        except (HookError, OSError):
            if self._init.is_alive():
                raise
            raise ContainerEndedError() from None
        return _OpenMountedRoot(mount, self._owner, self._container, self._namespaces, self._programs)


class _OpenMountedRoot:
    """Implements OpenRoot: each process joins the namespaces itself."""

    def __init__(
        self, mount: RootMount, owner: Owner, container: Container, namespaces: Namespaces, programs: str
    ) -> None:
        self.mount = mount
        self.owner = owner
        self._container = container
        self._namespaces = namespaces
        self._programs = programs

    def enter(self, _to_hook: Sender) -> Rootfs:
        self._namespaces.join("mnt", "user")
        if self._namespaces.has("user"):
            become(0, 0)
        os.chdir("/")
        rootfs = Rootfs(self.mount.descriptor, Identity(self._container.uid, self._container.gid))
        rootfs.mountinfo = self.mount.mountinfo
        return rootfs

    def open_programs(self) -> Callable[[int], None]:
        path = self._programs
        try:
            directory = os.open(path, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            raise HookError(
                INSTALL_DAMAGED, f"cannot open {path} (DROPBEAR_DIR in the OCI hook's JSON file): {error.strerror}"
            ) from None
        return lambda target: mount_bind(directory, target)


def _disable_imports() -> None:
    """Make all further imports fail, so that no module can come from the image."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()


def _open_null(rootfs: Rootfs) -> int:
    """Open the container's /dev/null: root in the container could change mode and owner of the host's."""
    try:
        handle = rootfs.open("/dev/null", os.O_PATH)
        status = os.fstat(handle)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _NULL:
            raise HookError(IMAGE_UNFIT, "/dev/null in the container is not the null device")
        return os.open(f"/proc/self/fd/{handle}", os.O_RDWR)
    except OSError as error:
        raise HookError(
            IMAGE_UNFIT, f"cannot open /dev/null in the container, which sessions need: {error.strerror}"
        ) from None
