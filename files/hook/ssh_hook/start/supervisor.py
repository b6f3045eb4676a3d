# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's part of a start: fork the other processes, supervise them, and roll back if one fails.

The hook stays on the host, records the daemon, and logs. The provisioner reads the user's keys, joins the container and
sets it up. Meanwhile the daemon's process takes on the container's confinement. When both have finished and the daemon
is recorded, the hook releases the daemon's process, which executes Dropbear. The hook waits until Dropbear listens.
Dropbear accepts no connection before its gate opens. All three have the hook's rights, which are root's or a rootless
engine's user's: the provisioner acts as the user where it touches her files, and the daemon's process gives up the rest
when it is confined. These two enter the container (enter.py).

The plan contains all input except the keys, so it is read before the first fork: copy-on-write faults cost more than
reading in parallel would save.
"""

from __future__ import annotations

import time

from ..errors import (
    ANNOTATION_WRONG,
    DAEMON_FAILED,
    HOME_HANGS,
    NO_MEMORY,
    PORT_UNUSABLE,
    SECCOMP_UNKNOWN,
    SYSTEM,
    ContainerEndedError,
    HookError,
    LateError,
    UnservedError,
    describe_failure,
    kind_of,
)
from ..fast_stdlib import TYPE_CHECKING, os, signal
from ..linux import disposable_process, syscalls
from ..log import INFO, WARNING, log
from ..node.user_keys import make_keys
from ..oci.settings import NO_PORT
from .channel import (
    UNLOGGED,
    Channel,
    EndOfMessagesError,
    Failed,
    Forked,
    KeysMissing,
    NoAnswerError,
    Provisioned,
    Unserved,
    Warned,
)
from .provisioner import provision

if TYPE_CHECKING:
    from ..linux.process import Process
    from .channel import HookEnd, Made
    from .plan import StartPlan

_TIMEOUT = 10.0  # seconds for each wait
_END_TIMEOUT = 1.0  # seconds for a process to exit after it has closed its pipes
_REAP_TIMEOUT = 5.0  # seconds for killed processes; a runtime may wait for one that the hook leaves behind
_POLL = 0.001  # seconds
_UNLOGGED = (
    "logins to the container are not recorded in the node's system log: its limits on processes, files or descriptors, "
    "or its seccomp, AppArmor or SELinux profile, do not let Dropbear send the lines"
)
_EXIT_1 = 1 << 8  # wait status of a daemon's process after the hook or the provisioner has exited


def start(plan: StartPlan) -> None:
    """Start the daemon, record it, and wait until it listens. Raises HookError, after a rollback."""
    annotations, server, owner = plan.container.annotations, plan.server, plan.owner
    if annotations.log_stdout or annotations.log_stderr:
        from ..node.userfiles import log_target  # here: few containers have these annotations, or a pidfile

        log.stdout = log_target(annotations.log_stdout, owner.file_owner, owner.entry.home, log.stdout)
        log.stderr = log_target(annotations.log_stderr, owner.file_owner, owner.entry.home, log.stderr)
    for warning in annotations.warnings:
        log(WARNING, warning, ANNOTATION_WRONG)
    is_served = fork(plan).supervise()
    if is_served and server.is_unpublished(owner.user):
        log.keep(
            WARNING,
            f"the container has its own network and does not publish port {server.port}, so other nodes cannot reach "
            f"its SSH daemon (podman: --publish {server.port}:{server.port}, or --network host)",
            PORT_UNUSABLE,
        )


def fork(plan: StartPlan) -> Supervisor:
    """Fork the provisioner; return its supervisor. The caller becomes undumpable and a subreaper. Raises OSError."""
    # Processes of the container must not trace the hook's processes that join it.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    # If the provisioner is killed, the intermediate process that forks the daemon must become the hook's child, not the
    # runtime's. It is in the container's pid namespace, and the first process there cannot exit before it is reaped.
    # The runtime would wait for the first process, and not reap it.
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    channel = Channel()
    provisioner = syscalls.fork()
    if provisioner == 0:
        provision(plan, channel)
    return Supervisor(plan, channel.hook_end(), provisioner)


class Supervisor:
    """The hook after the fork: it waits for the provisioner and the daemon, and rolls back if one fails.

    Attributes:
        daemon: the daemon's process; None if it has not been forked yet, or exited at once.
    """

    def __init__(self, plan: StartPlan, channel: HookEnd, provisioner: int) -> None:
        """Supervise `provisioner`, the pid of a child, and the daemon that it forks."""
        self.daemon: Process | None = None
        self._plan = plan
        self._channel = channel
        self._provisioner = provisioner
        self._pid = 0  # of the daemon, once it is recorded
        self._pid_in_file = 0  # the content of the pidfile on the host, once that is written

    def supervise(self) -> bool:
        """Record the daemon, release it, and wait until it listens. Raises HookError, after a rollback.

        Return False, after a rollback, if the container starts without SSH.
        """
        try:
            self._plan.logins.close()  # the forked processes have copies
            for warning in self._plan.confinement.warnings:
                log(WARNING, warning, SECCOMP_UNKNOWN)
            self._release(self._await_setup())
            self._await_listening()
            self._plan.ending.when_listening(self.daemon)
            if not self._plan.init.is_alive():
                raise ContainerEndedError()
            self._reap_provisioner()
        except UnservedError as error:
            self._roll_back()
            log(WARNING, str(error), error.kind)
            return False
        except BaseException:
            self._roll_back()
            raise
        name, place = self._plan.owner.name, self._plan.server.place
        log(INFO, f"the SSH daemon of {name} listens on {place} (pid {self._pid})")
        return True

    def made(self) -> list[Made]:
        """Return the changes that the provisioner has reported so far, for a container that outlives the daemon."""
        return self._channel.made

    def read_to_end(self) -> None:
        """Read the remaining reports of a provisioner that has ended, so that `made` is complete."""
        while self._channel.failure(0) is not None:
            pass  # it collects what was made

    def _await_setup(self) -> Provisioned:
        """Wait until the container is set up; record the daemon as soon as it is forked. Raises HookError."""
        deadline = time.monotonic() + _TIMEOUT
        provisioned: Provisioned | None = None
        while provisioned is None or not self._pid:
            try:
                message = self._channel.receive(deadline - time.monotonic())
            except NoAnswerError:
                raise self._timeout_error() from None
            except EndOfMessagesError:
                raise self._explain_end() from None
            if isinstance(message, Failed):
                raise HookError(message.kind, message.text)
            if isinstance(message, Unserved):
                raise UnservedError(message.kind, message.text)
            if isinstance(message, Warned):
                log(WARNING, message.text, message.kind)
            elif isinstance(message, KeysMissing):
                self._make_keys(message)
                deadline = time.monotonic() + _TIMEOUT
            elif isinstance(message, Forked):
                self._register(message)
                self._pid = message.pid
            elif isinstance(message, Provisioned):
                provisioned = message
        return provisioned

    def _make_keys(self, missing: KeysMissing) -> None:
        """Make the user's first set of keys, if the site allows that and the uid is confirmed. Raises HookError."""
        plan, owner = self._plan, self._plan.owner
        if not (plan.settings.make_keys and owner.is_vouched):
            raise HookError(missing.kind, missing.text)

        if make_keys(owner, plan.settings):
            log(INFO, f"created SSH keys for {owner.name}")
        try:
            self._channel.announce_keys()
        except BrokenPipeError:
            raise self._explain_end() from None

    def _explain_end(self) -> HookError:
        """Return why the provisioner or the daemon has exited. If one fails, both exit; either may have the reason."""
        failure = self._channel.failure(_END_TIMEOUT)
        if failure is not None:
            return HookError(*failure)
        if not self._plan.init.is_alive():
            return ContainerEndedError()
        if self.daemon is not None and _ends(self.daemon):
            status = self.daemon.exit_status()
            if status != _EXIT_1:
                return self._end_error("cannot start the SSH daemon", status)
        return HookError(
            NO_MEMORY,
            "the container could not be set up: a process of the hook was killed; has the container ended, or is the "
            "node out of memory?",
        )

    def _timeout_error(self) -> HookError:
        return LateError(
            HOME_HANGS,
            f"cannot set the container up: no answer within {_TIMEOUT:.0f} s: a file system hangs (of the user's keys, "
            "the container's root directory, its home or another volume), a process blocks a directory there, or a "
            "process of the hook was stopped",
        )

    def _register(self, daemon: Forked) -> None:
        plan = self._plan
        pidfile = plan.container.annotations.pidfile_host
        self.daemon = plan.registration.find(daemon)
        try:
            plan.door.open(daemon.pid, daemon.start_time)
        except HookError as error:
            if plan.server.port == NO_PORT:
                raise
            log(INFO, str(error))
        plan.registration.record(daemon, plan.door.path)
        if pidfile:
            from ..node import userfiles

            self._pid_in_file = daemon.pid
            try:
                userfiles.write_pidfile(pidfile, daemon.pid, plan.owner.file_owner)
            except LateError:
                self._pid_in_file = 0  # a removal would time out, too
                raise

    def _release(self, provisioned: Provisioned) -> None:
        self._plan.ending.before_release()
        try:
            self._channel.release(provisioned)
        except BrokenPipeError:
            raise self._explain_end() from None

    def _end_error(self, problem: str, status: int | None) -> HookError:
        is_killed = status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGSYS
        server = self._plan.server
        reason = explain_wait_status(status, "" if server.port == NO_PORT else server.port_option)
        return HookError(NO_MEMORY if is_killed else DAEMON_FAILED, f"{problem}: {reason}")

    def _await_listening(self) -> None:
        """Wait until Dropbear listens. Raises HookError, which contains the reason if it does not."""
        problem = f"the SSH daemon does not listen on {self._plan.server.place}"
        try:
            ready = self._channel.await_ready(_TIMEOUT)
        except NoAnswerError:
            raise LateError(DAEMON_FAILED, f"{problem}: no answer within {_TIMEOUT:.0f} s") from None
        if ready == UNLOGGED:
            log(WARNING, _UNLOGGED, SYSTEM)
        if ready:
            return
        failure = self._channel.failure(0)
        if failure is not None:
            raise HookError(*failure)
        if not self._plan.init.is_alive():
            raise ContainerEndedError()
        # Dropbear may serve in a child, which has the pipe `ready`. When that exits, so does the daemon, its parent.
        status = self.daemon.exit_status() if self.daemon is not None and _ends(self.daemon) else None
        raise self._end_error(problem, status)

    def _reap_provisioner(self) -> None:
        """Let the provisioner write the files that go into volumes, and reap it. Raises HookError."""
        self._channel.keep()
        status = disposable_process.reap(self._provisioner, _TIMEOUT)
        if status is None:
            raise self._timeout_error()
        self._provisioner = 0  # reaped: its pid may be reused
        if status != 0:
            raise self._explain_end()

    def _roll_back(self) -> None:
        """Kill the daemon and the provisioner; remove door, record and the pidfile on the host."""
        plan = self._plan
        plan.ending.roll_back(self.daemon)
        if self.daemon is not None:
            self.daemon.kill()
        if self._provisioner:
            os.kill(self._provisioner, signal.SIGKILL)
            _reap_children()
        try:
            plan.door.remove()
            plan.registration.remove()
            if self._pid_in_file:
                from ..node import userfiles

                pidfile = plan.container.annotations.pidfile_host
                userfiles.remove_pidfile(pidfile, self._pid_in_file, plan.owner.file_owner)
        except (HookError, OSError) as error:  # only logged: the caller reports the error that caused the rollback
            log(WARNING, describe_failure(error), kind_of(error))


def _ends(daemon: Process) -> bool:
    """Wait until `daemon` has exited, which is a moment after its pipes close. Return False if it stays alive."""
    deadline = time.monotonic() + _END_TIMEOUT
    while daemon.is_alive():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True


def _reap_children() -> None:
    """Reap the killed provisioner, and its children, which the hook has inherited as a subreaper."""
    deadline = time.monotonic() + _REAP_TIMEOUT
    try:
        while disposable_process.reap(-1, deadline - time.monotonic()) is not None:
            pass
    except ChildProcessError:
        pass  # none is left


def explain_wait_status(status: int | None, port_option: str) -> str:
    """Describe how a daemon exited during its start, and what to do.

    `status` is its wait status, None if unknown. `port_option` is how to choose another port, empty without a port.
    """
    limits = "are the container's limits too low for it (podman: --memory, --ulimit)?"
    if status is not None and os.WIFSIGNALED(status):
        return f"it was killed by signal {os.WTERMSIG(status)} at startup; {limits}"
    return (
        f"it exited at startup; {limits + ' Otherwise ' if status is None else ''}"
        f"{f'try another port with {port_option}, and ' if port_option else ''}see whether bin/dropbear in "
        "DROPBEAR_DIR "
        "runs on this node and the container's seccomp, AppArmor or SELinux profile allows a server"
    )
