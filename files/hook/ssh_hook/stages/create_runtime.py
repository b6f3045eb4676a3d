# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage createRuntime: start an SSH server inside the container that is being made.

The hook itself stays on the host: it writes the daemon's record, and reports. Its provisioner reads the user's keys, joins
the container and sets it up. The daemon's process takes on the container's confinement meanwhile. When both are done, and
the daemon is recorded, the hook lets the daemon's process run Dropbear, and waits until that listens. Dropbear serves nobody
until the container's first process runs its own program.

All input but the keys is read before the first fork: copy-on-write faults of shared pages cost more than reading in
parallel saves.
"""

from __future__ import annotations

import time

from ..confine.rlimits import raise_own_limits
from ..errors import CONTAINER_ENDED, HookError, LateError
from ..host import record, userfiles
from ..host.owner import find_owner
from ..kernel import disposable, syscalls
from ..kernel.lean import TYPE_CHECKING, os, signal
from ..kernel.process import Process
from ..log import INFO, WARNING, log
from ..spec.annotations import PORT
from ..spec.config import read_container
from .channel import Channel, EndOfMessagesError, Failed, Forked, NoAnswerError, Provisioned, Warned
from .context import StartContext
from .provisioner import provision

if TYPE_CHECKING:
    from ..host.owner import Owner
    from ..spec.settings import Settings
    from ..spec.state import State
    from .channel import HookEnd

_TIMEOUT = 10.0  # seconds, of each wait
_END_TIMEOUT = 1.0  # seconds, for a process that was killed


def create_runtime(settings: Settings, state: State, bundle: int, packages: list[str]) -> None:
    """Start the daemon of the container and record it in its bundle, whose directory is open as `bundle`.

    `packages` are directories that hold pyroute2. Raises HookError; then nothing stays behind.
    """
    container = read_container(bundle, state.bundle)
    annotations = container.annotations
    log.level = annotations.log_level
    raise_own_limits(container)
    context = StartContext(container, settings, packages, state, bundle)
    if _is_started(context):
        return
    owner = find_owner(context.user, context.engine, settings, annotations.user)
    log.stdout = userfiles.log_target(annotations.log_stdout, owner.file_owner, log.stdout)
    log.stderr = userfiles.log_target(annotations.log_stderr, owner.file_owner, log.stderr)
    syscalls.prctl(
        syscalls.PR_SET_DUMPABLE, 0
    )  # no process of the container may look into those of the hook that join it
    channel = Channel()
    provisioner = syscalls.fork()
    if provisioner == 0:
        provision(context, owner, channel)
    Supervisor(context, owner, channel.hook_end(), provisioner).supervise()


def _is_started(context: StartContext) -> bool:
    """Whether an earlier hook of this very start has started the daemon: hooks.d and a CDI device may both name the hook."""
    try:
        is_started = record.is_started(context.bundle, context.init)
    except (FileNotFoundError, ProcessLookupError):
        raise HookError(CONTAINER_ENDED) from None
    if is_started:
        log(INFO, f"{context.path}: an earlier hook of this start has started the SSH daemon: nothing to do")
    return is_started


class Supervisor:
    """The hook itself, from when the processes of the start have parted."""

    def __init__(self, context: StartContext, owner: Owner, channel: HookEnd, provisioner: int) -> None:
        """`provisioner` is the pid of that process, a child."""
        self._context = context
        self._owner = owner
        self._channel = channel
        self._provisioner = provisioner
        self._daemon: Process | None = None
        self._record: record.Record | None = None
        self._has_pidfile = False  # on the host

    def supervise(self) -> None:
        """Record the daemon, release it, and return when it listens. Raises HookError; then there is no daemon."""
        try:
            self._release(self._await_setup())
            self._await_listening()
            if not self._context.init.is_alive():
                raise HookError(CONTAINER_ENDED)
            self._finish()
        except BaseException:
            self._roll_back()
            raise
        pid = 0 if self._record is None else self._record.pid
        log(INFO, f"the SSH daemon of {self._owner.name} listens on port {self._context.port} (pid {pid})")

    def _await_setup(self) -> Provisioned:
        """Record the daemon as soon as its process is there; return when the container is set up."""
        deadline = time.monotonic() + _TIMEOUT
        provisioned: Provisioned | None = None
        while provisioned is None or self._record is None:
            try:
                message = self._channel.receive(deadline - time.monotonic())
            except NoAnswerError:
                raise self._late() from None
            except EndOfMessagesError:
                raise self._ended() from None
            if isinstance(message, Failed):
                raise HookError(message.text)
            if isinstance(message, Warned):
                log(WARNING, message.text)
            elif isinstance(message, Forked):
                self._write_record(message)
            elif isinstance(message, Provisioned):
                provisioned = message
        return provisioned

    def _ended(self) -> HookError:
        """Why provisioner or daemon's process has ended, as the other one may know: it ends then too."""
        failure = self._channel.failure(_END_TIMEOUT)
        if failure is not None:
            return HookError(failure)
        if not self._context.init.is_alive():
            return HookError(CONTAINER_ENDED)
        if self._daemon is not None and not self._daemon.is_alive():
            return HookError(f"cannot start the SSH daemon: {explain_wait_status(self._daemon.exit_status())}")
        return HookError(
            "the container could not be set up: a process of the hook was killed; has the container ended, or is the node "
            "out of memory?"
        )

    def _late(self) -> HookError:
        return LateError(
            f"cannot set the container up: no answer within {_TIMEOUT:.0f} s: the file system of its user's keys, of its home "
            "or of another volume hangs, or somebody holds a directory there, or has stopped a process of the hook's"
        )

    def _write_record(self, daemon: Forked) -> None:
        context, owner = self._context, self._owner
        pidfile = context.container.annotations.pidfile_host
        try:
            self._daemon = _process(daemon)
            self._record = record.record_of(
                (daemon.pid, daemon.start_time, context.programs.file.st_dev, context.programs.file.st_ino),
                context.init,
                owner.file_owner,
                pidfile,
                context.bundle,
                record.directory_of_copies(context.engine.host_uid),
            )
            record.write(self._record, context.bundle)
        except OSError as error:
            if not context.init.is_alive():
                raise HookError(CONTAINER_ENDED) from None
            raise HookError(f"cannot record the SSH daemon in {context.path}: {error.strerror}") from None
        if pidfile:
            self._has_pidfile = True
            try:
                userfiles.write_pidfile(pidfile, daemon.pid, owner.file_owner)
            except LateError:
                self._has_pidfile = False  # to remove it would be late too
                raise

    def _release(self, provisioned: Provisioned) -> None:
        try:
            self._channel.release(provisioned)
        except BrokenPipeError:
            raise self._ended() from None

    def _await_listening(self) -> None:
        """Return when Dropbear says that it listens. Raises HookError with what kept it from running, or from that."""
        problem = f"the SSH daemon does not listen on port {self._context.port}"
        try:
            if self._channel.is_ready(_TIMEOUT):
                return
        except NoAnswerError:
            raise LateError(f"{problem}: no answer within {_TIMEOUT:.0f} s") from None
        failure = self._channel.failure(0)
        if failure is not None:
            raise HookError(failure)
        status = None if self._daemon is None else self._daemon.exit_status()
        raise HookError(f"{problem}: {explain_wait_status(status)}")

    def _finish(self) -> None:
        """Let the provisioner write what outlives the container, and wait for its end. Raises HookError where it fails."""
        self._channel.keep()
        status = disposable.reap(self._provisioner, _TIMEOUT)
        if status is None:
            raise self._late()
        self._provisioner = 0  # its pid may be another's from now on
        if status != 0:
            raise self._ended()

    def _roll_back(self) -> None:
        """End the daemon wherever its start has come to, and the provisioner, and remove the record and the pidfile."""
        if self._daemon is not None:
            self._daemon.kill()
        if self._provisioner:
            os.kill(self._provisioner, signal.SIGKILL)
            disposable.reap(self._provisioner, _END_TIMEOUT)
        if self._record is not None:
            record.remove(self._context.bundle, self._record)
            if self._has_pidfile:
                try:
                    userfiles.remove_pidfile(self._record.pidfile_host, self._record.pid, self._owner.file_owner)
                except HookError as error:
                    log(WARNING, str(error))


def _process(daemon: Forked) -> Process | None:
    """Return the daemon's process; None where it has ended."""
    try:
        process = Process(daemon.pid)
        return process if process.start_time() == daemon.start_time else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def explain_wait_status(status: int | None) -> str:
    """Explain how a daemon ended at its start, by its wait status (wait(2); None where it is not known), and what to do."""
    limits = "are the container's limits too low for it (podman: --memory, --ulimit)?"
    if status is not None and os.WIFSIGNALED(status):
        return f"it was killed by signal {os.WTERMSIG(status)} at its start; {limits}"
    return (
        f"it ended at its start; {limits + ' Else ' if status is None else ''}try another port by the annotation "
        f"{PORT}, and see whether bin/dropbear in DROPBEAR_DIR runs on this node and the container's seccomp, "
        "AppArmor or SELinux profile allows a server"
    )
