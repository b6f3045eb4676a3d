# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes identified by an open directory in /proc, which never refers to another process that reuses the pid.

Format: proc_pid_stat(5).
"""

from __future__ import annotations

from .fast_stdlib import TYPE_CHECKING, os, read_file, signal

if TYPE_CHECKING:
    from collections.abc import Iterator

# Fields of stat, counted after the name.
_STATE, _PARENT, _SESSION, _FLAGS, _START_TIME, _EXIT_STATUS = 0, 1, 3, 6, 19, 49
_PF_FORKNOEXEC = 0x40  # include/linux/sched.h
_DEAD = (b"Z", b"X")
_UNINTERRUPTIBLE = b"D"
MAX_PID = 2**31 - 1
MAX_ID = 2**32 - 2  # the highest user or group id; 2**32 - 1 means "no change" to the kernel


def is_decimal(text: str, most: int) -> bool:
    """Return whether `text` is a number of at most `most` decimal digits."""
    return text.isascii() and text.isdigit() and len(text) <= most


def pid_namespace() -> int:
    """Return the inode of the caller's pid namespace. Raises OSError."""
    return os.stat("/proc/self/ns/pid").st_ino


def pid_is_taken(pid: int) -> bool:
    """Return whether there is a process `pid`, even if /proc hides it from the caller (hidepid)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def sees_all_processes() -> bool:
    """Return whether /proc shows the caller the processes of other users, and those that nobody may trace (hidepid)."""
    try:
        os.stat("/proc/1/stat")
    except OSError:
        return False
    return True


class Process:
    """A process that existed when the object was created. Most methods raise OSError if it is gone.

    As a context manager it closes its descriptors on exit.

    Attributes:
        pid: its pid when the object was created.
        directory: an open descriptor of its directory in /proc.
        stat: an open descriptor of its /proc/PID/stat.
    """

    def __init__(self, pid: int, proc: int | None = None) -> None:
        """Open the process's directory in /proc, or in the open `proc`. Raises OSError if there is no such process."""
        self.pid = pid
        self._files: dict[str, int] = {}
        path = f"/proc/{pid}" if proc is None else str(pid)
        self.directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
        # Opened now: with hidepid, the files of a process that becomes untraceable cannot be opened later.
        try:
            self.stat = os.open("stat", os.O_RDONLY, dir_fd=self.directory)
        except OSError:
            os.close(self.directory)
            raise

    @classmethod
    def of_files(cls, pid: int, directory: int, files: dict[str, int]) -> Process:
        """Return the process `pid`, with its open `directory` in /proc and some open `files` of it, including stat."""
        process = cls.__new__(cls)
        process.pid, process.directory, process.stat = pid, directory, files["stat"]
        process._files = files
        return process

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.directory)
        os.close(self.stat)

    def open(self, name: str, flags: int) -> int:
        """Open the file `name` of its directory in /proc."""
        return os.open(name, flags, dir_fd=self.directory)

    def read(self, name: str) -> bytes:
        """Return the content of the file `name` of its directory in /proc."""
        descriptor = self._files.get(name)
        if descriptor is None:
            return read_file(name, self.directory)
        # Opened again: ids are shown in the user namespace of the process that opened the file.
        return read_file(f"/proc/self/fd/{descriptor}")

    def descriptors(self) -> set[int]:
        """Return the descriptors that the object needs."""
        return {self.directory, self.stat}

    def is_before_exec(self) -> bool:
        """Return whether the process was forked and has not called execve(2) yet (PF_FORKNOEXEC)."""
        return int(self._stat()[_FLAGS]) & _PF_FORKNOEXEC != 0

    def is_alive(self) -> bool:
        """Return whether the process is running; a zombie is not. Raises OSError only if that cannot be read."""
        try:
            return self._stat()[_STATE] not in _DEAD
        except (FileNotFoundError, ProcessLookupError):
            return False

    def hangs(self) -> bool:
        """Return whether the process is in uninterruptible sleep, where no signal reaches it."""
        return self._stat()[_STATE] == _UNINTERRUPTIBLE

    def parent(self) -> int:
        """Return the pid of the parent."""
        return int(self._stat()[_PARENT])

    def exit_status(self) -> int | None:
        """Return the wait status (wait(2)) of a process that has exited; None if it has been reaped."""
        try:
            return int(self._stat()[_EXIT_STATUS])
        except (FileNotFoundError, ProcessLookupError):
            return None

    def start_time(self) -> int:
        """Return the start time in clock ticks since boot."""
        return int(self._stat()[_START_TIME])

    def leads_session(self) -> bool:
        """Return whether the process has called setsid(2)."""
        return int(self._stat()[_SESSION]) == self.pid

    def children(self) -> list[int]:
        """Return the pids of the children of the process, which has one thread."""
        try:
            return [int(pid) for pid in self.read(f"task/{self.pid}/children").split()]
        except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
            return [process.pid for process in all_processes() if parent_of(process) == self.pid]

    def own_pid(self) -> int:
        """Return its pid in its own pid namespace."""
        return self.pids()[-1]

    def pids(self) -> list[int]:
        """Return its pids, from the pid namespace of /proc inward."""
        for line in self.read("status").split(b"\n"):
            if line.startswith(b"NSpid:"):
                return [int(pid) for pid in line.split()[1:]]
        return [self.pid]

    def uid(self) -> int:
        """Return its real uid, in the caller's user namespace."""
        for line in self.read("status").split(b"\n"):
            if line.startswith(b"Uid:"):  # the owner of its directory differs if it is not dumpable
                return int(line.split()[1])
        raise ProcessLookupError

    def program(self) -> tuple[int, int] | None:
        """Return device and inode of the program; None if the process is gone, or the caller may not trace it."""
        try:
            status = os.stat("exe", dir_fd=self.directory)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def mount_namespace(self) -> tuple[int, int] | None:
        """Return device and inode of the mount namespace; None if the process is gone, a zombie, or not traceable."""
        try:
            status = os.stat("ns/mnt", dir_fd=self.directory)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def kill(self) -> None:
        """Send SIGKILL to this process, never to another that reuses its pid. Do nothing if it is gone."""
        self._send(signal.SIGKILL)

    def stop(self) -> None:
        """Send SIGSTOP in the same way."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT in the same way."""
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        try:
            signal.pidfd_send_signal(self.directory, number)  # accepts a directory in /proc as a pidfd
        except ProcessLookupError:
            pass
        except (AttributeError, OSError):  # before Linux 5.1, or a Python built on such a kernel, like EL 8's
            try:
                if self.is_alive():
                    os.kill(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass  # the caller may not signal a set-uid process of a session

    def _stat(self) -> list[bytes]:
        # The name, in the field before, may contain blanks and ")".
        return os.pread(self.stat, 4096, 0).rpartition(b")")[2].split()


def all_processes(proc: int | None = None) -> Iterator[Process]:
    """Yield every process in /proc, or in the open `proc`.

    Close each before the next, as there may be more processes than RLIMIT_NOFILE.
    """
    for name in os.listdir("/proc" if proc is None else proc):
        if name.isdigit():
            try:
                process = Process(int(name), proc)
            except OSError:
                continue  # it has exited
            with process:
                yield process


def is_running(pid: int, start_time: int) -> bool:
    """Return whether the process `pid` that began at `start_time` runs.

    If /proc hides it (hidepid: also if it is the same user's, in another user namespace), any with its pid counts.
    """
    try:
        with Process(pid) as process:
            return process.is_alive() and process.start_time() == start_time
    except OSError:
        return pid_is_taken(pid)


def descendants(ancestor: int, proc: int | None = None) -> set[int]:
    """Return the pids of `ancestor` and its descendants, from /proc or the open `proc`."""
    parents = {process.pid: parent_of(process) for process in all_processes(proc)}
    found = {ancestor}
    size = 0
    while len(found) > size:
        size = len(found)
        found.update(pid for pid, parent in parents.items() if parent in found)
    return found


def parent_of(process: Process) -> int:
    """Return the pid of the parent; 0 if the process is gone."""
    try:
        return process.parent()
    except OSError:
        return 0
