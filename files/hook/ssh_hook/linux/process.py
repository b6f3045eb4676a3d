# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes identified by an open directory in /proc, which never refers to another process that reuses the pid.

A process that executes a program can keep readers of its stat, exe and ns waiting (process_questions.py). The methods
that do not name one of these files read others, which answer at once.

Formats: proc_pid_stat(5), proc_pid_status(5), proc_pid_mountinfo(5).
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING, closing, os, read_file, signal

if TYPE_CHECKING:
    from collections.abc import Iterator

# Fields of stat, counted after the name.
_FLAGS, _START_TIME, _EXIT_STATUS = 6, 19, 49
_PF_FORKNOEXEC = 0x40  # include/linux/sched.h
_DEAD = ([b"Z"], [b"X"])
_UNINTERRUPTIBLE = [b"D"]
_SIZE = 4096  # bytes of stat, and of status as far as it is read
_MAX_ID_LENGTH = 12  # bytes of a mount's id, with the blank after it
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
        stat, status: open descriptors of its /proc/PID/stat and /proc/PID/status.
    """

    def __init__(self, pid: int, proc: int | None = None) -> None:
        """Open the process's directory in /proc, or in the open `proc`. Raises OSError if there is no such process."""
        self.pid = pid
        self._files: dict[str, int] = {}
        path = f"/proc/{pid}" if proc is None else str(pid)
        self.directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
        # Opened now: with hidepid, the files of a process that becomes untraceable cannot be opened later.
        opened = [self.directory]
        try:
            opened += [self.open(name, os.O_RDONLY) for name in ("stat", "status")]
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        self.stat, self.status = opened[1:]

    @classmethod
    def of_files(cls, pid: int, directory: int, files: dict[str, int]) -> Process:
        """Return the process `pid`, with its open `directory` in /proc and some open `files`: stat, status and more."""
        process = cls.__new__(cls)
        process.pid, process.directory = pid, directory
        process.stat, process.status = files["stat"], files["status"]
        process._files = files
        return process

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in self.descriptors():
            os.close(descriptor)

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
        return {self.directory, self.stat, self.status}

    def is_before_exec(self) -> bool:
        """Return whether stat has the flag of a process that has not called execve(2) yet (PF_FORKNOEXEC)."""
        return int(self._stat()[_FLAGS]) & _PF_FORKNOEXEC != 0

    def is_alive(self) -> bool:
        """Return whether the process is running; a zombie is not. Raises OSError only if that cannot be read.

        A process whose first thread has exited before the others has a zombie's state, and runs.
        """
        try:
            return self._status(b"State:")[:1] not in _DEAD or len(self._threads()) > 1
        except (FileNotFoundError, ProcessLookupError):
            return False

    def hangs(self) -> bool:
        """Return whether the process is in uninterruptible sleep, where no signal reaches it."""
        return self._status(b"State:")[:1] == _UNINTERRUPTIBLE

    def parent(self) -> int:
        """Return the pid of the parent."""
        return int(self._status(b"PPid:")[0])

    def exit_status(self) -> int | None:
        """Return the wait status (wait(2)) in stat of a process that has exited; None if it has been reaped."""
        try:
            return int(self._stat()[_EXIT_STATUS])
        except (FileNotFoundError, ProcessLookupError):
            return None

    def start_time(self) -> int:
        """Return the start time in stat, in clock ticks since boot."""
        return int(self._stat()[_START_TIME])

    def leads_session(self) -> bool:
        """Return whether the process has called setsid(2)."""
        return os.getsid(self.pid) == self.pid

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
        return int(self._status(b"Uid:")[0])  # the owner of its directory differs if it is not dumpable

    def program(self) -> tuple[int, int] | None:
        """Return device and inode of exe; None if the process is gone, or the caller may not trace it."""
        try:
            status = os.stat("exe", dir_fd=self.directory)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def mount_namespace(self) -> tuple[int, int] | None:
        """Return device and inode of ns/mnt; None if the process is gone, a zombie, or not traceable."""
        try:
            status = os.stat("ns/mnt", dir_fd=self.directory)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def mounts(self) -> set[bytes]:
        """Return the ids of the mounts that the process can reach from its root directory; none if it has exited.

        No two mounts on the node have the same id.
        """
        try:
            return {line.split(b" ", 1)[0] for line in self.read("mountinfo").split(b"\n")[:-1]}
        except OSError:
            return set()

    def first_mount(self) -> bytes:
        """Return the first of these ids; empty if there is none, as for a process in a chroot. Raises OSError."""
        with closing(self._open_mountinfo()) as file:
            return os.read(file, _MAX_ID_LENGTH).partition(b" ")[0]  # the kernel formats only one line

    def kill(self) -> None:
        """Send SIGKILL to this process, never to another that reuses its pid. Do nothing if it is gone."""
        self._send(signal.SIGKILL)

    def stop(self) -> None:
        """Send SIGSTOP in the same way."""
        self._send(signal.SIGSTOP)

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
        return os.pread(self.stat, _SIZE, 0).rpartition(b")")[2].split()

    def _open_mountinfo(self) -> int:
        try:
            return self.open("mountinfo", os.O_RDONLY)
        except OSError:  # its first thread has exited
            for thread in self._threads():
                try:
                    return self.open(f"task/{thread}/mountinfo", os.O_RDONLY)
                except OSError:
                    continue
            raise

    def _threads(self) -> list[str]:
        """Return the ids of its threads that have not been reaped. Raises OSError."""
        with closing(self.open("task", os.O_RDONLY | os.O_DIRECTORY)) as descriptor:
            return os.listdir(descriptor)

    def _status(self, name: bytes) -> list[bytes]:
        """Return the words of a line at the beginning of its status."""
        for line in os.pread(self.status, _SIZE, 0).split(b"\n"):
            if line.startswith(name):
                return line.split()[1:]
        raise ProcessLookupError


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
