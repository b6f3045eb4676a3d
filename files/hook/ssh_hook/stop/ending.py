# SPDX-License-Identifier: GPL-3.0-or-later
"""How to end a daemon, for all callers: poststop, a sweep, the supervisor of an attach, detach, or enroot's watcher.

Sessions are killed first: while the daemon is alive, the ids of its mounts are not reused, and orphans of sessions stay
its descendants if it is their subreaper. The scan is repeated until none is left, since a session may fork, and the
daemon may start another. No other process is signalled: a session is recognized by its mounts if the daemon has its own
mount namespace, and otherwise by descent.
"""

from __future__ import annotations

import time

from ..errors import DAEMON_FAILED, HookError
from ..fast_stdlib import TYPE_CHECKING, os
from ..linux.process import Process, all_processes, descendants, parent_of
from ..log import INFO, log

if TYPE_CHECKING:
    from ..node.record import Record

_TIMEOUT = 5.0  # seconds
_GRACE = 1.0  # seconds for a daemon that was killed
_POLL = 0.002  # seconds


def end_recorded(known: Record) -> None:
    """Kill the recorded daemon and all processes in its mount namespace; remove its pidfile on the host, not its door.

    Raises HookError if a process stays alive, and LateError if the pidfile's user blocks the removal.
    """
    daemon = known.process()
    if daemon is not None:
        log(INFO, f"ending the SSH daemon with pid {known.pid}")
        with daemon:
            require_end(daemon, _has_own_mounts(daemon))
    if known.pidfile_host:
        from ..linux.identity import Identity  # here: most callers of this module have no record
        from ..node.userfiles import remove_pidfile

        is_root = os.geteuid() == 0  # otherwise: a user's own sweep, outside the user namespace
        user = Identity(known.numbers["uid"], known.numbers["gid"]) if is_root else None
        remove_pidfile(known.pidfile_host, known.pid, user)


def _has_own_mounts(daemon: Process) -> bool:
    """Return whether the daemon is known to be in another mount namespace than the caller."""
    with Process(os.getpid()) as caller:
        own, others = caller.mounts(), daemon.mounts()
    return bool(own and others) and own.isdisjoint(others)


def require_end(daemon: Process, has_own_mounts: bool = False) -> None:
    """Like `end_daemon`, but raise HookError if the daemon has not exited in time."""
    if not end_daemon(daemon, has_own_mounts):
        raise HookError(DAEMON_FAILED, f"the SSH daemon with pid {daemon.pid} does not end")


def end_daemon(daemon: Process, has_own_mounts: bool = False, proc: int | None = None) -> bool:
    """Kill the daemon's sessions, then the daemon; return whether the daemon has exited.

    If the daemon `has_own_mounts`, the sessions are all processes in its mount namespace. Otherwise, or where that is
    unknown, they are the daemon's descendants, except the caller. Only processes visible in /proc, or the open `proc`,
    count. A user can make a scan of all processes slow. So at the deadline the daemon and its descendants are killed.
    """
    deadline = time.monotonic() + _TIMEOUT
    spared = {daemon.pid, os.getpid()}
    killed: set[int] = set()
    daemon.stop()  # otherwise it may exit with its server, before the server's new sessions have been found
    while daemon.is_alive():
        if time.monotonic() > deadline:
            return _kill_with_descendants(daemon, proc)
        sessions = _Sessions(daemon, has_own_mounts, proc)
        has_sessions = False
        for process in all_processes(proc):
            if time.monotonic() > deadline:
                has_sessions = True  # for all that is known
                break
            if sessions.include(process) and process.pid not in spared and process.is_alive():
                process.kill()
                killed.add(process.pid)
                has_sessions = True
        if not has_sessions:
            daemon.kill()
        time.sleep(_POLL)
    # When the container's first process exits, the kernel kills its whole pid namespace; the server may exit last.
    while time.monotonic() < deadline and any(_is_alive(pid, proc) for pid in killed):
        time.sleep(_POLL)
    return True


def _kill_with_descendants(daemon: Process, proc: int | None) -> bool:
    """Kill the daemon and its descendants, except the caller; return whether the daemon has exited soon."""
    family = descendants(daemon.pid, proc) - {os.getpid()}
    for process in all_processes(proc):
        if process.pid in family and parent_of(process) in family:
            process.kill()
    daemon.kill()
    deadline = time.monotonic() + _GRACE
    while daemon.is_alive() and time.monotonic() < deadline:
        time.sleep(_POLL)
    return not daemon.is_alive()


def _is_alive(pid: int, proc: int | None) -> bool:
    try:
        with Process(pid, proc) as process:
            return process.is_alive()
    except OSError:
        return False


class _Sessions:
    """Recognizes the sessions of a daemon (see `end_daemon`), for one scan of the processes."""

    def __init__(self, daemon: Process, has_own_mounts: bool, proc: int | None) -> None:
        self._daemon = daemon
        self._proc = proc
        self._mounts = daemon.mounts() if has_own_mounts else None
        self._family: set[int] = set()  # pids, determined when needed

    def include(self, process: Process) -> bool:
        """Return whether `process` is a session.

        The daemon's mounts are read again after the process's: if the daemon has exited in between, its namespace may
        be gone too, and an id may belong to a mount of a container that is just starting.
        """
        if self._mounts is not None:
            try:
                mount = process.first_mount()
            except OSError:
                return False  # it has exited
            if mount:
                return mount in self._mounts and mount in self._daemon.mounts()
        self._family = self._family or descendants(self._daemon.pid, self._proc)
        return process.pid in self._family and parent_of(process) in self._family


def end_orphans() -> None:
    """Kill and reap the caller's children, which are orphans of sessions if the daemon was killed."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for process in all_processes():
                if parent_of(process) == os.getpid():
                    process.kill()
            time.sleep(_POLL)
