# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's work at poststop: end what it started, by identity, and nothing else."""

from __future__ import annotations

import os
import time

from . import record
from .errors import HookError
from .log import DEBUG, INFO, log
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from signal import SIGKILL, pidfd_send_signal

    from .container import State
else:  # the C half of signal: its other half imports enum
    from _signal import SIGKILL, pidfd_send_signal

_TIMEOUT = 5.0  # seconds
_POLL = 0.002  # seconds


def stop(state: State) -> None:
    """End the daemon that a start recorded beside the bundle, with its sessions; without a record, do nothing.

    Raises HookError when something stays alive, or the record cannot be trusted.
    """
    try:
        bundle = os.open(state.bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HookError(f"cannot open the bundle {state.bundle}: {error.strerror}") from None
    try:
        known = record.read(bundle)
        if known is None:
            log(DEBUG, f"no SSH daemon is recorded in {state.bundle}")
            return
        end(known)
        record.remove(bundle)
    finally:
        os.close(bundle)


def end(known: Record) -> None:
    """End the recorded daemon and all processes of its container, and take its pidfile away.

    Raises HookError when one stays alive.
    """
    if known.is_running():
        log(INFO, f"ending the SSH daemon with pid {known.pid}")
        _end_all(known)
    if known.pidfile_host:
        from .identity import Identity
        from .userfiles import remove_pidfile

        remove_pidfile(known.pidfile_host, known.pid, Identity(known.numbers["uid"], known.numbers["gid"]))


def _end_all(known: Record) -> None:
    """Kill the sessions first: as long as the daemon lives, its mount namespace cannot be another's."""
    own = _mount_namespace("self")
    theirs = _mount_namespace(str(known.pid))
    deadline = time.monotonic() + _TIMEOUT
    while True:
        family = _processes_in(theirs) if theirs not in (None, own) else _descendants(known.pid)
        sessions = [pid for pid in family if pid != known.pid]
        for pid in sessions:
            _kill_session(pid, None if theirs == own else theirs)
        if not sessions:
            _kill(known.pid, known.is_running)
        if not known.is_running():
            return
        if time.monotonic() > deadline:
            raise HookError(f"the SSH daemon with pid {known.pid} does not end")
        time.sleep(_POLL)


def _kill_session(pid: int, namespace: tuple[int, int] | None) -> None:
    _kill(pid, lambda: namespace is None or _mount_namespace(str(pid)) == namespace)


def _kill(pid: int, is_it: Callable[[], bool]) -> None:
    """Kill the process `pid` if `is_it` still says so once a pidfd keeps its number from being reused."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # before Linux 5.3
        if is_it():
            _ignoring_gone(lambda: os.kill(pid, SIGKILL))
        return
    try:
        if is_it():
            _ignoring_gone(lambda: pidfd_send_signal(descriptor, SIGKILL))
    finally:
        os.close(descriptor)


def _ignoring_gone(action: Callable[[], None]) -> None:
    try:
        action()
    except ProcessLookupError:
        pass


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _processes_in(namespace: tuple[int, int] | None) -> list[int]:
    return [pid for pid in _pids() if _mount_namespace(str(pid)) == namespace]


def _descendants(ancestor: int) -> list[int]:
    parents = {pid: _parent(pid) for pid in _pids()}
    found = {ancestor}
    size = 0
    while len(found) > size:
        size = len(found)
        found.update(pid for pid, parent in parents.items() if parent in found)
    return sorted(found)


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _mount_namespace(process: str) -> tuple[int, int] | None:
    """The identity of a process's mount namespace; None where the process is gone or a zombie."""
    try:
        status = os.stat(f"/proc/{process}/ns/mnt")
    except OSError:
        return None
    return status.st_dev, status.st_ino
