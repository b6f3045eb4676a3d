# SPDX-License-Identifier: GPL-3.0-or-later
"""The container's first process, and the namespaces that the hook works in."""

from __future__ import annotations

import posix

from .cgroups import Cgroups
from .engine import Engine, outside_user
from .errors import HookError
from .labels import Labels
from .namespaces import Namespaces
from .paths import is_same
from .process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .container import Container, State
    from .settings import Settings


class Target:
    """What daemon is to run, and where.

    Attributes: container; settings; packages, directories that hold pyroute2; engine; bundle, an open directory; path, the bundle's;
    labels, the container's; process, a descriptor of the directory in /proc of the container's first process, or of the hook
    where that is in the container already; cgroups, that process's; init, that first process, and namespaces, what the hook
    has to join: None in the latter case; user, the container's in the hook's user namespace; port; listen, the addresses to
    listen on, empty for all.
    """

    def __init__(
        self, container: Container, settings: Settings, packages: list[str], state: State, bundle: int
    ) -> None:
        """Raises HookError where the hook cannot work there."""
        _require_own_mount_namespace(settings)
        self.container = container
        self.settings = settings
        self.packages = packages
        self.engine = Engine()
        self.bundle = bundle
        self.path = state.bundle
        self.labels = Labels(container)
        self.process = _open_process(state.pid, settings)
        self.cgroups = Cgroups(self.process, self.engine.is_rootless)
        # at createContainer runc numbers it as the container does
        self.init = Process(state.pid) if settings.join else None
        self.namespaces = Namespaces(self.process) if settings.join else None
        if self.namespaces is not None and not self.namespaces.has("mnt"):
            raise HookError(
                "the container has no mount namespace of its own: what the hook mounts would stay on the host"
            )
        self.user = outside_user(container, self.process, self.has_user_namespace())
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
            return is_same(posix.stat("/proc/self/ns/net"), posix.stat("/proc/1/ns/net"))
        except PermissionError:
            return True  # a rootless engine: then the addresses have to be there


def _require_own_mount_namespace(settings: Settings) -> None:
    """Without joining, the hook has to be in the container's mount namespace already, and not in the host's."""
    if settings.join:
        return
    try:
        ours, init = posix.stat("/proc/self/ns/mnt"), posix.stat("/proc/1/ns/mnt")
    except PermissionError:
        return  # not the host's root, so not in the host's mount namespace
    if is_same(ours, init):
        raise HookError(
            "JOIN_NAMESPACES is false, but the hook runs in the host's mount namespace: run it at createContainer, or "
            "set JOIN_NAMESPACES=true in the OCI hook's JSON file"
        )


def _open_process(pid: int, settings: Settings) -> int:
    """The directory in /proc of the container's first process, or of the hook if that is in the container already."""
    if settings.join and pid == 0:
        raise HookError("the container's state names no process: the hook joins at the stage createRuntime")
    name = str(pid) if settings.join else "self"
    try:
        return posix.open(f"/proc/{name}", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise HookError(f"cannot open the container's process in /proc/{name}: {error.strerror}") from None
