# SPDX-License-Identifier: GPL-3.0-or-later
"""A process by its directory in /proc, which stays that of the one process, whatever becomes of its pid.

Format: proc_pid_stat(5).
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from signal import SIGKILL, pidfd_send_signal
else:  # the C half of signal: its other half imports enum
    from _signal import SIGKILL, pidfd_send_signal

_STATE, _PARENT, _START_TIME, _EXIT_STATUS = 0, 1, 19, 49  # among the fields of stat after the name
_DEAD = (b"Z", b"X")


class Process:
    """A process that was alive when the object was made. Attributes: pid."""

    def __init__(self, pid: int) -> None:
        """Raises OSError where there is no such process."""
        self.pid = pid
        self._directory = posix.open(f"/proc/{pid}", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)

    def close(self) -> None:
        """Let go of it."""
        posix.close(self._directory)

    def is_alive(self) -> bool:
        """Whether it has not ended. A zombie has. Raises OSError where that cannot be found out."""
        try:
            return self._stat()[_STATE] not in _DEAD
        except (FileNotFoundError, ProcessLookupError):
            return False

    def parent(self) -> int:
        """The pid of its parent. Raises OSError where it is gone."""
        return int(self._stat()[_PARENT])

    def exit_status(self) -> int | None:
        """What wait(2) tells whoever waits for it, if it has ended; None where somebody has waited."""
        try:
            return int(self._stat()[_EXIT_STATUS])
        except (FileNotFoundError, ProcessLookupError):
            return None

    def start_time(self) -> int:
        """When it started, in clock ticks since boot. Raises OSError where it is gone."""
        return int(self._stat()[_START_TIME])

    def identity(self) -> tuple[int, int, int, int]:
        """Its pid, start time (clock ticks since boot), and the device and inode of its program.

        Raises OSError where it is gone.
        """
        program = posix.stat("exe", dir_fd=self._directory)
        return self.pid, self.start_time(), program.st_dev, program.st_ino

    def mount_namespace(self) -> tuple[int, int] | None:
        """Device and inode of its mount namespace; None where it is gone or a zombie."""
        try:
            status = posix.stat("ns/mnt", dir_fd=self._directory)
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
            try:
                if self.is_alive():
                    posix.kill(self.pid, SIGKILL)
            except ProcessLookupError:
                pass

    def _stat(self) -> list[bytes]:
        descriptor = posix.open("stat", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=self._directory)
        try:
            return posix.read(descriptor, 4096).rpartition(b")")[2].split()  # the name before may hold blanks and ")"
        finally:
            posix.close(descriptor)


def all_processes() -> Iterator[Process]:
    """Every process in /proc at this moment. Each is let go of when the next is asked for: a node may have more
    processes than a process may have descriptors.
    """
    for name in posix.listdir("/proc"):
        if name.isdigit():
            try:
                process = Process(int(name))
            except OSError:
                continue  # it ended meanwhile
            try:
                yield process
            finally:
                process.close()
