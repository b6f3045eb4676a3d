# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage poststop: end what createRuntime started, by identity, and nothing else."""

from __future__ import annotations

import time

from ..errors import HookError, LateError
from ..host import record
from ..host.record import Record
from ..kernel.lean import TYPE_CHECKING, closing, os
from ..kernel.process import Process, all_processes
from ..log import DEBUG, ERROR, INFO, log

if TYPE_CHECKING:
    from ..spec.state import State

_TIMEOUT = 5.0  # seconds
_POLL = 0.002  # seconds


def poststop(state: State) -> None:
    """End the daemon that a start recorded beside the bundle, with its sessions; without a record, do nothing.

    Raises HookError when something stays alive, or the record cannot be trusted.
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
                log(ERROR, str(error))  # the daemon has ended; who holds up her own pidfile keeps it
        record.remove(bundle, known)


def end(known: Record) -> None:
    """End the recorded daemon and all processes of its container, and take its pidfile away.

    Raises HookError when one stays alive, and LateError where the pidfile's user holds that up.
    """
    daemon = known.process()
    if daemon is not None:
        log(INFO, f"ending the SSH daemon with pid {known.pid}")
        _end_all(daemon)
        daemon.close()
    if known.pidfile_host:
        from ..host.userfiles import remove_pidfile
        from ..kernel.identity import Identity

        is_root = os.geteuid() == 0  # else it is a sweep of the user's own, outside of the engine's user namespace
        user = Identity(known.numbers["uid"], known.numbers["gid"]) if is_root else None
        remove_pidfile(known.pidfile_host, known.pid, user)


def _end_all(daemon: Process) -> None:
    """Kill the sessions first: as long as the daemon lives, its mount namespace cannot be another's."""
    hook = Process(os.getpid())
    namespace = daemon.mount_namespace()
    shared = namespace is None or namespace == hook.mount_namespace()
    hook.close()
    deadline = time.monotonic() + _TIMEOUT
    while daemon.is_alive():
        if time.monotonic() > deadline:
            raise HookError(f"the SSH daemon with pid {daemon.pid} does not end")
        family = _descendants(daemon.pid) if shared else set()
        has_sessions = False
        for process in all_processes():
            is_family = _parent(process) in family if shared else process.mount_namespace() == namespace
            if is_family and process.pid != daemon.pid and process.is_alive():
                process.kill()
                has_sessions = True
        if not has_sessions:
            daemon.kill()
        time.sleep(_POLL)


def _descendants(ancestor: int) -> set[int]:
    """The pids of `ancestor` and of all that descend from it."""
    parents = {process.pid: _parent(process) for process in all_processes()}
    found = {ancestor}
    size = 0
    while len(found) > size:
        size = len(found)
        found.update(pid for pid, parent in parents.items() if parent in found)
    return found


def _parent(process: Process) -> int:
    try:
        return process.parent()
    except OSError:
        return 0
