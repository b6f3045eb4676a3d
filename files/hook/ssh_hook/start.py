# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's work at createRuntime: an SSH server inside the container that is being made.

The hook itself stays on the host: it keeps the daemon's record, and reports. Its provisioner reads the user's keys, joins the
container and sets it up; the daemon's process takes on the container's confinement meanwhile. When both are done, and the
daemon is recorded, the hook has the daemon's process run Dropbear, and waits until that listens. Dropbear serves nobody until
the container's first process runs its own program.

All but the keys is read before they part: each page that forked processes share is copied when one of them first writes to it.
"""

from __future__ import annotations

import posix
import time

from . import disposable, linux, record, userfiles
from .channel import (
    EndOfMessagesError,
    Failed,
    Forked,
    Keep,
    NoAnswerError,
    Pipes,
    Provisioned,
    Run,
    Warned,
    wait_for_messages,
)
from .container import read_container
from .errors import CONTAINER_ENDED, HookError, LateError
from .limits import raise_own_limits
from .log import INFO, WARNING, log
from .owner import find_owner
from .process import Process
from .provisioner import provision
from .target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import SIGKILL

    from .channel import Message, Pipe
    from .container import State
    from .owner import Owner
    from .settings import Settings
else:  # the C half of signal: its other half imports enum
    from _signal import SIGKILL

_TIMEOUT = 10.0  # seconds, of each wait
_END_TIMEOUT = 1.0  # seconds, for a process that was killed


def start(settings: Settings, state: State, bundle: int, packages: list[str]) -> None:
    """Start the daemon of the container and record it in its bundle, whose directory is open as `bundle`.

    `packages` are directories that hold pyroute2. Raises HookError; then nothing stays behind.
    """
    container = read_container(bundle, state.bundle)
    annotations = container.annotations
    log.level = annotations.log_level
    raise_own_limits(container)
    target = Target(container, settings, packages, state, bundle)
    owner = find_owner(target.user, target.engine, settings, annotations.user)
    log.stdout = userfiles.log_target(annotations.log_stdout, owner.file_owner, log.stdout)
    log.stderr = userfiles.log_target(annotations.log_stderr, owner.file_owner, log.stderr)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)  # no process of the container may look into those of the hook that join it
    pipes = Pipes()
    pid = linux.fork()
    if pid == 0:
        provision(target, owner, pipes)
    ends = (pipes.from_provisioner.reader, pipes.from_daemon.reader, pipes.ready.reader)
    pipes.close_others(*ends, pipes.release.writer, pipes.verdict.writer, pipes.hook.writer)
    Start(target, owner, pipes, pid).supervise()


class Start:
    """A start, from when its processes have parted, as the hook sees it."""

    def __init__(self, target: Target, owner: Owner, pipes: Pipes, provisioner: int) -> None:
        """`provisioner` is the pid of that process, a child."""
        self._target = target
        self._owner = owner
        self._pipes = pipes
        self._provisioner = provisioner
        self._daemon: Process | None = None
        self._record: record.Record | None = None
        self._has_pidfile = False  # on the host

    def supervise(self) -> None:
        """Record the daemon, release it, and return when it listens. Raises HookError; then there is no daemon."""
        try:
            options = self._await_setup()
            self._release(options)
            self._await_listening()
            if not self._target.init.is_alive():
                raise HookError(CONTAINER_ENDED)
            self._finish()
        except BaseException:
            self._roll_back()
            raise
        log(
            INFO, f"the SSH daemon of {self._owner.name} listens on port {self._target.port} (pid {self._record_pid()})"
        )

    def _record_pid(self) -> int:
        return self._record.pid if self._record is not None else 0

    def _await_setup(self) -> list[str]:
        """Record the daemon as soon as its process is there; return Dropbear's options when the container is set up."""
        deadline = time.monotonic() + _TIMEOUT
        options: list[str] | None = None
        while options is None or self._record is None:
            pipes = [self._pipes.from_daemon, self._pipes.from_provisioner]
            ready = wait_for_messages(pipes, deadline - time.monotonic())
            if not ready and time.monotonic() >= deadline:
                raise self._late()
            for pipe in ready:
                message = self._receive(pipe)
                if isinstance(message, Forked):
                    self._write_record(int(message.texts[0]), int(message.texts[1]))
                elif isinstance(message, Provisioned):
                    options = list(message.texts)
        return options

    def _receive(self, pipe: Pipe) -> Message | None:
        """The next message, None for a warning. Raises HookError for a failure, and where its sender has ended without one."""
        try:
            message = pipe.receive(0)
        except NoAnswerError:
            return None  # a part of it
        except EndOfMessagesError:
            raise self._ended() from None
        if isinstance(message, Failed):
            raise HookError(message.texts[0])
        if isinstance(message, Warned):
            log(WARNING, message.texts[0])
            return None
        return message

    def _ended(self) -> HookError:
        """Why provisioner or daemon's process has ended, as the other one may know: it ends then too."""
        for pipe in (self._pipes.from_daemon, self._pipes.from_provisioner):
            try:
                while True:
                    message = pipe.receive(_END_TIMEOUT)
                    if isinstance(message, Failed):
                        return HookError(message.texts[0])
            except (EndOfMessagesError, NoAnswerError):
                pass
        if not self._target.init.is_alive():
            return HookError(CONTAINER_ENDED)
        if self._daemon is not None and not self._daemon.is_alive():
            return HookError(f"cannot start the SSH daemon: {explain_wait_status(self._daemon.exit_status())}")
        return HookError(
            "the container could not be set up: a process of the hook was killed; has the container ended, or is the node "
            "out of memory?"
        )

    def _late(self) -> HookError:
        return LateError(
            f"cannot set the container up: no answer within {_TIMEOUT:.0f} s: the file system of its user's keys, of its home or of "
            "another volume hangs, or somebody holds a directory there, or has stopped a process of the hook's"
        )

    def _write_record(self, pid: int, start_time: int) -> None:
        target, owner = self._target, self._owner
        pidfile = target.container.annotations.pidfile_host
        try:
            self._daemon = _process(pid, start_time)
            self._record = record.record_of(
                (pid, start_time, target.programs.file.st_dev, target.programs.file.st_ino),
                target.init,
                owner.file_owner,
                pidfile,
                target.bundle,
                record.directory_of_copies(target.engine.runner),
            )
            record.write(self._record, target.bundle)
        except OSError as error:
            if not target.init.is_alive():
                raise HookError(CONTAINER_ENDED) from None
            raise HookError(f"cannot record the SSH daemon in {target.path}: {error.strerror}") from None
        if pidfile:
            self._has_pidfile = True
            try:
                userfiles.write_pidfile(pidfile, pid, owner.file_owner)
            except LateError:
                self._has_pidfile = False  # to remove it would be late too
                raise

    def _release(self, options: list[str]) -> None:
        try:
            self._pipes.release.send(Run(*options))
        except BrokenPipeError:
            raise self._ended() from None

    def _await_listening(self) -> None:
        """Return when Dropbear says that it listens. Raises HookError with what kept it from running, or from that."""
        ready, port = self._pipes.ready.reader, self._target.port
        deadline = time.monotonic() + _TIMEOUT
        while not linux.poll([ready], deadline - time.monotonic()):
            if time.monotonic() >= deadline:
                raise LateError(f"the SSH daemon does not listen on port {port}: no answer within {_TIMEOUT:.0f} s")
        if not posix.read(ready, 1):
            try:
                message = self._pipes.from_daemon.receive(0)
                if isinstance(message, Failed):
                    raise HookError(message.texts[0])
            except (EndOfMessagesError, NoAnswerError):
                pass
            status = None if self._daemon is None else self._daemon.exit_status()
            raise HookError(f"the SSH daemon does not listen on port {port}: {explain_wait_status(status)}")

    def _finish(self) -> None:
        """Let the provisioner write what outlives the container, and wait for its end. Raises HookError where it fails."""
        try:
            self._pipes.verdict.send(Keep())
        except BrokenPipeError:
            pass  # there was nothing to write, and it has ended
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
            posix.kill(self._provisioner, SIGKILL)
            disposable.reap(self._provisioner, _END_TIMEOUT)
        if self._record is not None:
            record.remove(self._target.bundle, self._record)
            if self._has_pidfile:
                try:
                    userfiles.remove_pidfile(self._record.pidfile_host, self._record.pid, self._owner.file_owner)
                except HookError as error:
                    log(WARNING, str(error))


def _process(pid: int, start_time: int) -> Process | None:
    """The process; None where it has ended."""
    try:
        process = Process(pid)
        return process if process.start_time() == start_time else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def explain_wait_status(status: int | None) -> str:
    """Say how a daemon that ended at its start with `status` (wait(2); None where it is not known) came to that, and what to do."""
    limits = "are the container's limits too low for it (podman: --memory, --ulimit)?"
    if status is not None and posix.WIFSIGNALED(status):
        return f"it was killed by signal {posix.WTERMSIG(status)} at its start; {limits}"
    return (
        f"it ended at its start; {limits + ' Else ' if status is None else ''}try another port by the annotation "
        "com.hooks.ssh.port, and see whether bin/dropbear in DROPBEAR_DIR runs on this node and the container's seccomp, "
        "AppArmor or SELinux profile allows a server"
    )
