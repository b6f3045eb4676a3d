# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemons that the caller has attached on this node. Each has a supervisor, which listens on a socket of its own.

The socket's name contains the user and the process. It is abstract: the kernel refuses a second socket of that name,
and removes it when the supervisor exits. A connection asks the supervisor to end the daemon, and is closed when that is
done. Any user could create such a name, so both sides check the peer's credentials (SO_PEERCRED).

Containers on the node's network can also reach these names. A process there with the user's uid can get a pidfd of its
peer (SO_PEERPIDFD) across pid namespaces, and with that steal descriptors (pidfd_getfd) from a process that it may
trace. So neither side is dumpable.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time

from ...errors import ATTACH_REFUSED, DAEMON_FAILED, HookError
from ...linux import syscalls
from ...linux.process import Process
from ...node.inventory import find_daemons
from ...start.attach import Attachment
from ...stop.rules import end_daemon, end_orphans

_PREFIX = "\0ocihooks-ssh/attached/"
_TIMEOUT = 20.0  # seconds; longer than the supervisor waits for sessions and for the container's file system
_MAX_LEFT = 4096  # bytes
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def _address(process: Process) -> bytes:
    """Return the address of the socket for `process`. Raises OSError if it has exited."""
    namespace = os.stat("/proc/self/ns/pid").st_ino
    return f"{_PREFIX}{os.geteuid()}/{namespace}/{process.pid}-{process.start_time()}".encode()


def attached() -> list[int]:
    """Return the pids of the processes that the caller's daemons are attached to. Raises HookError."""
    return [daemon.attached for daemon in find_daemons() if daemon.attached]


def claim(process: Process) -> socket.socket:
    """Return the listening socket for a daemon to attach to `process`. The caller becomes undumpable.

    Raises HookError if one exists.
    """
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(_address(process))
        listener.listen()
    except OSError as error:
        listener.close()
        if isinstance(error, (FileNotFoundError, ProcessLookupError)):
            raise HookError(ATTACH_REFUSED, f"process {process.pid} has exited") from None
        raise HookError(
            ATTACH_REFUSED, f"process {process.pid} already has an SSH daemon: 'ssh_hook detach {process.pid}' stops it"
        ) from None
    return listener


def end(pid: int) -> list[str] | None:
    """Tell the supervisor for the process `pid` to end its daemon, and wait until it is done.

    Return the mount points of the mounts that it could not undo; None if there is no such process or supervisor. The
    caller becomes undumpable. Raises HookError.
    """
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    left = b""
    late = HookError(DAEMON_FAILED, f"the SSH daemon of process {pid} did not exit within {_TIMEOUT:.0f} s")
    deadline = time.monotonic() + _TIMEOUT
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT)
        try:
            connection.connect(_address(Process(pid)))
            if _peer(connection) != os.geteuid():
                raise HookError(
                    ATTACH_REFUSED,
                    f"the SSH daemon of process {pid} seems to belong to another user: it was not stopped",
                )
            while (more := connection.recv(_MAX_LEFT)) and len(left) < _MAX_LEFT:
                left += more
                if time.monotonic() > deadline:  # a process in the container can create such a socket too
                    raise late
        except (FileNotFoundError, ProcessLookupError, ConnectionRefusedError):
            return None
        except socket.timeout:
            raise late from None
        except ConnectionResetError:
            pass  # it has just exited
    return [os.fsdecode(path) for path in left.split(b"\0") if path]


def _peer(connection: socket.socket) -> int:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(data)[1]
    return uid


def redirect_signals() -> int:
    """Redirect signals that would end the supervisor into a pipe; return its read end, for `supervise`."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader


def supervise(attachment: Attachment, pidfd: int, listener: socket.socket, signals: int) -> None:
    """Wait until the process (`pidfd`) or the daemon exits, or a request or signal arrives; then end what is left."""
    daemon = os.pidfd_open(attachment.daemon.pid)
    connection = None
    poll = select.poll()
    for descriptor in (pidfd, daemon, listener.fileno(), signals):
        poll.register(descriptor, select.POLLIN)
    while attachment.daemon.is_alive():
        ready = {descriptor for descriptor, _event in poll.poll()}
        if listener.fileno() in ready:
            connection, _address_of_peer = listener.accept()
            if _peer(connection) == os.geteuid():
                break
            connection.close()
        elif ready:
            break
    left = finish(attachment)
    listener.close()  # before the connection: its peer may attach again at once
    if connection is not None and left:
        try:
            connection.sendall(b"\0".join(map(os.fsencode, left)))
        except OSError:
            pass  # the peer has disconnected


def finish(attachment: Attachment) -> list[str]:
    """End the daemon and its sessions, and undo the changes in the container; return the mount points that are left."""
    end_daemon(attachment.daemon)
    end_orphans()
    return attachment.undo()
