# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a container without an OCI runtime, from which the watcher detects its end.

All processes in the watcher's mount namespace are members, except the daemon and its descendants. They are recognized
by their mount ids, which any user can read in /proc/PID/mountinfo. Reading the link ns/mnt would require permission to
trace: the watcher has only the container's capabilities, while a process that has joined a user namespace has all of
them until it executes a program, or permanently if it is root in a container of `enroot start --root`.

Format: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import time

from ..fast_stdlib import TYPE_CHECKING, os
from ..linux import syscalls
from ..linux.mounts import reachable_mounts
from ..linux.process import Process, all_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLL = 1.0  # seconds; for kernels before 5.3, without pidfd_open
_PIDFD_POLL = 60.0  # seconds
_ATTEMPTS = 3  # to follow the parents of a process, some of which may exit


class Members:
    """The members of the caller's container. Attributes: daemon, the pid of the daemon; proc, its open /proc."""

    def __init__(self, daemon: int, proc: int) -> None:
        self.daemon = daemon
        self.proc = proc

    def await_end(self) -> None:
        """Wait until no member is left. Raises OSError."""
        # Twice: the first scan may miss a child whose parent has exited by now.
        while members := self.find() or self.find():
            for pid, start_time in members:
                self._await_end_of(pid, start_time)

    def find(self) -> list[tuple[int, int]]:
        """Return the pid and start time of each member. Raises OSError."""
        return [(process.pid, start_time) for process, start_time in self._each()]

    def statuses(self) -> list[bytes]:
        """Return the content of the status file of each member that has switched its root."""
        found = []
        for process, _start_time in self._each():
            try:
                found.append(process.read("status"))
            except OSError:
                pass  # it has exited
        return found

    def _each(self) -> Iterator[tuple[Process, int]]:
        mounts = reachable_mounts(self.proc)
        with Process(os.getpid(), self.proc) as watcher:
            namespace = watcher.mount_namespace()
        for process in all_processes(self.proc):
            try:
                # Nothing is reachable if someone has removed the root file system, and its mounts with it.
                inside = process.first_mount() in mounts if mounts else process.mount_namespace() == namespace
                if inside and process.is_alive() and not self._is_of_daemon(process.pid):
                    yield process, process.start_time()
            except OSError:
                continue  # it has exited

    def _is_of_daemon(self, pid: int) -> bool:
        """Return whether the process `pid` is the daemon or a descendant: the daemon is their subreaper."""
        for _attempt in range(_ATTEMPTS):
            ancestor = pid
            try:
                while ancestor not in (0, self.daemon):
                    with Process(ancestor, self.proc) as process:
                        ancestor = process.parent()
            except OSError:
                continue  # that parent has exited, and its children have a new one
            return ancestor == self.daemon
        return False

    def _await_end_of(self, pid: int, start_time: int) -> None:
        try:
            process = Process(pid, self.proc)
        except OSError:
            return
        with process:
            if _start_time(process) == start_time:  # otherwise the pid was reused
                await_end_of(process)


def await_end_of(process: Process) -> None:
    """Wait until `process` has exited. Raises OSError."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # before Linux 5.3, or a Python built on such a kernel; or it has exited
        descriptor = -1
    while process.is_alive():
        if descriptor < 0:
            time.sleep(_POLL)
        else:
            syscalls.poll([descriptor], time.monotonic() + _PIDFD_POLL)
    if descriptor >= 0:
        os.close(descriptor)


def _start_time(process: Process) -> int | None:
    try:
        return process.start_time()
    except OSError:
        return None  # it has exited
