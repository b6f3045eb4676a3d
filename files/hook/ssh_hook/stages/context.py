# SPDX-License-Identifier: GPL-3.0-or-later
"""The inputs of one createRuntime call: the container, the site, the first process and its namespaces."""

from __future__ import annotations

from ..confine.lsm import Labels
from ..errors import CONTAINER_ENDED, HookError
from ..host.engine import Engine, outside_user
from ..kernel.cgroups import Cgroups
from ..kernel.files import is_same
from ..kernel.lean import TYPE_CHECKING, os
from ..kernel.namespaces import Namespaces
from ..kernel.process import Process
from ..spec.annotations import PORT
from .server import Programs, Server, require_undumpable

if TYPE_CHECKING:
    from ..kernel.rootfs import Rootfs
    from ..spec.oci_config import Container
    from ..spec.settings import Settings
    from ..spec.state import State
    from .introduction import Introduction
    from .watcher import Watcher


class StartContext:
    """The inputs of one createRuntime call.

    Attributes:
        container: the container as config.json describes it.
        settings: the site's settings.
        watcher: what opens the gate and ends the daemon where no runtime does (enroot); None under a runtime.
        gate: the daemon's gate; None where that is the first process's execution of its program.
        packages: directories that hold pyroute2.
        engine: the engine that runs the container.
        bundle: the open directory of the bundle.
        path: the path of the bundle.
        labels: the container's LSM labels.
        process: the open directory in /proc of the container's first process; of the hook where it does not join.
        cgroups: the cgroups of that process.
        init: the container's first process.
        namespaces: the namespaces to join; None where the hook is in the container already.
        user: the container's user, by ids of the hook's user namespace.
        programs: Dropbear's programs on the node.
        server: the server to start.
        introduction: by which the daemon's process shows what it may do to a supervisor without root; None at a start.
        opened: the container's root directory where the caller has entered it already; None at a start.
        programs_mount: a mount of the directory of Dropbear's programs that is in no namespace yet; None at a start.
        last_namespaces: the names of the namespaces that the daemon's process joins last.
    """

    def __init__(
        self,
        container: Container,
        settings: Settings,
        packages: list[str],
        state: State,
        bundle: int,
        watcher: Watcher | None = None,
    ) -> None:
        """Read all inputs; `bundle` is an open directory. Raises HookError where the container cannot be served."""
        _require_own_mount_namespace(settings)
        require_undumpable()
        self.container = container
        self.settings = settings
        self.watcher = watcher
        self.gate = None if watcher is None else watcher.gate
        self.packages = packages
        self.introduction: Introduction | None = None
        self.opened: Rootfs | None = None
        self.programs_mount: int | None = None
        self.last_namespaces: tuple[str, ...] = ("time",)
        self.engine = Engine()
        self.bundle = bundle
        self.path = state.bundle
        self.labels = Labels(container)
        self.process = _open_proc_directory(state.pid, settings)
        self.cgroups = Cgroups(self.process, self.engine.is_rootless)
        self.namespaces = Namespaces(self.process) if settings.join else None
        if self.namespaces is not None and not self.namespaces.has("mnt"):
            raise HookError(
                "the container has no mount namespace of its own: what the hook mounts would stay on the host"
            )
        self.init = _first_process(state.pid, settings) if watcher is None else watcher.init
        if container.has_shared_user_namespace and not self.engine.is_rootless:
            raise HookError(
                "the container shares the user namespace of another one (linux.namespaces in config.json): a process "
                "with CAP_SYS_ADMIN there could have the kernel run a program of its own in place of the SSH daemon"
            )
        self.user = outside_user(container, self.process, self.has_user_namespace())
        self.programs = Programs(f"{settings.dropbear_dir}/bin")
        has_own_network = not self._shares_host_network()
        self.server = Server(
            container.annotations,
            settings,
            f"the annotation {PORT} or --port of 'ssh_hook options'",
            has_own_network,
            # podman makes it before it calls the runtime, unless the container has a user namespace of its own. Of
            # other engines it is not known when they publish a port.
            settings.join and has_own_network and not self.has_user_namespace() and container.is_podmans,
        )

    def has_user_namespace(self) -> bool:
        """Tell whether the container has a user namespace other than the hook's."""
        return self.namespaces is not None and self.namespaces.has("user")

    def _shares_host_network(self) -> bool:
        """Tell whether the container has no network namespace of its own."""
        if self.namespaces is not None:
            return not self.namespaces.has("net")
        try:
            return is_same(os.stat("/proc/self/ns/net"), os.stat("/proc/1/ns/net"))
        except (PermissionError, FileNotFoundError):  # the latter with hidepid
            return True  # a rootless engine; a missing address is then an error


def _require_own_mount_namespace(settings: Settings) -> None:
    """Raise HookError where the hook neither joins the container's mount namespace nor is in one of its own."""
    if settings.join:
        return
    try:
        ours, init = os.stat("/proc/self/ns/mnt"), os.stat("/proc/1/ns/mnt")
    except (PermissionError, FileNotFoundError):  # the latter with hidepid
        return  # only the host's root can be in the host's mount namespace
    if is_same(ours, init):
        raise HookError(
            "JOIN_NAMESPACES is false, but the hook runs in the host's mount namespace: run it at createContainer, or "
            "set JOIN_NAMESPACES=true in the OCI hook's JSON file"
        )


def _first_process(pid: int, settings: Settings) -> Process:
    """Return the container's first process, before its first execve(2). Raises HookError.

    At createContainer that process runs the hook, perhaps by way of another program. The state may have its pid in the
    container's pid namespace, or none. So it is the hook's outermost ancestor in the container's mount namespace.
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


def _open_proc_directory(pid: int, settings: Settings) -> int:
    """Open the directory in /proc of the first process, or of the hook if it does not join. Raises HookError."""
    if settings.join and pid == 0:
        raise HookError("the container's state names no process: the hook joins at the stage createRuntime")
    name = str(pid) if settings.join else "self"
    try:
        return os.open(f"/proc/{name}", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise HookError(f"cannot open the container's process in /proc/{name}: {error.strerror}") from None
