# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's process, which becomes Dropbear: it takes on all that the container's own process has, and waits to be released."""

from __future__ import annotations

import posix

from .channel import PATIENCE, EndOfMessagesError, Forked, NoAnswerError, PortIsFree, ProgramsMounted, Run, expect
from .confinement import Confinement
from .content import DROPBEAR as BASE_DROPBEAR
from .entry import Entry
from .errors import HookError
from .paths import close_all_but, is_same
from .port import require_free
from .process import Process
from .target import DROPBEAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .channel import Pipes
    from .target import Programs, Target

PROGRAMS = f"{BASE_DROPBEAR}/bin"


def become_daemon(target: Target, pipes: Pipes) -> NoReturn:
    """Be the daemon of `target`: report to the hook, be confined, and when the hook says so run Dropbear."""
    try:
        pipes.close_others(pipes.from_daemon.writer, pipes.to_provisioner.writer, *_kept(pipes))
        _become(target, pipes)
    except (EndOfMessagesError, NoAnswerError, BrokenPipeError):
        pass  # hook or provisioner has ended, and nobody waits for the daemon
    except Exception as error:
        pipes.from_daemon.send_failure(error, "cannot start the SSH daemon")
    finally:
        posix._exit(1)


def _kept(pipes: Pipes) -> tuple[int, ...]:
    return pipes.release.reader, pipes.hook.reader, pipes.to_daemon.reader, pipes.ready.writer


def _become(target: Target, pipes: Pipes) -> None:
    container, namespaces = target.container, target.namespaces
    process = Process(int(posix.readlink("/proc/self")))  # as the host's /proc, which is still in sight, numbers it
    pipes.from_daemon.send(Forked(str(process.pid), str(process.start_time())))
    _adjust_oom_score(container.oom_score_adj)
    confinement = Confinement(
        container,
        target.labels,
        target.settings.require_seccomp,
        target.engine.state_directory,
        pipes.from_daemon,
    )
    target.cgroups.open()
    if namespaces is not None:
        namespaces.join_all_but_mount_and_user()
    require_free(target.port, target.listen, target.user, target.packages)
    pipes.to_provisioner.send(PortIsFree(str(posix.getpid())))

    target.cgroups.enter()
    entry = Entry(target)
    if namespaces is not None:
        namespaces.join("time")  # here, so that its start time is on the host's clock
    _detach(entry.null, {pipes.from_daemon.writer, *_kept(pipes), target.init.stat, entry.rootfs.descriptor})
    expect(pipes.to_daemon.receive(PATIENCE), ProgramsMounted)
    programs = _open_programs(entry, target.programs)
    for descriptor in (target.init.stat, pipes.ready.writer):
        posix.set_inheritable(descriptor, True)
    arguments = [DROPBEAR, "-F", "-e", "-S", f"{target.init.stat},{pipes.ready.writer}"]
    confinement.apply(entry.rootfs.descriptor, programs)

    # From here on only what any profile of system calls has to allow: the hook sees to it that this does not take long.
    options = expect(pipes.release.receive_by_read(), Run).texts
    if not pipes.hook.is_alive():
        raise EndOfMessagesError  # the process was stopped meanwhile, and the hook has given up
    _execute([*arguments, *options], container.environment)


def _adjust_oom_score(score: int | None) -> None:
    if score is None:
        return
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
            file.write(str(score))
    except PermissionError:
        pass  # lowering takes a right that an engine without root lacks; the session is killed the sooner


def _detach(null: int, kept: set[int]) -> None:
    """Leave the engine's session, and let go of all descriptors but those `kept`: some lead to the host."""
    posix.setsid()
    close_all_but(kept, null)
    for descriptor in kept:
        posix.set_inheritable(descriptor, False)


def _open_programs(entry: Entry, known: Programs) -> int:
    """The directory of Dropbear's programs in the container, where the hook has mounted it: `known` on the node.

    Who owns a directory above it can have the path lead to another one of hers, with a program that must not run before the
    container. So directory and file have to be the node's own, on a mount that nobody can write, and a link in it may lead to
    nothing but that file: another would lead elsewhere once the container's root is the process's.
    """
    directory = entry.rootfs.open(PROGRAMS, posix.O_PATH | posix.O_DIRECTORY)
    file = posix.open(known.name, posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=directory)
    is_known = is_same(known.directory, posix.fstat(directory)) and is_same(known.file, posix.fstat(file))
    is_known = is_known and (known.name == DROPBEAR or posix.readlink(DROPBEAR, dir_fd=directory) == known.name)
    if not is_known or not posix.fstatvfs(directory).f_flag & posix.ST_RDONLY:
        raise HookError(f"{PROGRAMS} in the container was moved while it was set up")
    posix.close(file)
    return directory


def _execute(arguments: list[str], environment: dict[str, str]) -> None:
    """Run the first of `arguments` out of the current directory."""
    try:
        posix.execve(arguments[0], arguments, environment)
    except PermissionError as error:
        raise HookError(
            f"cannot start the SSH daemon: {PROGRAMS}/{arguments[0]}: {error.strerror}: the container's AppArmor or SELinux "
            "profile, or the file system of DROPBEAR_DIR (noexec), does not allow it to run"
        ) from None
    except BlockingIOError:
        raise HookError(
            "cannot start the SSH daemon: its user has more processes than the container's limit RLIMIT_NPROC"
        ) from None
