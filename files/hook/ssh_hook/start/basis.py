# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plans of all starts have in common, and how parts of them are made from it."""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING
from ..node import conmon, door, login_log
from .description import describe
from .job_hosts import find_job
from .registration import DaemonEntry
from .server import Server

if TYPE_CHECKING:
    from ..confine.lsm import Labels
    from ..linux.cgroups import Cgroups
    from ..linux.identity import Identity
    from ..linux.namespaces import Namespaces
    from ..linux.process import Process
    from ..node.engine import Engine
    from ..node.owner import Owner
    from ..oci.oci_config import Container
    from ..oci.settings import Settings


class Basis:
    """The basis of one plan (plan.py).

    Attributes:
        container, settings, owner, init, namespaces, cgroups, labels, server: as in StartPlan.
        engine: the container's engine.
        process: the open directory in /proc of a process in the container's namespaces.
        job: the container's job.
        in_user_namespace: whether the container has a user namespace other than the initial one.
    """

    def __init__(
        self,
        container: Container,
        settings: Settings,
        engine: Engine,
        owner: Owner,
        init: Process,
        process: int,
        namespaces: Namespaces,
        cgroups: Cgroups,
        labels: Labels,
        *,
        port_option: str,
        has_own_network: bool,
        is_behind_engine: bool = False,
    ) -> None:
        """Find the job, and decide where the server listens. Raises HookError.

        The last three arguments are as in Server.
        """
        self.container = container
        self.engine = engine
        self.process = process
        self.settings = settings
        self.owner = owner
        self.init = init
        self.namespaces = namespaces
        self.cgroups = cgroups
        self.labels = labels
        self.job = find_job(cgroups, owner.entry.uid, engine.is_rootless, container.annotations)
        self.server = Server(container.annotations, settings, port_option, self.job, has_own_network, is_behind_engine)
        self.in_user_namespace = engine.is_rootless or namespaces.has("user")

    def make_door(self, user: int) -> door.Door:
        """Make the door for `user`, a uid of the hook's user namespace. Raises OSError and HookError."""
        return door.make_door(
            self.engine.host_uid,
            user,
            self.process if self.namespaces.has("user") else None,
            in_user_namespace=self.in_user_namespace,
            in_job=self.job.name != "",
            label=self.labels.socket_label,
        )

    def entry(
        self,
        engine: str,
        identity: str,
        name: str,
        variables: dict[str, str],
        pidfile: tuple[str, Identity],
        attached: str = "",
    ) -> DaemonEntry:
        """Return the daemon's entry. Raises OSError.

        `engine`, `identity`, `name` and `attached` are as in `describe`, and `pidfile` is as in DaemonEntry.
        `variables` are the engine's.
        """
        description = describe(self, engine, identity, name, variables, attached)
        in_job = self.job.name != ""
        return DaemonEntry(self.init, self.server.programs, self.engine.host_uid, in_job, description, pidfile)

    def open_login_log(self, variables: dict[str, str], **known: str) -> login_log.LoginLog:
        """Return how Dropbear logs logins. `variables` are the engine's; `known` are further fields of its lines."""
        job = self.job.name or conmon.job_by_variables(variables)
        fields = {"uid": str(self.owner.entry.uid), **known, "job": job}
        return login_log.open_login_log(self.owner.name, self.settings.log_commands, fields)
