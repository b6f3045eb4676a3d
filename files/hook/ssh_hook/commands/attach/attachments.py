# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemons that the caller has attached on this node. Each has a supervisor, which holds a lock as long as it runs.

It is a POSIX lock of a file in one of the user's own directories, named after the process. The kernel gives it to one
process, tells others the holder's pid, and frees it when the holder ends: a child that hangs in the container does not
keep it. So detach needs to believe no file to know whom to signal, and waits until that process has exited.

The file is empty until the daemon serves. The supervisor's last act is to write there which mounts it has left. If it
has not, it was killed, or failed, and detach does the same work (leftovers.py).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import ATTACH_REFUSED, DAEMON_FAILED, SYSTEM, HookError
from ...fast_stdlib import closing
from ...linux import syscalls
from ...linux.files import READ
from ...linux.process import Process, pid_namespace
from ...node.door import name_of
from ...node.door_collection import collect
from ...node.engine import Engine
from ...node.locks import try_lock
from ...node.own_places import for_attached, open_own
from ...node.places import unlink
from ...start.attach import Attachment
from ...stop.ending import end_orphans, require_end

_TIMEOUT = 20.0  # seconds; longer than the supervisor waits for sessions and for the container's file system
_MAX_SIZE = 64 << 10  # bytes of the file
_SERVES, _DONE = b"+", b"."
_FLOCK = struct.Struct("hhqqi")  # struct flock of fcntl(2): type, whence, start, length, pid


@contextmanager
def claim(process: Process) -> Iterator[int]:
    """Lock the file for `process`, and remove it at the end; yield it, open. Raises HookError, also if it is locked."""
    path, file = _make_file(process)
    with closing(file):
        if not try_lock(file) or os.fstat(file).st_nlink != 1:  # its holder may have just removed it
            raise HookError(
                ATTACH_REFUSED,
                f"process {process.pid} already has an SSH daemon: 'ssh_hook detach {process.pid}' stops it",
            )
        try:
            os.ftruncate(file, 0)
            yield file
        finally:
            unlink(path)  # before the lock is free


def _make_file(process: Process) -> tuple[str, int]:
    """Return path and descriptor of the file for `process`, in the first directory that can be used. Raises HookError.

    Files of processes that have exited are removed there.
    """
    problems = []
    for directory in for_attached(Engine().host_uid):
        path = f"{directory}/{_name(process)}"
        try:
            os.close(open_own(directory, create=True))
            collect(directory)
            return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            problems.append(f"{directory}: {error.strerror or 'other users can write to it'}")
    raise HookError(
        SYSTEM,
        f"cannot make a file in {', or in '.join(problems)}: log in to this node, or have the administrator remove "
        "what is in the way",
    )


def end(pid: int) -> list[str] | None:
    """Have the supervisor for the process `pid` end its daemon, and wait until it has exited.

    Return the mount points of the mounts that it could not undo; None if there is no such process or supervisor, or the
    supervisor could not finish. Raises HookError.
    """
    try:
        file = _find(Process(pid))
    except OSError:
        return None
    with closing(file):
        supervisor = _holder(file)
        try:
            pidfd = os.pidfd_open(supervisor)
        except OSError:
            return None  # it has exited
        with closing(pidfd):
            if _holder(file) != supervisor:
                return None  # its pid may be another process's
            if not os.pread(file, 1, 0):
                raise HookError(ATTACH_REFUSED, f"attach to process {pid} has not finished: try again")
            for number in (signal.SIGTERM, signal.SIGCONT):  # a process of the container may have stopped it
                signal.pidfd_send_signal(pidfd, number)
            if not syscalls.poll([pidfd], time.monotonic() + _TIMEOUT):
                raise HookError(DAEMON_FAILED, f"the SSH daemon of process {pid} did not exit within {_TIMEOUT:.0f} s")
        *left, last = os.pread(file, _MAX_SIZE, 0).split(b"\0")
    return [os.fsdecode(path) for path in left] if last == _DONE else None


def _find(process: Process) -> int:
    """Return the open file for `process` that a supervisor has locked. Raises FileNotFoundError if there is none."""
    for directory in for_attached(Engine().host_uid):
        try:
            with closing(open_own(directory)) as opened:
                file = os.open(_name(process), READ, dir_fd=opened)
        except OSError:
            continue
        if _holder(file):
            return file
        os.close(file)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _holder(file: int) -> int:
    """Return the pid of the process that has locked the open file; 0 if none has, or it has no pid here."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    kind, _whence, _start, _length, pid = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else max(pid, 0)


def _name(process: Process) -> str:
    """Return the name of the file for `process`, in the form of a door's (door.py). Raises HookError if it is gone."""
    try:
        return name_of(process.pid, process.start_time(), pid_namespace())
    except OSError:
        raise HookError(ATTACH_REFUSED, f"process {process.pid} has exited") from None


def redirect_signals(file: int) -> int:
    """Redirect signals that would end the supervisor into a pipe; return its read end, for `wait`.

    Then detach may send one to the holder of the lock on `file`.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    os.pwrite(file, _SERVES, 0)
    return reader


def wait(daemon: Process, pidfd: int, signals: int) -> None:
    """Wait until the process (`pidfd`) or the daemon exits, or a signal arrives. Raises OSError."""
    try:
        opened = os.pidfd_open(daemon.pid)
    except ProcessLookupError:
        return  # it has exited
    with closing(opened):
        poll = select.poll()
        for descriptor in (pidfd, opened, signals):
            poll.register(descriptor, select.POLLIN)
        if daemon.is_alive():  # otherwise its pid may be another process's
            poll.poll()


def finish(attachment: Attachment, file: int) -> None:
    """End the daemon and its sessions, undo the changes in the container, and write into `file` which mounts are left.

    Raises HookError if the daemon or a session stays alive. Then nothing is undone: see detach.
    """
    require_end(attachment.daemon)
    end_orphans()
    left = attachment.undo()
    os.pwrite(file, b"\0".join([*map(os.fsencode, left), _DONE]), 0)
