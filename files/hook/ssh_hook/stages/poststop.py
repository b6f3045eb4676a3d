# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage poststop: end the recorded daemon and its sessions, and no other process."""

from __future__ import annotations

import time

from ..errors import HookError, LateError
from ..host import record
from ..host.record import Record
from ..kernel.lean import TYPE_CHECKING, closing, os
from ..kernel.process import Process, all_processes, descendants, parent_of
from ..log import DEBUG, ERROR, INFO, log

if TYPE_CHECKING:
    from ..spec.state import State

_TIMEOUT = 5.0  # seconds
_POLL = 0.002  # seconds


def poststop(state: State) -> None:
    """End the daemon that is recorded in the bundle, and its sessions; without a record, do nothing.

    Raises HookError where a process stays alive, or the record cannot be trusted.
    """
    try:
        bundle = os.open(state.bundle, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise HookError(f"cannot open the bundle {state.bundle}: {error.strerror}") from None
    with closing(bundle):
        known = record.read(bundle)
        if known is None:
            log(DEBUG, f"no SSH daemon is recorded in {state.bundle}")
        else:
            try:
                end(known)
            except LateError as error:
                log(ERROR, str(error))  # the daemon has ended; the user blocks only the removal of the pidfile
        record.remove(bundle, known)


def end(known: Record) -> None:
    """Kill the recorded daemon and all processes in its container, and remove its pidfile on the host.

    Raises HookError where a process stays alive, and LateError where the pidfile's user blocks the removal.
    """
    daemon = known.process()
    if daemon is not None:
        log(INFO, f"ending the SSH daemon with pid {known.pid}")
        _kill_all(daemon)
        daemon.close()
    if known.pidfile_host:
        from ..host.userfiles import remove_pidfile
        from ..kernel.identity import Identity

        is_root = os.geteuid() == 0  # else: a user's own sweep, outside of the user namespace
        user = Identity(known.numbers["uid"], known.numbers["gid"]) if is_root else None
        remove_pidfile(known.pidfile_host, known.pid, user)


def _kill_all(daemon: Process) -> None:
    """Kill the sessions, then the daemon: while it lives, the inode of its mount namespace cannot be reused."""
    hook = Process(os.getpid())
    namespace = daemon.mount_namespace()
    shared = namespace is None or namespace == hook.mount_namespace()
    hook.close()
    kill_with_sessions(daemon, None if shared else namespace)


def kill_with_sessions(daemon: Process, namespace: tuple[int, int] | None = None) -> None:
    """Kill the daemon's descendants, or all processes in the mount namespace `namespace`, and then the daemon.

    Raises HookError where it stays alive.
    """
    shared = namespace is None
    deadline = time.monotonic() + _TIMEOUT
    while daemon.is_alive():
        if time.monotonic() > deadline:
            raise HookError(f"the SSH daemon with pid {daemon.pid} does not end")
        known = descendants(daemon.pid) if shared else set()
        has_sessions = False
        for process in all_processes():
            is_session = parent_of(process) in known if shared else process.mount_namespace() == namespace
            if is_session and process.pid != daemon.pid and process.is_alive():
                process.kill()
                has_sessions = True
        if not has_sessions:
            daemon.kill()
        time.sleep(_POLL)
