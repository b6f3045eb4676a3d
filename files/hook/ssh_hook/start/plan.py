# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of one start: all inputs of its processes, decided before the first of them is forked.

A plan is made only from a runtime's state and config.json (from_runtime.py), enroot's variables (from_enroot.py), or a
running process (from_process.py). These three decide what differs, and take the rest from a Basis (basis.py). Code that
uses a plan need not know which made it: the plan has an object for each difference between starts.
"""

from __future__ import annotations

from ..confine.apply import Confinement
from ..confine.unauthenticated import unauthenticated_processes
from ..fast_stdlib import TYPE_CHECKING
from ..node.engine import state_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, Protocol

    from ..linux.process import Process
    from ..linux.root_mount import RootMount
    from ..linux.rootfs import Rootfs
    from ..node.door import Door
    from ..node.login_log import LoginLog
    from ..node.owner import Owner
    from .basis import Basis
    from .channel import Forked, Sender

    class Root(Protocol):
        """How to open the container's root directory."""

        def open(self) -> OpenRoot:
            """Open it in the provisioner, before that forks the daemon's process. Raises HookError."""

    class OpenRoot(Protocol):
        """The container's root directory, open for the processes that will enter it.

        Attributes:
            mount: the directory and its mount.
            owner: the container's owner, with ids of these processes' user namespace.
        """

        mount: RootMount
        owner: Owner

        def enter(self, to_hook: Sender) -> Rootfs:
            """Enter the container's mount and user namespaces, with all capabilities over the latter. Raises HookError.

            Changes that must be undone in a container that outlives the daemon are reported through `to_hook`.
            """

        def open_programs(self) -> Callable[[int], None]:
            """Open the directory of Dropbear's programs, after `enter`; return what mounts it. Raises HookError."""

    class Registration(Protocol):
        """How the hook finds the daemon's process, and records it."""

        def introduce(self, process: Process) -> None:
            """Make `process`, the calling daemon's, known to the hook. Raises OSError."""

        def find(self, daemon: Forked) -> Process | None:
            """Return the daemon's process; None if it has exited. Raises HookError."""

        def record(self, daemon: Forked, door: str) -> None:
            """Record the daemon, and the path of its door, for the process that ends it. Raises HookError."""

        def remove(self) -> None:
            """Remove the record, if there is one. Raises OSError."""


class Ending:
    """How the daemon ends with its container. By default through poststop or a sweep, which need only the record."""

    def require(self, rootfs: Rootfs) -> None:
        """Raise HookError in the daemon's process if the container lacks what is needed to end the daemon."""

    def descriptors(self) -> set[int]:
        """Return the descriptors that the daemon's process must keep for it."""
        return set()

    def prepare(self) -> None:
        """Prepare the daemon's process, before it is confined. Raises OSError."""

    def before_exec(self, place: str) -> None:
        """Do the last steps in the confined daemon's process before it execs Dropbear for `place`.

        Raises OSError.
        """

    def before_release(self) -> None:
        """Raise HookError in the hook if the daemon must not run."""

    def when_listening(self, daemon: Process | None) -> None:
        """Raise HookError in the hook if the daemon, which now listens, must end."""

    def roll_back(self, daemon: Process | None) -> None:
        """In the hook, end what the daemon has started, before the daemon is killed."""


class StartPlan:
    """The inputs of one start. A plan is complete when created, and never changed.

    Attributes:
        container: the container, as described by config.json.
        settings: the site's settings.
        owner: the container's owner.
        init: the container's first process.
        root: how to open the root directory.
        namespaces: the namespaces to join; none if the hook is already in the container.
        last_namespaces: the names of those that the daemon's process joins last.
        in_user_namespace: whether the container has a user namespace other than the initial one.
        cgroups: the cgroups of the first process.
        labels: the container's LSM labels.
        confinement: that of the daemon's process.
        unauthenticated: Dropbear's limit of connections without a login.
        provides_home: whether the user's keys go into ~/.ssh in the container.
        server: the server to start.
        hosts: the hosts of the container's job in order, each with its slots; may be empty.
        variables: those of the container's job, for sessions that do not set them.
        door: the socket for the user's logins without a key.
        logins: how Dropbear logs logins.
        gate: the descriptor that Dropbear reads until it may accept connections: a /proc/PID/stat, or an imitation.
        registration: how the hook finds the daemon's process, and records it.
        ending: how the daemon ends.
    """

    def __init__(
        self,
        basis: Basis,
        *,
        root: Root,
        last_namespaces: tuple[str, ...],
        in_user_namespace: bool,
        provides_home: bool,
        door: Door,
        logins: LoginLog,
        gate: int,
        registration: Registration,
        ending: Ending,
    ) -> None:
        """Complete the plan; compile the seccomp profile, if it is not cached. Raises HookError."""
        self.container: Final = basis.container
        self.settings: Final = basis.settings
        self.owner: Final = basis.owner
        self.init: Final = basis.init
        self.root: Final = root
        self.namespaces: Final = basis.namespaces
        self.last_namespaces: Final = last_namespaces
        self.in_user_namespace: Final = in_user_namespace
        self.cgroups: Final = basis.cgroups
        self.labels: Final = basis.labels
        self.confinement: Final = Confinement(
            basis.container, basis.labels, basis.settings.require_seccomp, state_directory(basis.engine.host_uid)
        )
        self.unauthenticated: Final = unauthenticated_processes(basis.cgroups, basis.container)
        self.provides_home: Final = provides_home
        self.server: Final = basis.server
        self.hosts: Final = basis.job.hosts
        self.variables: Final = basis.job.variables
        self.door: Final = door
        self.logins: Final = logins
        self.gate: Final = gate
        self.registration: Final = registration
        self.ending: Final = ending
