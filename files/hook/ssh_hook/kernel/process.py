# SPDX-License-Identifier: GPL-3.0-or-later
"""A process by its directory in /proc, which stays that of the one process, whatever becomes of its pid.

Format: proc_pid_stat(5).
"""

from __future__ import annotations

from .lean import TYPE_CHECKING, os, signal

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATE, _PARENT, _FLAGS, _START_TIME, _EXIT_STATUS = 0, 1, 6, 19, 49  # among the fields of stat after the name
_PF_FORKNOEXEC = 0x40  # include/linux/sched.h
_DEAD = (b"Z", b"X")


class Process:
    """A process that was alive when the object was made. Attributes: pid; stat, an open descriptor of its /proc/PID/stat."""

    def __init__(self, pid: int) -> None:
        """Raises OSError where there is no such process."""
        self.pid = pid
        self._directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
        # Open from the start: where /proc is mounted with hidepid, a process that cannot be traced hides its files later.
        try:
            self.stat = os.open("stat", os.O_RDONLY, dir_fd=self._directory)
        except OSError:
            os.close(self._directory)
            raise

    def close(self) -> None:
        """Close its descriptors."""
        os.close(self._directory)
        os.close(self.stat)

    def is_before_exec(self) -> bool:
        """Whether it was forked and has not run a program of its own yet. Raises OSError where it is gone."""
        return int(self._stat()[_FLAGS]) & _PF_FORKNOEXEC != 0

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

    def program(self) -> tuple[int, int] | None:
        """Device and inode of its program; None where that is not to be seen: it is gone, or another's, or not to be traced."""
        try:
            status = os.stat("exe", dir_fd=self._directory)
        except OSError:
            return None
        return status.st_dev, status.st_ino

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
            signal.pidfd_send_signal(self._directory, signal.SIGKILL)  # takes a directory of /proc for a pidfd
        except ProcessLookupError:
            pass
        except OSError:  # before Linux 5.1
            try:
                if self.is_alive():
                    os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _stat(self) -> list[bytes]:
        # the name before may hold blanks and ")"
        return os.pread(self.stat, 4096, 0).rpartition(b")")[2].split()


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
