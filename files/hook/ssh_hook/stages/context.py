# SPDX-License-Identifier: GPL-3.0-or-later
"""The inputs of one createRuntime call: the container, the site, the first process and its namespaces."""

from __future__ import annotations

import errno

from ..confine.lsm import Labels
from ..errors import CONTAINER_ENDED, HookError
from ..host.engine import Engine, outside_user
from ..kernel.cgroups import Cgroups
from ..kernel.files import is_same
from ..kernel.lean import TYPE_CHECKING, os, read_file, stat
from ..kernel.namespaces import Namespaces
from ..kernel.process import Process

DROPBEAR = "dropbear"  # in the directory of its programs

if TYPE_CHECKING:
    from ..spec.config import Container
    from ..spec.settings import Settings
    from ..spec.state import State


class Programs:
    """The directory of Dropbear's programs on the node.

    Attributes:
        directory: its status.
        name: of the file in it that is Dropbear; file: the status of that.
    """

    def __init__(self, path: str) -> None:
        """Raises HookError for a file that its users may read, since they could trace it then before the container runs."""
        try:
            self.directory = os.stat(path)
            self.name = _link(f"{path}/{DROPBEAR}") or DROPBEAR
            if "/" in self.name:
                raise HookError(f"{path}/{DROPBEAR} is a link out of its directory: install it by the role dropbear")
            self.file = os.stat(f"{path}/{self.name}", follow_symlinks=False)
        except OSError as error:
            raise HookError(
                f"cannot find {path}/{DROPBEAR} (DROPBEAR_DIR in the OCI hook's JSON file): {error.strerror}"
            ) from None
        if not stat.S_ISREG(self.file.st_mode):
            raise HookError(f"{path}/{self.name} is not a regular file: install it by the role dropbear")
        if self.file.st_mode & 0o444:
            raise HookError(
                f"{path}/{self.name} can be read, so that its users could trace it before their container runs: run chmod 0111 on "
                "it, or the role dropbear again"
            )


def _link(path: str) -> str:
    """Where a link leads; empty where `path` is none."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return ""


class StartContext:
    """The inputs of one createRuntime call.

    Attributes:
        container, settings: as config.json and the site have them.
        packages: directories that hold pyroute2.
        engine: who runs the container.
        bundle: an open directory; path: its path.
        labels: the container's LSM labels.
        process: an open directory in /proc, of the container's first process, or of the hook where that is in the container.
        cgroups: that process's.
        init: the container's first process.
        namespaces: what the hook has to join; None where it is in the container already.
        rootfs: the status of the container's root directory; None where the hook does not see it.
        user: the container's user, in the hook's user namespace.
        programs: Dropbear's.
        port: to listen on; listen: the addresses, none for all.
    """

    def __init__(
        self, container: Container, settings: Settings, packages: list[str], state: State, bundle: int
    ) -> None:
        """Raises HookError where the hook cannot work there."""
        _require_own_mount_namespace(settings)
        _require_undumpable()
        self.container = container
        self.settings = settings
        self.packages = packages
        self.engine = Engine()
        self.bundle = bundle
        self.path = state.bundle
        self.labels = Labels(container)
        self.process = _open_process(state.pid, settings)
        self.cgroups = Cgroups(self.process, self.engine.is_rootless)
        self.namespaces = Namespaces(self.process) if settings.join else None
        if self.namespaces is not None and not self.namespaces.has("mnt"):
            raise HookError(
                "the container has no mount namespace of its own: what the hook mounts would stay on the host"
            )
        self.init = _first_process(state.pid, settings)
        self.rootfs = _rootfs_status(container.rootfs)
        if container.has_shared_user_namespace and not self.engine.is_rootless:
            raise HookError(
                "the container shares the user namespace of another one (linux.namespaces in config.json): a process with "
                "CAP_SYS_ADMIN there could have the kernel run a program of its own in place of the SSH daemon"
            )
        self.user = outside_user(container, self.process, self.has_user_namespace())
        self.programs = Programs(f"{settings.dropbear_dir}/bin")
        self.port = container.annotations.port or settings.port
        self.listen = settings.listen if settings.listen and self._is_on_nodes_network() else []

    def has_user_namespace(self) -> bool:
        """Whether the container has one that is not the hook's own."""
        return self.namespaces is not None and self.namespaces.has("user")

    def _is_on_nodes_network(self) -> bool:
        """Whether the container has no network of its own."""
        if self.namespaces is not None:
            return not self.namespaces.has("net")
        try:
            return is_same(os.stat("/proc/self/ns/net"), os.stat("/proc/1/ns/net"))
        except PermissionError:
            return True  # a rootless engine: then the addresses have to be there


def _require_own_mount_namespace(settings: Settings) -> None:
    """Without joining, the hook has to be in the container's mount namespace already, and not in the host's."""
    if settings.join:
        return
    try:
        ours, init = os.stat("/proc/self/ns/mnt"), os.stat("/proc/1/ns/mnt")
    except PermissionError:
        return  # not the host's root, so not in the host's mount namespace
    if is_same(ours, init):
        raise HookError(
            "JOIN_NAMESPACES is false, but the hook runs in the host's mount namespace: run it at createContainer, or "
            "set JOIN_NAMESPACES=true in the OCI hook's JSON file"
        )


def _require_undumpable() -> None:
    """Raise HookError where the kernel lets a program be traced that its user may not read: Dropbear waits for the container."""
    if read_file("/proc/sys/fs/suid_dumpable").strip() == b"1":
        raise HookError(
            "the node's fs.suid_dumpable is 1, so that users could trace Dropbear before their container has started: "
            "set it to 0 or 2 by sysctl"
        )


def _first_process(pid: int, settings: Settings) -> Process:
    """The container's first process, which has yet to run its program. Raises HookError.

    At createContainer it calls the hook itself, perhaps by way of another program, and the state may number it as the
    container does, or not at all: it is the hook's outermost ancestor in the container's mount namespace.
    """
    try:
        if settings.join:
            process = Process(pid)
            if process.is_before_exec():
                return process
            raise HookError(
                f"the container's first process (pid {pid}) runs a program already: the hook belongs to the stage "
                "createRuntime, or with JOIN_NAMESPACES=false to createContainer"
            )
        process = Process(int(os.readlink("/proc/self")))
        namespace = process.mount_namespace()
        while (parent := process.parent()) > 0 and (ancestor := Process(parent)).mount_namespace() == namespace:
            process = ancestor
        if process.is_before_exec():
            return process
    except (FileNotFoundError, ProcessLookupError):
        raise HookError(CONTAINER_ENDED) from None
    raise HookError(
        "JOIN_NAMESPACES is false, but no container's first process called the hook: run it at createContainer"
    )


def _rootfs_status(path: str) -> os.stat_result | None:
    """The status of the container's root directory as the hook sees it; None where it does not."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if is_same(status, os.stat("/")):
        raise HookError(f"the container's root directory {path} is the host's own")
    return status


def _open_process(pid: int, settings: Settings) -> int:
    """The directory in /proc of the container's first process, or of the hook if that is in the container already."""
    if settings.join and pid == 0:
        raise HookError("the container's state names no process: the hook joins at the stage createRuntime")
    name = str(pid) if settings.join else "self"
    try:
        return os.open(f"/proc/{name}", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise HookError(f"cannot open the container's process in /proc/{name}: {error.strerror}") from None
