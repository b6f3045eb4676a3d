# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of one start: all that its processes go by, decided before the first of them is forked.

A plan is made of a runtime's state and config.json (from_runtime.py), of enroot's variables (from_enroot.py) or of a
running process (from_process.py), and of nothing else. Whoever reads a plan need not know of what it was made: where
starts differ, it has an object that does what is to be done.
"""

from __future__ import annotations

from ..linux.fast_stdlib import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, Protocol

    from ..confine.lsm import Labels
    from ..linux.cgroups import Cgroups
    from ..linux.namespaces import Namespaces
    from ..linux.process import Process
    from ..linux.root_mount import RootMount
    from ..linux.rootfs import Rootfs
    from ..node.login_log import NoLoginLog
    from ..node.owner import Owner
    from ..oci.oci_config import Container
    from ..oci.settings import Settings
    from .channel import Forked, Sender
    from .server import Server

    class Root(Protocol):
        """How the container's root directory is opened."""

        def open(self) -> OpenRoot:
            """Open it, in the provisioner and before that forks the daemon's process. Raises HookError."""

    class OpenRoot(Protocol):
        """The container's root directory, open for the processes that are to enter it.

        Attributes:
            mount: the directory, and the mount that it is the root of.
            owner: the container's owner, by ids of the user namespace in which these processes are.
        """

        mount: RootMount
        owner: Owner

        def enter(self, to_hook: Sender) -> Rootfs:
            """Enter the container's mount and user namespaces, with all capabilities over the latter. Raises HookError.

            The sender reports to the hook what has to be undone in a container that outlives the daemon.
            """

        def open_programs(self) -> Callable[[int], None]:
            """Open the directory of Dropbear's programs, after `enter`; return what mounts it. Raises HookError."""

    class Registration(Protocol):
        """How the hook learns of the daemon's process, and records it."""

        def introduce(self, process: Process) -> None:
            """Show `process`, the calling daemon's, to the hook. Raises OSError."""

        def find(self, daemon: Forked) -> Process | None:
            """Return the daemon's process; None where it has ended. Raises HookError."""

        def record(self, daemon: Forked, door: str) -> None:
            """Record the daemon, and the path of its door, for whoever ends it. Raises HookError."""

        def remove(self) -> None:
            """Remove the record, if there is one. Raises OSError."""

    class AnyDoor(Protocol):
        """Where the user comes in without a key (node/door.py).

        Attributes:
            path: its name; empty where it has none.
        """

        path: str

        def descriptors(self) -> list[int]:
            """Return the descriptors that Dropbear gets."""

        def arguments(self) -> list[str]:
            """Return the arguments with which Dropbear serves it."""

        def open(self, pid: int, start_time: int) -> None:
            """Give it the name for the daemon's process. Raises HookError, also where there can be none."""

        def close(self) -> None:
            """Close the descriptor of a caller that does not open it."""

        def remove(self) -> None:
            """Remove the name, if there is one."""


class Ending:
    """Who ends the daemon with the container. This one: poststop or a sweep, which need no help but the record."""

    def require(self, rootfs: Rootfs) -> None:
        """Raise HookError in the daemon's process where the container lacks what ends the daemon."""

    def descriptors(self) -> set[int]:
        """Return the descriptors that the daemon's process has to keep for it."""
        return set()

    def prepare(self) -> None:
        """Prepare the daemon's process, before it is confined. Raises OSError."""

    def before_exec(self, place: str) -> None:
        """Do in the daemon's process, which is confined, what is left before it execs Dropbear for `place`.

        Raises OSError.
        """

    def before_release(self) -> None:
        """Raise HookError in the hook where the daemon may not run."""

    def when_listening(self, daemon: Process | None) -> None:
        """Raise HookError in the hook where the daemon, which listens, has to end."""

    def roll_back(self, daemon: Process | None) -> None:
        """End in the hook what the daemon has started, before the daemon is killed."""


class StartPlan:
    """What one start consists of. It is complete when it is made, and never changed.

    Attributes:
        container: the container as config.json describes it.
        settings: the site's settings.
        packages: directories that hold pyroute2.
        owner: the container's owner.
        init: the container's first process.
        root: how the root directory is opened.
        namespaces: the namespaces to join; none where the hook is in the container already.
        last_namespaces: the names of those that the daemon's process joins last.
        in_user_namespace: whether the container has a user namespace other than the initial one.
        cgroups: the cgroups of the first process.
        labels: the container's LSM labels.
        cache: the node's directory for compiled seccomp profiles.
        provides_home: whether the user's keys go into ~/.ssh in the container.
        server: the server to start.
        hosts: the hosts of the container's job in order, each with its slots; empty where it is to know none.
        variables: those of the container's job, for sessions that have none of these names.
        door: where the user comes in without a key.
        logins: by what Dropbear logs logins.
        gate: the descriptor that Dropbear reads until it may accept connections: a /proc/PID/stat, or what looks alike.
        registration: how the hook learns of the daemon's process, and records it.
        ending: who ends the daemon.
    """

    def __init__(
        self,
        *,
        container: Container,
        settings: Settings,
        packages: list[str],
        owner: Owner,
        init: Process,
        root: Root,
        namespaces: Namespaces,
        last_namespaces: tuple[str, ...],
        in_user_namespace: bool,
        cgroups: Cgroups,
        labels: Labels,
        cache: str,
        provides_home: bool,
        server: Server,
        hosts: list[tuple[str, int]],
        variables: dict[str, str],
        door: AnyDoor,
        logins: NoLoginLog,
        gate: int,
        registration: Registration,
        ending: Ending,
    ) -> None:
        self.container: Final = container
        self.settings: Final = settings
        self.packages: Final = packages
        self.owner: Final = owner
        self.init: Final = init
        self.root: Final = root
        self.namespaces: Final = namespaces
        self.last_namespaces: Final = last_namespaces
        self.in_user_namespace: Final = in_user_namespace
        self.cgroups: Final = cgroups
        self.labels: Final = labels
        self.cache: Final = cache
        self.provides_home: Final = provides_home
        self.server: Final = server
        self.hosts: Final = hosts
        self.variables: Final = variables
        self.door: Final = door
        self.logins: Final = logins
        self.gate: Final = gate
        self.registration: Final = registration
        self.ending: Final = ending
