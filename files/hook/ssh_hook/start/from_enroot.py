# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a start under enroot, which calls no OCI runtime: its hooks.d runs a script of ours (enroot.sh.j2).

enroot calls the script as the user, with all capabilities over a user namespace that maps only this user, in the
container's mount namespace and before it switches the root. The calling process becomes the container: it switches the
root, drops its capabilities, sets no_new_privs, and executes the container's program. No hook is called when it ends.

All inputs are environment variables, controlled by the user: ENROOT_PID, ENROOT_ROOTFS, and ENROOT_ENVIRON, the path of
a file with the container's variables; and the user's requests (oci/requests.py). Requests are not read from the
container's variables, which an image may set.
"""

from __future__ import annotations

from ..confine.apply import capability_names
from ..confine.lsm import Labels
from ..errors import CONFIG_WRONG, CONTAINER_UNFIT, ContainerEndedError, HookError, printable
from ..fast_stdlib import TYPE_CHECKING, basename, closing, dirname, fsdecode, os, read_all, stat
from ..linux import syscalls
from ..linux.cgroups import Cgroups
from ..linux.namespaces import Namespaces, is_in_hosts_network
from ..linux.process import Process, is_decimal, sees_all_processes
from ..log import INFO, log
from ..node.engine import Engine
from ..node.entry_reader import collect_own
from ..node.owner import find_owner, outside_user
from ..oci.annotations import PORT, REQUIRE_SHELL
from ..oci.json_reader import Node
from ..oci.oci_config import Container
from ..oci.requests import named_by_variables, requested
from ..oci.settings import Settings
from .basis import Basis
from .enroot_watcher import Watcher
from .enter import MountedRoot
from .plan import StartPlan
from .registration import Bundle, BundleRecord
from .supervisor import start

if TYPE_CHECKING:
    from typing import Any

_MAX_ENVIRONMENT = 4 << 20  # bytes
_MAX_PID_DIGITS = 10
_PORT_OPTION = f"the annotation {PORT}=auto or a number"
_BY_ENROOT = "only enroot calls this command, from the hook in its hooks.d"


def start_in_enroot(variables: dict[str, str], umask: int) -> None:
    """Start the daemon of the container that enroot is starting. Raises HookError, after a rollback.

    `variables` are enroot's and the site's settings, and `umask` is enroot's.
    """
    try:
        plan = from_enroot(variables, umask)
        if plan is not None:
            start(plan)
    except HookError as error:
        raise HookError(error.kind, named_by_variables(str(error))) from None


def from_enroot(variables: dict[str, str], umask: int) -> StartPlan | None:
    """Return the plan; None if an earlier hook has started the daemon, of this container or of one that is joined.

    Raises HookError.
    """
    engine = Engine()
    if not engine.is_rootless:
        raise HookError(
            CONTAINER_UNFIT,
            "enroot runs without a user namespace (ENROOT_ALLOW_SUPERUSER), so its containers get no SSH: start it as "
            "a user, or without OCIHOOKS_SSH",
        )
    if "PYXIS_RUNTIME_PATH" in variables:  # pyxis has set it
        _require_visible_processes()
    init = _first_process(_required(variables, "ENROOT_PID"))
    rootfs, path = _required(variables, "ENROOT_ROOTFS"), _required(variables, "ENROOT_ENVIRON")
    log.subject = (basename(rootfs), "")  # enroot's name for the container
    settings = Settings(variables)
    container = Container(Node(_configuration(variables, rootfs, path, umask), "enroot's container"), rootfs)
    log.level = container.annotations.log_level
    place = dirname(path)  # enroot's own tmpfs
    bundle = Bundle(os.open(place, os.O_RDONLY | os.O_DIRECTORY), place, init)
    watcher = Watcher(init)
    process = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)  # in the container's mount namespace, like the hook
    namespaces = Namespaces(None)
    user = outside_user(container, process, has_user_namespace=False)
    if bundle.has_daemon():
        return None
    owner = find_owner(user, engine, settings, container.annotations.user)
    cgroups = Cgroups(process, rootless=True)
    basis = Basis(
        *(container, settings, engine, owner, init, process, namespaces, cgroups, Labels(container)),
        port_option=_PORT_OPTION,
        has_own_network=not is_in_hosts_network(),
    )
    server = basis.server
    if "PYXIS_RUNTIME_PATH" in variables:
        from .joined import is_served  # here: few containers are joined

        if is_served(rootfs, server.port):
            log(INFO, f"{rootfs}: the container that runs in this root file system has SSH at port {server.port}")
            return None
    collect_own(engine.host_uid)
    pidfile = container.annotations.pidfile_host, owner.file_owner
    entry = basis.entry("enroot", "", basename(rootfs), variables, pidfile)
    return StartPlan(
        basis,
        # The namespace that it was cloned from belongs to the node's user namespace: the hook may not read it.
        root=MountedRoot(container, owner, init, process, namespaces, lambda: None, server.programs.path),
        last_namespaces=(),
        in_user_namespace=True,
        provides_home=False,  # enroot mounts homes after its hooks
        door=basis.make_door(os.geteuid()),
        logins=basis.open_login_log({}),
        gate=watcher.gate.descriptor,
        registration=BundleRecord(bundle, entry, has_poststop=False),
        ending=watcher,
    )


def _require_visible_processes() -> None:
    """Raise HookError if /proc hides processes: the watcher would not see tasks that join from outside."""
    if not sees_all_processes():
        raise HookError(
            CONTAINER_UNFIT,
            "the node's /proc hides other users' processes (hidepid), and with them the tasks of a pyxis container, "
            "which SSH needs to notice its end: start it without OCIHOOKS_SSH, or ask the administrator for a /proc "
            "that shows processes to one of your groups (gid=)",
        )


def _required(variables: dict[str, str], name: str) -> str:
    value = variables.get(name, "")
    if not value:
        raise HookError(CONFIG_WRONG, f"{name} is not set: {_BY_ENROOT}")
    if name != "ENROOT_PID" and not value.startswith("/"):
        raise HookError(CONFIG_WRONG, f"{name} is '{printable(value)}', not an absolute path: {_BY_ENROOT}")
    return value


def _first_process(pid: str) -> Process:
    """Return the process that becomes the container: an ancestor in the hook's mount namespace. Raises HookError."""
    if not is_decimal(pid, _MAX_PID_DIGITS):
        raise HookError(CONFIG_WRONG, f"ENROOT_PID is '{printable(pid)}', not a PID: {_BY_ENROOT}")
    try:
        hook = Process(int(os.readlink("/proc/self")))
        parent = hook.parent()
        while parent > 0 and parent != int(pid):
            with Process(parent) as ancestor:
                parent = ancestor.parent()
        init = Process(int(pid))
        if parent == init.pid and init.mount_namespace() == hook.mount_namespace():
            hook.close()
            return init
    except (FileNotFoundError, ProcessLookupError):
        raise ContainerEndedError() from None
    raise HookError(
        CONFIG_WRONG, f"ENROOT_PID is {pid}, which is not the process that creates the container: {_BY_ENROOT}"
    )


def _configuration(variables: dict[str, str], rootfs: str, path: str, umask: int) -> dict[str, Any]:
    """Return a config.json for the container whose variables are in the file `path`. Raises HookError."""
    uid, gid = os.geteuid(), os.getegid()
    # enroot keeps the capabilities of root with --root, and drops all of other users.
    capabilities = capability_names(syscalls.capget()[1]) if uid == 0 else []
    return {
        "annotations": {REQUIRE_SHELL: "true", **requested(variables)},  # enroot runs all programs through a shell
        "process": {
            "user": {"uid": uid, "gid": gid, "umask": umask},
            "env": _read_environment(path),
            "noNewPrivileges": True,
            "capabilities": {"bounding": capabilities, "permitted": capabilities},
        },
        "root": {"path": rootfs},
        "linux": {},
    }


def _read_environment(path: str) -> list[str]:
    """Return the variables in enroot's environment file, parsed like enroot. Raises HookError."""
    problem = f"cannot read the container's variables in {printable(path)} (ENROOT_ENVIRON)"
    try:
        with closing(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise HookError(CONFIG_WRONG, f"{problem}: it is not a regular file")
            data = read_all(descriptor, _MAX_ENVIRONMENT)
    except OSError as error:
        raise HookError(CONFIG_WRONG, f"{problem}: {error.strerror}") from None
    if len(data) > _MAX_ENVIRONMENT:
        raise HookError(CONFIG_WRONG, f"{problem}: it is larger than {_MAX_ENVIRONMENT} bytes")
    lines = fsdecode(data).split("\n")
    return [line for line in lines if "\0" not in line and "=" in line and _is_name(line.partition("=")[0])]


def _is_name(name: str) -> bool:
    return name.isascii() and name.isidentifier()
