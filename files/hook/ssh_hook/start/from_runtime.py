# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage createRuntime or createContainer: the plan of a start for an OCI runtime.

It is made from the runtime's state and config.json, under podman, Docker and Sarus, with hooks.d or a CDI device.
"""

from __future__ import annotations

from ..confine.lsm import Labels
from ..confine.rlimits import raise_own_limits
from ..errors import ANNOTATION_WRONG, CONTAINER_UNFIT, HookError
from ..fast_stdlib import TYPE_CHECKING, os
from ..linux.cgroups import Cgroups
from ..log import WARNING, log
from ..node import conmon
from ..node.engine import Engine
from ..node.owner import find_owner, outside_user, prefer_own_user
from ..oci.annotations import ENABLED
from ..oci.oci_config import Container, read_config
from ..oci.settings import Settings
from .basis import Basis
from .description import engine_of
from .enter import MountedRoot
from .oci_stages import CreateContainer, CreateRuntime
from .plan import Ending, StartPlan
from .port import PORT_OPTION
from .registration import Bundle, BundleRecord
from .supervisor import start

if TYPE_CHECKING:
    from ..oci.state import State


def create_runtime(state: State, variables: dict[str, str]) -> None:
    """Start the container's daemon and record it in the bundle. `variables` are the site's settings.

    Raises HookError, after a rollback.
    """
    settings = Settings(variables)
    bundle = os.open(state.bundle, os.O_RDONLY | os.O_DIRECTORY)
    container = Container(read_config(bundle, state.bundle), state.bundle)
    annotations = container.annotations
    log.level = annotations.log_level
    if annotations.is_undecided:
        log(
            WARNING,
            f"the annotation {ENABLED} is neither true nor false, so the container has no SSH: give true",
            ANNOTATION_WRONG,
        )
        return
    raise_own_limits(container)
    plan = from_runtime(state, bundle, container, settings)
    if plan is not None:
        start(plan)


def from_runtime(state: State, bundle_descriptor: int, container: Container, settings: Settings) -> StartPlan | None:
    """Return the plan; None if an earlier hook of this start has started the daemon.

    Raises HookError if the container cannot be served.
    """
    engine = Engine()
    stage = CreateRuntime(state.pid) if settings.join else CreateContainer()
    process, init, namespaces = stage.process, stage.init, stage.namespaces
    if container.has_shared_user_namespace and not engine.is_rootless:
        raise HookError(
            CONTAINER_UNFIT,
            "the container shares the user namespace of another one (linux.namespaces in config.json): a process "
            "with CAP_SYS_ADMIN there could make the kernel run its own program instead of the SSH daemon",
        )
    if engine.is_users() and namespaces.has("user"):
        prefer_own_user(container, process)
    user = outside_user(container, process, namespaces.has("user"))
    bundle = Bundle(bundle_descriptor, state.bundle, init)
    if bundle.has_daemon():
        return None
    owner = find_owner(user, engine, settings, container.annotations.user)
    cgroups = Cgroups(process, engine.is_rootless)
    basis = Basis(
        *(container, settings, engine, owner, init, process, namespaces, cgroups, Labels(container)),
        port_option=PORT_OPTION,
        has_own_network=stage.has_own_network,
        # podman creates the network namespace before it calls the runtime, unless the container has its own user
        # namespace. For other engines it is unknown when they publish a port.
        is_behind_engine=container.is_podmans and namespaces.has("net") and not namespaces.has("user"),
    )
    door = stage.make_door(basis)
    arguments, variables = conmon.find() if container.is_podmans else ([], {})
    name = conmon.container_of(arguments)[1]
    engine_name = engine_of(container.is_podmans, state.id, cgroups, state.bundle)
    pidfile = container.annotations.pidfile_host, owner.file_owner
    entry = basis.entry(engine_name, state.id, name, variables, pidfile)
    return StartPlan(
        basis,
        root=MountedRoot(container, owner, init, process, namespaces, stage.outside, basis.server.programs.path),
        last_namespaces=("time",),
        in_user_namespace=basis.in_user_namespace,
        provides_home=True,
        door=door,
        logins=basis.open_login_log(variables, container=name),
        gate=init.stat,
        registration=BundleRecord(bundle, entry),
        ending=Ending(),
    )
