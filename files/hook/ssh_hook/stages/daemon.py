# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's process: it takes on the container's confinement, waits for the hook, and execs Dropbear."""

from __future__ import annotations

from ..confine.apply import Confinement
from ..confine.unauthenticated import unauthenticated_processes
from ..errors import HookError
from ..host.engine import state_directory
from ..kernel import syscalls
from ..kernel.files import close_all_but, is_same
from ..kernel.lean import TYPE_CHECKING, closing, os, signal
from ..kernel.process import Process
from ..spec.container_paths import PROGRAMS, SERVER_NAME
from .channel import EndOfMessagesError, Forked, NoAnswerError, Warned
from .enter import EnteredContainer
from .port import require_free

if TYPE_CHECKING:
    from typing import NoReturn

    from ..kernel.root_mount import RootMount
    from .channel import Channel, DaemonEnd
    from .context import StartContext
    from .server import Programs


def become_daemon(context: StartContext, root: RootMount | None, channel: Channel) -> NoReturn:
    """Run the daemon's process: send Forked, enter and confine, await Run, and exec Dropbear. Errors go to the hook."""
    end = channel.daemon_end()
    try:
        _run_daemon(context, root, end)
    except (EndOfMessagesError, NoAnswerError, BrokenPipeError):
        pass  # the hook or the provisioner has ended, and the start has failed
    except Exception as error:
        end.to_hook.fail(error, "cannot start the SSH daemon")
    finally:
        os._exit(1)


def _run_daemon(context: StartContext, root: RootMount | None, end: DaemonEnd) -> None:
    container, namespaces, server = context.container, context.namespaces, context.server
    process = Process(int(os.readlink("/proc/self")))  # its pid in the host's /proc, still mounted here
    if context.introduction is not None:
        context.introduction.send(process)
    end.to_hook.send(Forked(process.pid, process.start_time()))
    _adjust_oom_score(container.oom_score_adj)
    cache = state_directory(context.engine.host_uid)
    confinement = Confinement(container, context.labels, context.settings.require_seccomp, cache)
    for warning in confinement.warnings:
        end.to_hook.send(Warned(warning))
    context.cgroups.open()
    unauthenticated = unauthenticated_processes(context.cgroups, container)
    if namespaces is not None:
        namespaces.join_all_but_mount_and_user()
    require_free(server.port, server.addresses, context.user, context.packages, server.port_option)
    end.announce_port(os.getpid())

    context.cgroups.enter()
    entered = EnteredContainer(context, root)
    if namespaces is not None:
        namespaces.join(*context.last_namespaces)  # after Forked, whose start time has to be by the host's clock
    watcher = context.watcher
    gate = context.init.stat if context.gate is None else context.gate.descriptor
    kept = {*end.kept(), gate, entered.rootfs.descriptor}
    if watcher is not None:
        watcher.require_proc(entered.rootfs)
        kept |= watcher.descriptors()
    _detach(entered.null, kept)
    programs_mounted = end.await_programs()
    programs = _open_programs(entered, context.programs)
    if context.opened is not None:
        _serve_supervisor()
    passed = [gate, end.ready]
    mounts = ""
    if root is None or not root.mount:
        confinement.change_root(entered.rootfs.descriptor, programs)
    else:
        with closing(os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)) as itself:
            # A mountinfo shows mounts as seen from the root directory that its reader had when it was opened.
            passed.append(os.open("mountinfo", os.O_RDONLY, dir_fd=itself))
            confinement.change_root(entered.rootfs.descriptor, programs)
            passed.append(os.open("mountinfo", os.O_RDONLY, dir_fd=itself))
        mounts = f",{root.mount.decode()},{root.above.decode()}"
    for descriptor in passed:
        os.set_inheritable(descriptor, True)
    confinement.apply()

    # From here on only read(2) and execve(2), which every seccomp profile must allow. The hook enforces the timeout.
    run = end.await_run(programs_mounted)
    if watcher is not None:  # there is no such profile then
        watcher.fork(server.port)
    _execute(server.arguments(unauthenticated, passed, mounts, run), container.environment)


def _serve_supervisor() -> None:
    """Be the parent of all orphans among the sessions' processes, and end with the caller's parent, past execve(2)."""
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def _adjust_oom_score(score: int | None) -> None:
    if score is None:
        return
    try:
        with closing(os.open("/proc/self/oom_score_adj", os.O_WRONLY)) as descriptor:
            os.write(descriptor, str(score).encode())
    except PermissionError:
        pass  # lowering takes CAP_SYS_RESOURCE, which a rootless engine lacks


def _detach(null: int, kept: set[int]) -> None:
    """Start a session (setsid(2)), and close all descriptors except `kept`: some refer to the host's files."""
    os.setsid()
    close_all_but(kept, null)
    for descriptor in kept:
        os.set_inheritable(descriptor, False)


def _open_programs(entered: EnteredContainer, expected: Programs) -> int:
    """Open the directory in the container on which the provisioner has mounted Dropbear's programs. Raises HookError.

    The owner of a directory above it could replace it by one with another program. So directory and file must be the
    node's (`expected`), on a read-only mount. A link there must name that very file: the daemon follows it after
    chroot(2), where another target could lead elsewhere.
    """
    directory = entered.rootfs.open(PROGRAMS, os.O_PATH | os.O_DIRECTORY)
    with closing(os.open(expected.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)) as file:
        is_expected = is_same(expected.directory, os.fstat(directory)) and is_same(expected.file, os.fstat(file))
    is_expected = is_expected and (
        expected.name == SERVER_NAME or os.readlink(SERVER_NAME, dir_fd=directory) == expected.name
    )
    if not is_expected or not os.fstatvfs(directory).f_flag & os.ST_RDONLY:
        raise HookError(f"{PROGRAMS} in the container was moved while it was set up")
    return directory


def _execute(arguments: list[str], environment: dict[str, str]) -> None:
    """Exec Dropbear in the current directory, with these arguments. Raises HookError."""
    problem = "cannot start the SSH daemon"
    try:
        os.execve(SERVER_NAME, arguments, environment)
    except PermissionError as error:
        raise HookError(
            f"{problem}: {arguments[0]}: {error.strerror}: the container's AppArmor or SELinux profile, or "
            "the file system of DROPBEAR_DIR (noexec), does not allow it to run"
        ) from None
    except BlockingIOError:
        raise HookError(f"{problem}: its user has more processes than the container's limit RLIMIT_NPROC") from None
