# SPDX-License-Identifier: GPL-3.0-or-later
"""The provisioner: a child of the hook that joins the container, sets it up for sessions, and ends.

It stays in the hook's pid namespace, so that the container can end even while a directory of the user's blocks it. It
forks the daemon by way of an intermediate process in the container's pid namespace, which ends at once: the
container's first process then is the daemon's parent and reaps it, so that the pid namespace can end.
"""

from __future__ import annotations

from ..errors import HookError, UnservedError, printable
from ..host.credentials import MissingCredentialsError, read_credentials
from ..kernel import syscalls
from ..kernel.lean import TYPE_CHECKING, closing, os, write_all
from ..kernel.mounts import mount_bind, mount_id, move_mount
from ..kernel.rootfs import MOUNT
from ..provision.setup import Setup
from ..spec.annotations import PIDFILE_CONTAINER
from ..spec.container_paths import PIDFILE
from .channel import EndOfMessagesError, KeysMissing, Made, NoAnswerError, Provisioned, Unserved, Warned
from .daemon import become_daemon
from .enter import EnteredContainer, open_root

if TYPE_CHECKING:
    from typing import NoReturn

    from ..host.credentials import Credentials
    from ..host.owner import Owner
    from ..kernel.root_mount import RootMount
    from ..kernel.rootfs import Rootfs
    from ..provision.launch import Launch
    from ..spec.oci_config import Container
    from .channel import Channel, ProvisionerEnd
    from .context import StartContext

_PROBLEM = "cannot set the container up"


def provision(context: StartContext, owner: Owner, channel: Channel) -> NoReturn:
    """Run the provisioner: fork the daemon, and set the container up. Errors go to the hook; the exit status is 0 or 1.

    It writes files that outlive the container last, when the daemon listens.
    """
    status = 1
    try:
        _close_output()
        root = open_root(context)
        _fork_daemon(context, root, channel)
        end = channel.provisioner_end()
        try:
            _provision(context, root, owner, end)
            status = 0
        except (EndOfMessagesError, NoAnswerError, BrokenPipeError):
            pass  # the daemon has sent the reason to the hook, or the hook has ended
        except UnservedError as error:
            end.to_hook.send(Unserved(str(error)))
        except Exception as error:
            end.to_hook.fail(error, _PROBLEM)
    except Exception as error:
        channel.fail(error, _PROBLEM)
    finally:
        os._exit(status)


def _close_output() -> None:
    """Close the runtime's pipes: it waits for EOF, and a user may block this process longer than the hook lives."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _fork_daemon(context: StartContext, root: RootMount | None, channel: Channel) -> None:
    problem = "cannot start a process in the container"
    if context.namespaces is not None:
        context.namespaces.join("pid")  # for children only
    try:
        pid = syscalls.fork()
    except OSError as error:  # ENOMEM where the pid namespace has ended
        raise HookError(f"{problem}: {error.strerror}; has the container ended?") from None
    if pid == 0:
        try:
            if context.cgroups.fork() == 0:
                become_daemon(context, root, channel)
        except OSError as error:
            channel.fail(HookError(f"{problem}: {error.strerror}"), problem)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _provision(context: StartContext, root: RootMount | None, owner: Owner, end: ProvisionerEnd) -> None:
    container, settings = context.container, context.settings
    # Not in the hook, since a user can block whoever reads the files.
    credentials = _read_credentials(context, owner, end)
    launch = _launch(container)
    entered = EnteredContainer(context, root)
    if context.namespaces is not None:
        context.namespaces.close()
    if context.opened is not None:
        entered.rootfs.note = lambda kind, path, detail: _tell(end, entered.rootfs, kind, path, detail)
    programs = context.programs_mount
    attach = mount_bind if programs is None else move_mount
    if programs is None:
        programs = _open_programs(f"{settings.dropbear_dir}/bin")
    in_user_namespace = context.engine.is_rootless or context.has_user_namespace()
    mount_context = context.labels.mount_context
    setup = Setup(*(container, owner.entry, settings, entered.rootfs, mount_context, in_user_namespace, launch))
    port_is_free = end.await_port()
    setup.mount(lambda target: attach(programs, target))
    end.announce_programs(port_is_free)
    server = context.server
    names = launch.known_names(server.port) if launch else []
    known_hosts = server.known_hosts(credentials.host_public_keys, names)
    files = setup.provide(credentials, server.ssh_config(setup.account), known_hosts)
    for warning in setup.warnings:
        end.to_hook.send(Warned(warning))
    pidfile = _open_pidfile(entered.rootfs, container.annotations.pidfile_container)
    provisioned = Provisioned(*files)
    end.to_hook.send(provisioned)
    if pidfile is None and settings.overlay:
        return  # no file outlives the container
    end.await_keep(provisioned)
    if pidfile is not None:
        write_all(pidfile, b"%d\n" % port_is_free.pid)
    setup.finish(credentials)


def _read_credentials(context: StartContext, owner: Owner, end: ProvisionerEnd) -> Credentials:
    """Read the user's keys; have the hook make them where there are none. Raises HookError.

    Not this process: its children are in the container's pid namespace, which could not end while one is blocked.
    """
    try:
        return read_credentials(context.container, owner, context.settings)
    except MissingCredentialsError as error:
        end.to_hook.send(KeysMissing(str(error)))
    end.await_keys()
    return read_credentials(context.container, owner, context.settings)


def _launch(container: Container) -> Launch | None:
    """Return what a container of a job of many hosts gets, None for any other. To be called before imports end."""
    if not container.annotations.hosts:
        return None

    from ..provision.launch import Launch

    return Launch(container.annotations.hosts)


def _tell(end: ProvisionerEnd, rootfs: Rootfs, kind: str, path: str, detail: str) -> None:
    """Tell the hook of a change of the container, which it has to undo, unless only sessions see it."""
    if kind == MOUNT:
        if rootfs.has_layer:
            return
        try:
            with closing(rootfs.open(path, os.O_PATH)) as mounted:
                detail = mount_id(mounted).decode()
        except OSError as error:
            raise HookError(
                f"cannot open {path} in the container, on which the hook has mounted: {error.strerror}"
            ) from None
        before = {line.split(b" ", 1)[0] for line in (rootfs.mountinfo or b"").split(b"\n")}
        if detail.encode() in before:  # the path leads elsewhere now, and that mount is not the hook's to undo
            raise HookError(f"{path} in the container was moved while it was set up")
    end.to_hook.send(Made(kind, path, detail))


def _open_programs(path: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise HookError(f"cannot open {path} (DROPBEAR_DIR in the OCI hook's JSON file): {error.strerror}") from None


def _open_pidfile(rootfs: Rootfs, path: str) -> int | None:
    """Open and truncate the annotation's pidfile; return None where it is Dropbear's own. Raises HookError."""
    if path == PIDFILE:
        return None
    try:
        return rootfs.pidfile(path)
    except OSError as error:
        problem = f"the annotation {PIDFILE_CONTAINER}: cannot write {printable(path)} as the container's user"
        raise HookError(f"{problem}: {error.strerror}") from None
    except HookError as error:
        raise HookError(f"the annotation {PIDFILE_CONTAINER}: {error}") from None
