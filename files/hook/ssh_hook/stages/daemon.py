# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's process: it takes on the confinement of the container's own process, waits for the hook, and becomes Dropbear."""

from __future__ import annotations

from ..confine.apply import Confinement
from ..errors import HookError
from ..kernel.files import close_all_but, is_same
from ..kernel.lean import TYPE_CHECKING, closing, os
from ..kernel.process import Process
from ..spec.container_paths import PROGRAMS
from .channel import EndOfMessagesError, Forked, NoAnswerError, Warned
from .context import DROPBEAR
from .enter import EnteredContainer
from .port import require_free

if TYPE_CHECKING:
    from typing import NoReturn

    from .channel import Channel, DaemonEnd
    from .context import Programs, StartContext


def become_daemon(context: StartContext, channel: Channel) -> NoReturn:
    """Be the daemon's process: report to the hook, be confined, and run Dropbear when the hook says so."""
    end = channel.daemon_end()
    try:
        _become(context, end)
    except (EndOfMessagesError, NoAnswerError, BrokenPipeError):
        pass  # hook or provisioner has ended, and nobody waits for the daemon
    except Exception as error:
        end.to_hook.fail(error, "cannot start the SSH daemon")
    finally:
        os._exit(1)


def _become(context: StartContext, end: DaemonEnd) -> None:
    container, namespaces = context.container, context.namespaces
    process = Process(int(os.readlink("/proc/self")))  # as the host's /proc, which is still in sight, numbers it
    end.to_hook.send(Forked(process.pid, process.start_time()))
    _adjust_oom_score(container.oom_score_adj)
    state_directory = context.engine.state_directory
    confinement = Confinement(container, context.labels, context.settings.require_seccomp, state_directory)
    for warning in confinement.warnings:
        end.to_hook.send(Warned(warning))
    context.cgroups.open()
    if namespaces is not None:
        namespaces.join_all_but_mount_and_user()
    require_free(context.port, context.listen, context.user, context.packages)
    end.announce_port(os.getpid())

    context.cgroups.enter()
    entered = EnteredContainer(context)
    if namespaces is not None:
        namespaces.join("time")  # here, so that its start time is on the host's clock
    _detach(entered.null, {*end.kept(), context.init.stat, entered.rootfs.descriptor})
    programs_mounted = end.await_programs()
    programs = _open_programs(entered, context.programs)
    for descriptor in (context.init.stat, end.ready):
        os.set_inheritable(descriptor, True)
    arguments = [DROPBEAR, "-F", "-e", "-S", f"{context.init.stat},{end.ready}"]
    confinement.apply(entered.rootfs.descriptor, programs)

    # From here on only what any profile of system calls has to allow: the hook sees to it that this does not take long.
    run = end.await_run(programs_mounted)
    _execute([*arguments, *run.options], container.environment)


def _adjust_oom_score(score: int | None) -> None:
    if score is None:
        return
    try:
        with closing(os.open("/proc/self/oom_score_adj", os.O_WRONLY)) as descriptor:
            os.write(descriptor, str(score).encode())
    except PermissionError:
        pass  # lowering takes a right that an engine without root lacks; the session is killed the sooner


def _detach(null: int, kept: set[int]) -> None:
    """Leave the engine's session, and let go of all descriptors but those `kept`: some lead to the host."""
    os.setsid()
    close_all_but(kept, null)
    for descriptor in kept:
        os.set_inheritable(descriptor, False)


def _open_programs(entered: EnteredContainer, known: Programs) -> int:
    """Open the directory of Dropbear's programs in the container, where the provisioner has mounted it: `known` on the node.

    Who owns a directory above it can have the path lead to another one of hers, with a program that must not run before the
    container. So directory and file have to be the node's own, on a mount that nobody can write, and a link in it may lead to
    nothing but that file: another would lead elsewhere once the container's root is the process's.
    """
    directory = entered.rootfs.open(PROGRAMS, os.O_PATH | os.O_DIRECTORY)
    with closing(os.open(known.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)) as file:
        is_known = is_same(known.directory, os.fstat(directory)) and is_same(known.file, os.fstat(file))
    is_known = is_known and (known.name == DROPBEAR or os.readlink(DROPBEAR, dir_fd=directory) == known.name)
    if not is_known or not os.fstatvfs(directory).f_flag & os.ST_RDONLY:
        raise HookError(f"{PROGRAMS} in the container was moved while it was set up")
    return directory


def _execute(arguments: list[str], environment: dict[str, str]) -> None:
    """Run the first of `arguments` out of the current directory."""
    problem = "cannot start the SSH daemon"
    try:
        os.execve(arguments[0], arguments, environment)
    except PermissionError as error:
        raise HookError(
            f"{problem}: {PROGRAMS}/{arguments[0]}: {error.strerror}: the container's AppArmor or SELinux profile, or the file "
            "system of DROPBEAR_DIR (noexec), does not allow it to run"
        ) from None
    except BlockingIOError:
        raise HookError(f"{problem}: its user has more processes than the container's limit RLIMIT_NPROC") from None
