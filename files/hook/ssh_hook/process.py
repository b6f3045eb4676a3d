# SPDX-License-Identifier: GPL-3.0-or-later
"""A process by its directory in /proc, which stays that of the one process, whatever becomes of its pid.

Format: proc_pid_stat(5).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from signal import SIGKILL, pidfd_send_signal
else:  # the C half of signal: its other half imports enum
    from _signal import SIGKILL, pidfd_send_signal

_STATE, _PARENT, _START_TIME = 0, 1, 19  # among the fields of stat after the name
_DEAD = (b"Z", b"X")


class Process:
    """A process that was alive when the object was made. Attributes: pid."""

    def __init__(self, pid: int) -> None:
        """Raises OSError where there is no such process."""
        self.pid = pid
        self._directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._directory)

    def is_alive(self) -> bool:
        """Whether it has not ended. A zombie has. Raises OSError where that cannot be found out."""
        try:
            return self._stat()[_STATE] not in _DEAD
        except (FileNotFoundError, ProcessLookupError):
            return False

    def parent(self) -> int:
        """The pid of its parent. Raises OSError where it is gone."""
        return int(self._stat()[_PARENT])

    def start_time(self) -> int:
        """When it started, in clock ticks since boot. Raises OSError where it is gone."""
        return int(self._stat()[_START_TIME])

    def identity(self) -> tuple[int, int, int, int]:
        """Its pid, start time (clock ticks since boot), and the device and inode of its program.

        Raises OSError where it is gone.
        """
        program = os.stat("exe", dir_fd=self._directory)
        return self.pid, self.start_time(), program.st_dev, program.st_ino

    def mount_namespace(self) -> tuple[int, int] | None:
        """Device and inode of its mount namespace; None where it is gone or a zombie."""
        try:
            status = os.stat("ns/mnt", dir_fd=self._directory)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def kill(self) -> None:
        """Send SIGKILL to it and to no other. Nothing happens where it is gone."""
        try:
            pidfd_send_signal(self._directory, SIGKILL)  # takes a directory of /proc for a pidfd
        except ProcessLookupError:
            pass
        except OSError:  # before Linux 5.1
            if self.is_alive():
                os.kill(self.pid, SIGKILL)

    def _stat(self) -> list[bytes]:
        descriptor = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            return os.read(descriptor, 4096).rpartition(b")")[2].split()  # the name before may hold blanks and ")"
        finally:
            os.close(descriptor)


def all_processes() -> Iterator[Process]:
    """Every process in /proc at this moment. Each is let go of when the next is asked for: a node may have more
    processes than a process may have descriptors.
    """
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                process = Process(int(name))
            except OSError:
                continue  # it ended meanwhile
            try:
                yield process
            finally:
                process.close()
