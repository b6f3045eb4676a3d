# SPDX-License-Identifier: GPL-3.0-or-later
"""Scheduling policy, nice value, I/O priority and personality of a running process, for `ssh_hook attach`."""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING, os
from ..linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..linux.process import Process

_UNCHANGED = 0xFFFFFFFF  # as an argument of personality(2)
_DOMAIN = 0xFF  # of a personality, without flags: some make programs easier to attack, such as ADDR_NO_RANDOMIZE
_CLASS_SHIFT = 13  # see ioprio_set(2)
_DEFAULT_PRIORITY = 2 << _CLASS_SHIFT | 4  # best effort


class ProcessScheduling:
    """The scheduling of a process, or of the caller if the caller may not read that.

    Attributes:
        values: all but the personality, to compare processes.
    """

    def __init__(self, process: Process) -> None:
        """Read it. Raises OSError."""
        try:
            self.values = _values(process.pid)
        except PermissionError:  # SELinux may forbid it (getsched)
            self.values = _values(0)
        try:
            self._personality = int(process.read("personality"), 16) & _DOMAIN
        except PermissionError:  # it has another uid of its container
            self._personality = _UNCHANGED

    def apply(self) -> None:
        """Apply it to the calling process, except what the kernel refuses, such as a lower nice value."""
        policy, priority, nice, io_priority = self.values
        steps: list[Callable[[], object]] = [
            lambda: os.sched_setscheduler(0, policy, os.sched_param(priority)),
            lambda: os.setpriority(os.PRIO_PROCESS, 0, nice),
            lambda: syscalls.ioprio_set(io_priority),
            lambda: syscalls.personality(self._personality),
        ]
        for step in steps:
            try:
                step()
            except OSError:
                pass  # sessions keep the caller's


def _values(pid: int) -> tuple[int, int, int, int]:
    """Return policy, real-time priority, nice value and I/O priority of a process, 0 for the caller. Raises OSError."""
    policy, priority = os.sched_getscheduler(pid), os.sched_getparam(pid).sched_priority
    return policy, priority, os.getpriority(os.PRIO_PROCESS, pid), _io_priority(pid)


def _io_priority(pid: int) -> int:
    """Return the I/O priority of a process; 0 if it has never set one, which kernels show differently."""
    priority = syscalls.ioprio_get(pid)
    return 0 if priority >> _CLASS_SHIFT == 0 or priority == _DEFAULT_PRIORITY else priority
