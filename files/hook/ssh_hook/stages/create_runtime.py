# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage createRuntime: start an SSH server inside the container that is being made.

The hook itself stays on the host, records the daemon, and logs. Its provisioner reads the user's keys, joins the
container and sets it up, while the daemon's process takes on the container's confinement. When both are done, and the
daemon is recorded, the hook releases the daemon's process, which execs Dropbear, and waits until Dropbear listens.
Dropbear accepts no connection until the container's first process has executed its program.

All input but the keys is read before the first fork: copy-on-write faults of shared pages cost more than reading in
parallel saves.
"""

from __future__ import annotations

import time

from ..confine.rlimits import raise_own_limits
from ..errors import CONTAINER_ENDED, HookError, LateError, UnservedError, describe_failure
from ..host import record, userfiles
from ..host.credentials import make_keys
from ..host.engine import directory_of_copies
from ..host.owner import find_owner
from ..kernel import disposable_process, syscalls
from ..kernel.lean import TYPE_CHECKING, environment, os, signal
from ..kernel.process import Process
from ..log import INFO, WARNING, log
from ..spec.annotations import ENABLED
from ..spec.oci_config import read_container
from ..spec.settings import Settings
from .channel import (
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
from .context import StartContext
from .provisioner import provision

if TYPE_CHECKING:
    from ..host.owner import Owner
    from ..spec.state import State
    from .channel import HookEnd

_TIMEOUT = 10.0  # seconds for each wait
_END_TIMEOUT = 1.0  # seconds for a process that ends or was killed


def create_runtime(state: State, packages: list[str]) -> None:
    """Start the container's daemon and record it in the bundle. `packages` are directories that hold pyroute2.

    Raises HookError, after a rollback.
    """
    settings = Settings(environment())
    bundle = os.open(state.bundle, os.O_RDONLY | os.O_DIRECTORY)
    container = read_container(bundle, state.bundle)
    annotations = container.annotations
    log.level = annotations.log_level
    if annotations.is_undecided:
        log(WARNING, f"the annotation {ENABLED} is neither true nor false, so the container has no SSH: give true")
        return
    raise_own_limits(container)
    start_daemon(StartContext(container, settings, packages, state, bundle))


def start_daemon(context: StartContext) -> None:
    """Start the daemon of `context`, record it, and wait until it listens; do nothing where an earlier hook has.

    Raises HookError, after a rollback.
    """
    if _is_started(context):
        return
    annotations, settings = context.container.annotations, context.settings
    owner = find_owner(context.user, context.engine, settings, annotations.user)
    log.stdout = userfiles.log_target(annotations.log_stdout, owner.file_owner, log.stdout)
    log.stderr = userfiles.log_target(annotations.log_stderr, owner.file_owner, log.stderr)
    # Processes of the container must not trace those of the hook that join it.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    for warning in annotations.warnings:
        log(WARNING, warning)
    channel = Channel()
    provisioner = syscalls.fork()
    if provisioner == 0:
        provision(context, owner, channel)
    is_served = Supervisor(context, owner, channel.hook_end(), provisioner).supervise()
    server = context.server
    if is_served and server.is_unpublished(context.user):
        log.keep(
            WARNING,
            f"the container has a network of its own, and its port {server.port} is not published: other nodes do not "
            f"reach its SSH daemon (podman: --publish {server.port}:{server.port}, or --network host)",
        )


def _is_started(context: StartContext) -> bool:
    """Tell whether an earlier hook of this start has started the daemon: hooks.d and a CDI device may both name it."""
    try:
        is_started = record.is_started(context.bundle, context.init)
    except (FileNotFoundError, ProcessLookupError):
        raise HookError(CONTAINER_ENDED) from None
    if is_started:
        log(INFO, f"{context.path}: an earlier hook of this start has started the SSH daemon: nothing to do")
    return is_started


class Supervisor:
    """The hook itself after the fork: it waits for provisioner and daemon, and rolls back where one fails."""

    def __init__(self, context: StartContext, owner: Owner, channel: HookEnd, provisioner: int) -> None:
        """Supervise `provisioner`, the pid of a child, and the daemon that it forks."""
        self._context = context
        self._owner = owner
        self._channel = channel
        self._provisioner = provisioner
        self._daemon: Process | None = None
        self._pid = 0  # of the daemon, once it is recorded
        self._record: record.Record | None = None
        self._has_pidfile = False  # on the host

    def supervise(self) -> bool:
        """Record the daemon, release it, and wait until it listens. Raises HookError, after a rollback.

        Return False, after a rollback, where the container is to start without SSH.
        """
        try:
            self._release(self._await_setup())
            self._await_listening()
            if not self._context.init.is_alive():
                raise HookError(CONTAINER_ENDED)
            self._reap_provisioner()
        except UnservedError as error:
            self._roll_back()
            log(WARNING, str(error))
            return False
        except BaseException:
            self._roll_back()
            raise
        log(INFO, f"the SSH daemon of {self._owner.name} listens on port {self._context.server.port} (pid {self._pid})")
        return True

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
                raise HookError(message.text)
            if isinstance(message, Unserved):
                raise UnservedError(message.text)
            if isinstance(message, Warned):
                log(WARNING, message.text)
            elif isinstance(message, KeysMissing):
                self._make_keys(message)
                deadline = time.monotonic() + _TIMEOUT
            elif isinstance(message, Forked):
                self._write_record(message)
                self._pid = message.pid
            elif isinstance(message, Provisioned):
                provisioned = message
        return provisioned

    def _make_keys(self, missing: KeysMissing) -> None:
        """Make the user's first key set, if somebody vouches for the user and the site allows it. Raises HookError."""
        context, owner = self._context, self._owner
        if not (context.settings.make_keys and owner.is_vouched):
            raise HookError(missing.text)

        if make_keys(owner, context.settings):
            log(INFO, f"made SSH keys for {owner.name}")
        try:
            self._channel.announce_keys()
        except BrokenPipeError:
            raise self._explain_end() from None

    def _explain_end(self) -> HookError:
        """Return why provisioner or daemon has ended. If one fails, the other ends too, so either may know."""
        failure = self._channel.failure(_END_TIMEOUT)
        if failure is not None:
            return HookError(failure)
        if not self._context.init.is_alive():
            return HookError(CONTAINER_ENDED)
        if self._daemon is not None and not self._daemon.is_alive():
            return HookError(f"cannot start the SSH daemon: {self._explain(self._daemon.exit_status())}")
        return HookError(
            "the container could not be set up: a process of the hook was killed; has the container ended, or is the "
            "node out of memory?"
        )

    def _timeout_error(self) -> HookError:
        return LateError(
            f"cannot set the container up: no answer within {_TIMEOUT:.0f} s: the file system of its user's keys, of "
            "its root directory, its home or another volume hangs, or somebody holds a directory there, or has stopped "
            "a process of the hook's"
        )

    def _write_record(self, daemon: Forked) -> None:
        context, owner = self._context, self._owner
        pidfile = context.container.annotations.pidfile_host
        try:
            self._daemon = find_process(daemon)
            self._record = record.record_of(
                (daemon.pid, daemon.start_time, context.programs.file.st_dev, context.programs.file.st_ino),
                context.init,
                owner.file_owner,
                pidfile,
                context.bundle,
                "" if context.watcher is not None else directory_of_copies(context.engine.host_uid),
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
                self._has_pidfile = False  # its removal would time out too
                raise

    def _release(self, provisioned: Provisioned) -> None:
        try:
            self._channel.release(provisioned)
        except BrokenPipeError:
            raise self._explain_end() from None

    def _explain(self, status: int | None) -> str:
        return explain_wait_status(status, self._context.server.port_option)

    def _await_listening(self) -> None:
        """Wait until Dropbear listens. Raises HookError, which says why it does not run or listen."""
        problem = f"the SSH daemon does not listen on port {self._context.server.port}"
        try:
            if self._channel.is_ready(_TIMEOUT):
                return
        except NoAnswerError:
            raise LateError(f"{problem}: no answer within {_TIMEOUT:.0f} s") from None
        failure = self._channel.failure(0)
        if failure is not None:
            raise HookError(failure)
        status = None if self._daemon is None else self._daemon.exit_status()
        raise HookError(f"{problem}: {self._explain(status)}")

    def _reap_provisioner(self) -> None:
        """Let the provisioner write the files that outlive the container, and reap it. Raises HookError."""
        self._channel.keep()
        status = disposable_process.reap(self._provisioner, _TIMEOUT)
        if status is None:
            raise self._timeout_error()
        self._provisioner = 0  # reaped: its pid may be reused
        if status != 0:
            raise self._explain_end()

    def _roll_back(self) -> None:
        """Kill the daemon, at whatever step it is, and the provisioner; remove the record and the host's pidfile."""
        if self._daemon is not None:
            self._daemon.kill()
        if self._provisioner:
            os.kill(self._provisioner, signal.SIGKILL)
            disposable_process.reap(self._provisioner, _END_TIMEOUT)
        if self._record is None:
            return
        try:
            record.remove(self._context.bundle, self._record)
            if self._has_pidfile:
                userfiles.remove_pidfile(self._record.pidfile_host, self._record.pid, self._owner.file_owner)
        except (HookError, OSError) as error:  # the error that the rollback is for must be told
            log(WARNING, describe_failure(error))


def find_process(daemon: Forked) -> Process | None:
    """Return the daemon's process; None where it has ended."""
    try:
        process = Process(daemon.pid)
        return process if process.start_time() == daemon.start_time else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def explain_wait_status(status: int | None, port_option: str) -> str:
    """Say how a daemon ended at its start, and what to do; `status` is its wait status, None where that is unknown."""
    limits = "are the container's limits too low for it (podman: --memory, --ulimit)?"
    if status is not None and os.WIFSIGNALED(status):
        return f"it was killed by signal {os.WTERMSIG(status)} at its start; {limits}"
    return (
        f"it ended at its start; {limits + ' Else ' if status is None else ''}try another port by "
        f"{port_option}, and see whether bin/dropbear in DROPBEAR_DIR runs on this node and the container's seccomp, "
        "AppArmor or SELinux profile allows a server"
    )
