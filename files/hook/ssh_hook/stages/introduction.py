# SPDX-License-Identifier: GPL-3.0-or-later
"""How the daemon's process of an attach hands its open files in /proc to the supervisor.

The supervisor is not root, and the process is not dumpable: on nodes whose /proc hides processes (hidepid) it could
open none of these files, which the process itself may.
"""

from __future__ import annotations

import socket

from ..errors import HookError
from ..kernel.lean import os
from ..kernel.process import Process

_FILES = ("status", "limits", "cgroup", "attr/current", "attr/apparmor/current")
_TIMEOUT = 5.0  # seconds; the files were sent before the supervisor knows of the process
_MAX_NAMES = 256  # bytes


class Introduction:
    """A pair of sockets, made before the first fork."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()

    def send(self, process: Process) -> None:
        """Show `process`, the caller. Raises OSError."""
        opened = {"": process.directory, "stat": process.stat}
        for name in _FILES:
            try:
                opened[name] = process.open(name, os.O_PATH)
            except FileNotFoundError:
                pass  # of a security module that the kernel lacks
        socket.send_fds(self._sender, [" ".join(opened).encode()], list(opened.values()))
        for name in _FILES:
            if name in opened:
                os.close(opened[name])

    def receive(self, pid: int) -> Process:
        """Return the process with the pid `pid`, which has been sent. Raises HookError."""
        self._receiver.settimeout(_TIMEOUT)
        try:
            names, descriptors, _flags, _address = socket.recv_fds(self._receiver, _MAX_NAMES, len(_FILES) + 2)
        except OSError as error:
            raise HookError(f"the SSH daemon does not show what it may do: {error.strerror or error}") from None
        files = dict(zip(names.decode().split(" "), descriptors))
        return Process.of_files(pid, files.pop(""), files)
