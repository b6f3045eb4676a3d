# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's process: it enters and confines itself, waits for the hook, and execs Dropbear."""

from __future__ import annotations

from ..errors import DAEMON_FAILED, IMAGE_UNFIT, NO_MEMORY, ContainerEndedError, HookError
from ..fast_stdlib import TYPE_CHECKING, closing, os
from ..linux.files import close_all_but, is_same
from ..linux.process import Process
from ..oci.container_paths import PROGRAMS, SERVER_NAME
from ..oci.settings import NO_PORT
from .channel import EndOfMessagesError, Forked, NoAnswerError
from .enter import EnteredContainer
from .port_check import require_free

if TYPE_CHECKING:
    from typing import NoReturn

    from .channel import Channel, DaemonEnd
    from .plan import OpenRoot, StartPlan
    from .server import Programs


_DEFAULT_PREFIX = "OCIHOOKS_SSH_DEFAULT_"  # prefix of variables that sessions get unless they have their own


def become_daemon(plan: StartPlan, root: OpenRoot, channel: Channel) -> NoReturn:
    """Run the daemon's process: send Forked, enter, confine, await Run, and exec Dropbear. Errors go to the hook."""
    end = channel.daemon_end()
    try:
        _run_daemon(plan, root, end)
    except (EndOfMessagesError, NoAnswerError, BrokenPipeError):
        pass  # the hook or the provisioner has exited, and the start has failed
    except Exception as error:
        end.to_hook.fail(error, "cannot start the SSH daemon")
    finally:
        os._exit(1)


def _run_daemon(plan: StartPlan, root: OpenRoot, end: DaemonEnd) -> None:
    container, server, namespaces, ending = plan.container, plan.server, plan.namespaces, plan.ending
    confinement = plan.confinement
    process = Process(int(os.readlink("/proc/self")))  # its pid in the host's /proc, still mounted here
    init_pid = _own_pid(plan.init)  # in the container's user namespace, hidepid would hide the file that has it
    plan.registration.introduce(process)
    end.to_hook.send(Forked(process.pid, process.start_time()))
    _adjust_oom_score(container.oom_score_adj)
    plan.cgroups.open()
    namespaces.join_all_but_mount_and_user()
    if server.port != NO_PORT:
        require_free(server.port, server.addresses, root.owner.user, server.port_option, server.port_owner)
    end.announce_port(os.getpid())

    plan.cgroups.enter()
    entered = EnteredContainer(root, end.to_hook)
    namespaces.join(*plan.last_namespaces)  # after Forked, whose start time must be in the host's time namespace
    first = f"{init_pid},{_start_time(plan.init)}"
    ending.require(entered.rootfs)
    for_door, for_logins = plan.door.descriptors(), plan.logins.descriptors()
    kept = {*end.kept(), plan.gate, entered.rootfs.descriptor, *for_door, *for_logins, *ending.descriptors()}
    _detach(entered.null, kept)
    programs_mounted = end.await_programs()
    programs = _open_programs(entered, server.programs)
    ending.prepare()
    passed = [plan.gate, end.ready]
    mounts = ""
    if not root.mount.mount:
        confinement.change_root(entered.rootfs.descriptor, programs)
    else:
        with closing(os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)) as itself:
            # A mountinfo shows mounts as seen from the reader's root directory at the time of open(2).
            passed.append(os.open("mountinfo", os.O_RDONLY, dir_fd=itself))
            confinement.change_root(entered.rootfs.descriptor, programs)
            passed.append(os.open("mountinfo", os.O_RDONLY, dir_fd=itself))
        mounts = f",{root.mount.mount.decode()},{root.mount.above.decode()}"
    for descriptor in (*passed, *for_door, *for_logins):
        os.set_inheritable(descriptor, True)
    confinement.apply()

    defaults = {f"{_DEFAULT_PREFIX}{name}": value for name, value in plan.variables.items()}

    # From here on, only read(2) and execve(2), which every seccomp profile must allow. The hook enforces the timeout.
    run = end.await_run(programs_mounted)
    ending.before_exec(server.place)
    arguments = server.arguments(plan.unauthenticated, first, passed, mounts, run.host_keys)
    arguments += [*plan.door.arguments(), *plan.logins.arguments()]
    _execute(arguments, {**container.environment, **defaults})


def _own_pid(init: Process) -> int:
    """Return the pid of the container's first process as seen in the container. Raises HookError."""
    try:
        return init.own_pid()
    except (FileNotFoundError, ProcessLookupError, IndexError):
        raise ContainerEndedError() from None


def _start_time(init: Process) -> int:
    """Return the start time of the container's first process as seen in the container. Raises HookError.

    Must be called in the container's time namespace: the kernel shows start times by the reader's clock.
    """
    try:
        return init.start_time()
    except (FileNotFoundError, ProcessLookupError, IndexError):
        raise ContainerEndedError() from None


def _adjust_oom_score(score: int | None) -> None:
    if score is None:
        return
    try:
        with closing(os.open("/proc/self/oom_score_adj", os.O_WRONLY)) as descriptor:
            os.write(descriptor, str(score).encode())
    except PermissionError:
        pass  # lowering it requires CAP_SYS_RESOURCE, which a rootless engine lacks


def _detach(null: int, kept: set[int]) -> None:
    """Start a session (setsid(2)), and close all descriptors except `kept`: some refer to the host's files."""
    os.setsid()
    close_all_but(kept, null)
    for descriptor in kept:
        os.set_inheritable(descriptor, False)


def _open_programs(entered: EnteredContainer, expected: Programs) -> int:
    """Open the container's directory on which the provisioner has mounted Dropbear's programs. Raises HookError.

    The owner of a parent directory could replace it by one with another program. So directory and file must be the
    node's (`expected`), on a read-only mount. A link there must name that same file: the daemon follows it after
    chroot(2), where another target could lead elsewhere.
    """
    directory = entered.rootfs.open(PROGRAMS, os.O_PATH | os.O_DIRECTORY)
    with closing(os.open(expected.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)) as file:
        is_expected = is_same(expected.directory, os.fstat(directory)) and is_same(expected.file, os.fstat(file))
    is_expected = is_expected and (
        expected.name == SERVER_NAME or os.readlink(SERVER_NAME, dir_fd=directory) == expected.name
    )
    if not is_expected or not os.fstatvfs(directory).f_flag & os.ST_RDONLY:
        raise HookError(IMAGE_UNFIT, f"{PROGRAMS} in the container was moved during setup")
    return directory


def _execute(arguments: list[str], environment: dict[str, str]) -> None:
    """Exec Dropbear in the current directory, with these arguments. Raises HookError."""
    problem = "cannot start the SSH daemon"
    try:
        os.execve(SERVER_NAME, arguments, environment)
    except PermissionError as error:
        raise HookError(
            DAEMON_FAILED,
            f"{problem}: {arguments[0]}: {error.strerror}: the container's AppArmor or SELinux profile, or "
            "the file system of DROPBEAR_DIR (noexec), does not allow it to run",
        ) from None
    except BlockingIOError:
        raise HookError(
            NO_MEMORY, f"{problem}: its user has more processes than the container's limit RLIMIT_NPROC"
        ) from None
