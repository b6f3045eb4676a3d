# SPDX-License-Identifier: GPL-3.0-or-later
"""The provisioner: a process of the hook's that joins the container, puts into it what sessions take, and ends.

It stays in the hook's own pid namespace, out of the container's sight, so that the container can end even where the
provisioner is held up by a directory of the user's. The daemon's process it forks by way of one in the container's pid
namespace, which ends at once: so the daemon falls to the container's first process, and the namespace can end.
"""

from __future__ import annotations

import posix

from . import linux
from .channel import (
    PATIENCE,
    EndOfMessagesError,
    Failed,
    Keep,
    NoAnswerError,
    PortIsFree,
    ProgramsMounted,
    Provisioned,
    Warned,
    expect,
)
from .container import DEFAULT_PIDFILE
from .daemon import become_daemon
from .entry import Entry
from .errors import HookError
from .login import read_login
from .settings import printable
from .setup import Setup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .channel import Pipes
    from .owner import Owner
    from .rootfs import Rootfs
    from .target import Target


def provision(target: Target, owner: Owner, pipes: Pipes) -> NoReturn:
    """Be the provisioner: fork the daemon's process, and set the container up. What outlives the container waits until the
    daemon listens. The exit status is 0 when all is done.
    """
    status = 1
    try:
        _close_output()
        _fork_daemon(target, pipes)
        pipes.close_others(
            pipes.from_provisioner.writer, pipes.to_provisioner.reader, pipes.to_daemon.writer, pipes.verdict.reader
        )
        _provision(target, owner, pipes)
        status = 0
    except (EndOfMessagesError, NoAnswerError, BrokenPipeError):
        pass  # the daemon's process has told the hook why, or the hook is gone
    except Exception as error:
        pipes.from_provisioner.send_failure(error, "cannot set the container up")
    finally:
        posix._exit(status)


def _close_output() -> None:
    """Let go of what a runtime waits for: it has to see the hook's end, and not the provisioner's, which may be held up."""
    null = posix.open("/dev/null", posix.O_RDWR)
    for descriptor in (0, 1, 2):
        posix.dup2(null, descriptor)


def _fork_daemon(target: Target, pipes: Pipes) -> None:
    if target.namespaces is not None:
        target.namespaces.join("pid")  # of the children
    try:
        pid = linux.fork()
    except OSError as error:
        reason = error.strerror  # of an ended pid namespace that is "Cannot allocate memory"
        raise HookError(f"cannot start a process in the container: {reason}; has the container ended?") from None
    if pid == 0:
        status = 1
        try:
            if target.cgroups.fork() == 0:
                become_daemon(target, pipes)
            status = 0
        except OSError as error:
            pipes.from_provisioner.send(Failed(f"cannot start a process in the container: {error.strerror}"))
        finally:
            posix._exit(status)
    posix.waitpid(pid, 0)


def _provision(target: Target, owner: Owner, pipes: Pipes) -> None:
    container, settings = target.container, target.settings
    login = read_login(container, owner, settings)  # by this process, since a user can hold up whoever reads her files
    entry = Entry(target)
    if target.namespaces is not None:
        target.namespaces.close()
    programs = _open_programs(f"{settings.dropbear_dir}/bin")
    in_user_namespace = target.engine.is_rootless or target.has_user_namespace()
    setup = Setup(container, owner.name, settings, entry.rootfs, target.labels.mount_context, in_user_namespace)
    free = expect(pipes.to_provisioner.receive(PATIENCE), PortIsFree)
    setup.mount(programs)
    pipes.to_daemon.send(ProgramsMounted())
    options = setup.provide(login)
    for warning in setup.warnings:
        pipes.from_provisioner.send(Warned(warning))
    pidfile = _open_pidfile(entry.rootfs, container.annotations.pidfile_container)
    for place in [f"[{address}]:{target.port}" for address in target.listen] or [str(target.port)]:
        options += ["-p", place]
    pipes.from_provisioner.send(Provisioned(*options, "-P", DEFAULT_PIDFILE))
    if pidfile is None and settings.overlay:
        return  # nothing of it outlives the container
    expect(pipes.verdict.receive(PATIENCE), Keep)
    if pidfile is not None:
        posix.write(pidfile, f"{free.texts[0]}\n".encode())
    setup.finish(login)


def _open_programs(path: str) -> int:
    try:
        descriptor = posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise HookError(f"cannot open {path} (DROPBEAR_DIR in the OCI hook's JSON file): {error.strerror}") from None
    return descriptor


def _open_pidfile(rootfs: Rootfs, path: str) -> int | None:
    """The pidfile that the annotation names, empty; None where it is Dropbear's own."""
    if path == DEFAULT_PIDFILE:
        return None
    try:
        return rootfs.pidfile(path)
    except OSError as error:
        problem = (
            f"the annotation com.hooks.ssh.pidfile_container: cannot write {printable(path)} as the container's user"
        )
        raise HookError(f"{problem}: {error.strerror}") from None
