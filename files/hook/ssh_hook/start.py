# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's work at createRuntime: an SSH server inside the container that is being made.

The hook itself stays on the host: it reads what belongs to the user as the user, keeps the record and reports. Its
child joins the container, starts the daemon, and ends, so that nothing of the hook stays in the container's pid
namespace, where even a zombie would keep the container from ending.
"""

from __future__ import annotations

import os

from . import keystore, record, userfiles
from .confinement import Confinement
from .container import Container, State
from .errors import HookError
from .identity import ActingAs, Identity
from .inside import Plan, start_inside
from .log import INFO, WARNING, log
from .namespaces import Cgroups, Namespaces
from .owner import find_owner
from .settings import Settings

_KEEP = b"k"


def start(settings: Settings, state: State, container: Container, bundle: int, packages: list[str]) -> None:
    """Start the daemon of `container` and record it in its bundle, whose directory is open as `bundle`.

    `packages` are directories that hold pyroute2. Raises HookError; then nothing stays behind.
    """
    _require_own_mount_namespace(settings)
    process = _open_process(state.pid, settings)
    namespaces = Namespaces(process) if settings.join else None
    if namespaces is not None and not namespaces.has("mnt"):
        raise HookError("the container has no mount namespace of its own: what the hook mounts would stay on the host")
    owner = find_owner(
        container,
        process if namespaces is not None and namespaces.has("user") else None,
        settings.passwd_file,
    )
    log.stdout = userfiles.log_descriptor(container.annotations.log_stdout, owner.keeper, log.stdout)
    log.stderr = userfiles.log_descriptor(container.annotations.log_stderr, owner.keeper, log.stderr)
    directory = keystore.key_directory(settings.base_dir, owner.name)
    with ActingAs(owner.keeper):
        keys = keystore.load(directory, owner.name)
    authorized_keys = keys.authorized_keys.rstrip(b"\n") + b"\n"
    if container.annotations.authorize_ssh_key:
        authorized_keys += userfiles.read_public_keys(container.annotations.authorize_ssh_key, owner.keeper)
    reader, writer = os.pipe()
    release, keep = os.pipe()
    plan = Plan(
        container,
        owner,
        keys,
        authorized_keys,
        namespaces,
        Cgroups(process, owner.rootless),
        Confinement(container, settings.require_seccomp, owner.state_directory),
        container.annotations.port or settings.port,
        settings.listen if _is_on_nodes_network(namespaces) else [],
        settings.dropbear_dir,
        settings.overlay,
        packages,
        os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC),
        lambda message: _send(writer, "warning", message),
    )
    child = os.fork()
    if child == 0:
        os.close(keep)
        _run_child(plan, writer, release)
    os.close(writer)
    os.close(release)
    try:
        daemon = record.record_of(
            _started(reader), owner.keeper.uid, owner.keeper.gid, container.annotations.pidfile_host
        )
        _record(daemon, bundle, owner.keeper)
        os.write(keep, _KEEP)
    except OSError as error:
        raise HookError(f"cannot record the SSH daemon in {state.bundle}: {error.strerror}") from None
    finally:
        os.close(keep)
        os.waitpid(child, 0)
    log(INFO, f"the SSH daemon of {owner.name} listens on port {plan.port} (pid {daemon.pid})")


def _record(daemon: record.Record, bundle: int, keeper: Identity) -> None:
    record.write(daemon, bundle)
    try:
        if daemon.pidfile_host:
            userfiles.write_pidfile(daemon.pidfile_host, daemon.pid, keeper)
    except BaseException:
        record.remove(bundle)
        raise


def _require_own_mount_namespace(settings: Settings) -> None:
    """Without joining, the hook has to be in the container's mount namespace already, and not in the host's."""
    if settings.join:
        return
    try:
        ours, init = os.stat("/proc/self/ns/mnt"), os.stat("/proc/1/ns/mnt")
    except PermissionError:
        return  # not the host's root, so not in the host's mount namespace
    if os.path.samestat(ours, init):
        raise HookError(
            "JOIN_NAMESPACES is false, but the hook runs in the host's mount namespace: run it at createContainer, or "
            "set JOIN_NAMESPACES=true in the OCI hook's JSON file"
        )


def _is_on_nodes_network(namespaces: Namespaces | None) -> bool:
    if namespaces is not None:
        return not namespaces.has("net")
    try:
        return os.path.samestat(os.stat("/proc/self/ns/net"), os.stat("/proc/1/ns/net"))
    except PermissionError:
        return True  # a rootless engine: then the addresses have to be there


def _open_process(pid: int, settings: Settings) -> int:
    """The directory in /proc of the container's first process, or of the hook if that is in the container already."""
    if settings.join and pid == 0:
        raise HookError("the container's state names no process: the hook joins at the stage createRuntime")
    name = str(pid) if settings.join else "self"
    try:
        return os.open(f"/proc/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HookError(f"cannot open the container's process in /proc/{name}: {error.strerror}") from None


def _send(writer: int, kind: str, text: str) -> None:
    os.write(writer, f"{kind} {text}\0".encode("utf-8", "backslashreplace"))


def _run_child(plan: Plan, writer: int, release: int) -> None:
    """Do the child's part, tell the parent how it went, and end.

    The child waits until the parent has recorded the daemon. If the parent fails or is killed, so is the daemon.
    """
    try:
        process = start_inside(plan)
        try:
            _send(writer, "started", " ".join(map(str, process.identity())))
            os.close(writer)
            is_kept = os.read(release, 1) == _KEEP
        except OSError:
            is_kept = False
        if not is_kept:
            process.kill()
    except HookError as error:
        _send(writer, "error", str(error))
    except Exception as error:
        name = getattr(error, "filename", None)
        where = f" ({name})" if name else ""
        what = error.strerror if isinstance(error, OSError) else f"{error.__class__.__name__}: {error}"
        _send(writer, "error", f"cannot set the container up: {what}{where}")
    finally:
        os._exit(0)


def _started(reader: int) -> tuple[int, int, int, int]:
    """The daemon's identity. Raises HookError with what the child says, or if it says nothing."""
    with open(reader, encoding="utf-8", errors="replace") as file:
        messages = file.read().split("\0")[:-1]
    for message in messages:
        kind, _blank, text = message.partition(" ")
        if kind == "warning":
            log(WARNING, text)
        elif kind == "error":
            raise HookError(text)
        else:
            pid, start_time, device, inode = map(int, text.split())
            return pid, start_time, device, inode
    raise HookError("the container could not be set up: the hook's child was killed; is the node out of memory?")
