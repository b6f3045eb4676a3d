# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage createRuntime or createContainer: the plan of a start for an OCI runtime.

It is made from the runtime's state and config.json, under podman, Docker and Sarus, with hooks.d or a CDI device.
"""

from __future__ import annotations

from ..confine.lsm import Labels
from ..confine.rlimits import raise_own_limits
from ..errors import ANNOTATION_WRONG, CONTAINER_UNFIT, SETTING_WRONG, SYSTEM, ContainerEndedError, HookError
from ..linux.cgroups import Cgroups
from ..linux.fast_stdlib import TYPE_CHECKING, os
from ..linux.files import is_same
from ..linux.namespaces import Namespaces, is_in_hosts_network
from ..linux.process import Process
from ..linux.root_mount import OuterMounts
from ..log import WARNING, log
from ..node import monitor
from ..node.door import make_door, no_door
from ..node.engine import Engine, outside_user, prefer_own_user, state_directory
from ..node.login_log import open_login_log
from ..node.owner import find_owner
from ..oci.annotations import ENABLED
from ..oci.oci_config import read_container
from ..oci.settings import Settings
from .description import describe, engine_of
from .enter import MountedRoot
from .job import find_job
from .plan import Ending, StartPlan
from .registration import Bundle, BundleRecord, DaemonEntry
from .server import PORT_OPTION, Server, require_undumpable
from .supervisor import start

if TYPE_CHECKING:
    from ..oci.oci_config import Container
    from ..oci.state import State


def create_runtime(state: State, variables: dict[str, str]) -> None:
    """Start the container's daemon and record it in the bundle. `variables` are the site's settings.

    Raises HookError, after a rollback.
    """
    settings = Settings(variables)
    bundle = os.open(state.bundle, os.O_RDONLY | os.O_DIRECTORY)
    container = read_container(bundle, state.bundle)
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
    _require_own_mount_namespace(settings)
    require_undumpable()
    engine = Engine()
    labels = Labels(container)
    process = _open_proc_directory(state.pid, settings)
    cgroups = Cgroups(process, engine.is_rootless)
    namespaces = Namespaces(process if settings.join else None)
    if settings.join and not namespaces.has("mnt"):
        raise HookError(
            CONTAINER_UNFIT,
            "the container has no mount namespace of its own: what the hook mounts would stay on the host",
        )
    init = _first_process(state.pid, settings)
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
    job = find_job(cgroups, owner.entry.uid, engine.is_rootless, container.annotations)
    server = Server(
        container.annotations,
        settings,
        PORT_OPTION,
        job,
        namespaces.has("net") if settings.join else not is_in_hosts_network(),
        # podman creates the network namespace before it calls the runtime, unless the container has its own user
        # namespace. For other engines it is unknown when they publish a port.
        container.is_podmans and namespaces.has("net") and not namespaces.has("user"),
    )
    outside = OuterMounts if settings.join else lambda: _see_parent(init)
    programs = server.programs
    in_user_namespace = engine.is_rootless or namespaces.has("user")
    where = process if namespaces.has("user") else None
    if settings.join:
        user_id, label = owner.file_owner.uid, labels.socket_label
        door = make_door(
            engine.host_uid,
            user_id,
            where,
            in_user_namespace=in_user_namespace,
            in_job=job.name != "",
            label=label,
        )
    else:
        door = no_door("JOIN_NAMESPACES is false")  # in the container's mount namespace, paths are the container's
    arguments, variables = monitor.find() if container.is_podmans else ([], {})
    name = monitor.container_of(arguments)[1]
    description = describe(
        engine_of(container.is_podmans, state.id, cgroups, state.bundle),
        state.id,
        name,
        job=job,
        cgroups=cgroups,
        environments=(container.environment, variables),
        is_rootless=engine.is_rootless,
        server=server,
        process=process,
        owner=engine.host_uid or owner.file_owner.uid,
    )
    pidfile = container.annotations.pidfile_host, owner.file_owner
    entry = DaemonEntry(init, programs, engine.host_uid, job.name != "", description, pidfile)
    fields = {"uid": str(owner.entry.uid), "container": name, "job": job.name or monitor.job_by_variables(variables)}
    return StartPlan(
        container=container,
        settings=settings,
        owner=owner,
        init=init,
        root=MountedRoot(container, owner, init, process, namespaces, outside, programs.path),
        namespaces=namespaces,
        last_namespaces=("time",),
        in_user_namespace=in_user_namespace,
        cgroups=cgroups,
        labels=labels,
        cache=state_directory(engine.host_uid),
        provides_home=True,
        server=server,
        hosts=job.hosts,
        variables=job.variables,
        door=door,
        logins=open_login_log(owner.name, settings.log_commands, fields),
        gate=init.stat,
        registration=BundleRecord(bundle, entry),
        ending=Ending(),
    )


def _see_parent(init: Process) -> OuterMounts | None:
    """Return the mount namespace of the runtime, the parent of `init`; None if the hook may not read it."""
    try:
        return OuterMounts(Process(init.parent()))
    except OSError:
        return None


def _require_own_mount_namespace(settings: Settings) -> None:
    """Raise HookError if the hook neither joins the container's mount namespace nor is outside the host's."""
    if settings.join:
        return
    try:
        ours, init = os.stat("/proc/self/ns/mnt"), os.stat("/proc/1/ns/mnt")
    except (PermissionError, FileNotFoundError):  # the latter with hidepid
        return  # only the host's root can be in the host's mount namespace
    if is_same(ours, init):
        raise HookError(
            SETTING_WRONG,
            "JOIN_NAMESPACES is false, but the hook runs in the host's mount namespace: run it at createContainer, or "
            "set JOIN_NAMESPACES=true in the OCI hook's JSON file",
        )


def _first_process(pid: int, settings: Settings) -> Process:
    """Return the container's first process, before its first execve(2). Raises HookError.

    At createContainer that process runs the hook, perhaps through another program. The state may have its pid in the
    container's pid namespace, or no pid. So the outermost ancestor of the hook in the container's mount namespace is
    returned.
    """
    try:
        if settings.join:
            process = Process(pid)
            if process.is_before_exec():
                return process
            raise HookError(
                SETTING_WRONG,
                f"the container's first process (pid {pid}) already runs a program: call the hook at the stage "
                "createRuntime, or with JOIN_NAMESPACES=false at createContainer",
            )
        process = Process(int(os.readlink("/proc/self")))
        namespace = process.mount_namespace()
        while (parent := process.parent()) > 0 and (ancestor := Process(parent)).mount_namespace() == namespace:
            process = ancestor
        if process.is_before_exec():
            return process
    except (FileNotFoundError, ProcessLookupError):
        raise ContainerEndedError() from None
    raise HookError(
        SETTING_WRONG,
        "JOIN_NAMESPACES is false, but the hook was not called by a container's first process: run it at "
        "createContainer",
    )


def _open_proc_directory(pid: int, settings: Settings) -> int:
    """Open the directory in /proc of the first process, or of the hook if that does not join. Raises HookError."""
    if settings.join and pid == 0:
        raise HookError(
            CONTAINER_UNFIT, "the container's state names no process: the hook joins at the stage createRuntime"
        )
    name = str(pid) if settings.join else "self"
    try:
        return os.open(f"/proc/{name}", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise HookError(SYSTEM, f"cannot open the container's process in /proc/{name}: {error.strerror}") from None
