# SPDX-License-Identifier: GPL-3.0-or-later
"""The provisioner: a process of the hook that joins the container, puts into it what sessions need, and ends.

It stays in the hook's own pid namespace, out of the container's sight, so that the container can end even while a directory
of the user's holds the provisioner up. It forks the daemon's process by way of one in the container's pid namespace, which
ends at once. So the container's first process becomes the daemon's parent, and the namespace can end.
"""

from __future__ import annotations

from ..errors import HookError, printable
from ..host.credentials import read_credentials
from ..kernel import syscalls
from ..kernel.lean import TYPE_CHECKING, os, write_all
from ..provision.setup import Setup
from ..spec.annotations import PIDFILE_CONTAINER
from ..spec.container_paths import PIDFILE
from .channel import EndOfMessagesError, NoAnswerError, Provisioned, Warned
from .daemon import become_daemon
from .enter import EnteredContainer

if TYPE_CHECKING:
    from typing import NoReturn

    from ..host.owner import Owner
    from ..kernel.rootfs import Rootfs
    from .channel import Channel, ProvisionerEnd
    from .context import StartContext

_PROBLEM = "cannot set the container up"


def provision(context: StartContext, owner: Owner, channel: Channel) -> NoReturn:
    """Be the provisioner: fork the daemon's process, and set the container up. What outlives the container is written when the
    daemon listens. The exit status is 0 when all is done.
    """
    status = 1
    try:
        _close_output()
        _fork_daemon(context, channel)
        end = channel.provisioner_end()
        try:
            _provision(context, owner, end)
            status = 0
        except (EndOfMessagesError, NoAnswerError, BrokenPipeError):
            pass  # the daemon's process has told the hook why, or the hook is gone
        except Exception as error:
            end.to_hook.fail(error, _PROBLEM)
    except Exception as error:
        channel.fail(error, _PROBLEM)
    finally:
        os._exit(status)


def _close_output() -> None:
    """Let go of the runtime's pipes: it waits for their end, which has to be the hook's, and a user may hold up this process."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _fork_daemon(context: StartContext, channel: Channel) -> None:
    problem = "cannot start a process in the container"
    if context.namespaces is not None:
        context.namespaces.join("pid")  # of the children
    try:
        pid = syscalls.fork()
    except OSError as error:  # of an ended pid namespace that is "Cannot allocate memory"
        raise HookError(f"{problem}: {error.strerror}; has the container ended?") from None
    if pid == 0:
        try:
            if context.cgroups.fork() == 0:
                become_daemon(context, channel)
        except OSError as error:
            channel.fail(HookError(f"{problem}: {error.strerror}"), problem)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _provision(context: StartContext, owner: Owner, end: ProvisionerEnd) -> None:
    container, settings = context.container, context.settings
    credentials = read_credentials(
        container, owner, settings
    )  # by this process, since a user can hold up who reads her files
    entered = EnteredContainer(context)
    if context.namespaces is not None:
        context.namespaces.close()
    programs = _open_programs(f"{settings.dropbear_dir}/bin")
    in_user_namespace = context.engine.is_rootless or context.has_user_namespace()
    setup = Setup(container, owner.name, settings, entered.rootfs, context.labels.mount_context, in_user_namespace)
    port_is_free = end.await_port()
    setup.mount(programs)
    end.announce_programs(port_is_free)
    options = setup.provide(credentials)
    for warning in setup.warnings:
        end.to_hook.send(Warned(warning))
    pidfile = _open_pidfile(entered.rootfs, container.annotations.pidfile_container)
    for place in [f"[{address}]:{context.port}" for address in context.listen] or [str(context.port)]:
        options += ["-p", place]
    provisioned = Provisioned(*options, "-P", PIDFILE)
    end.to_hook.send(provisioned)
    if pidfile is None and settings.overlay:
        return  # nothing of it outlives the container
    end.await_keep(provisioned)
    if pidfile is not None:
        write_all(pidfile, b"%d\n" % port_is_free.pid)
    setup.finish(credentials)


def _open_programs(path: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise HookError(f"cannot open {path} (DROPBEAR_DIR in the OCI hook's JSON file): {error.strerror}") from None


def _open_pidfile(rootfs: Rootfs, path: str) -> int | None:
    """Open the pidfile that the annotation names, empty; None where it is Dropbear's own."""
    if path == PIDFILE:
        return None
    try:
        return rootfs.pidfile(path)
    except OSError as error:
        problem = f"the annotation {PIDFILE_CONTAINER}: cannot write {printable(path)} as the container's user"
        raise HookError(f"{problem}: {error.strerror}") from None
