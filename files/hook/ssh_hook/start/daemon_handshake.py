# SPDX-License-Identifier: GPL-3.0-or-later
"""How the daemon's process of an attach hands its open files in /proc to the supervisor, which alone has to know it.

The supervisor is not root, and the process is not dumpable: on nodes whose /proc hides processes (hidepid) it could
open none of these files, which the process itself may.
"""

from __future__ import annotations

import socket

from ..errors import DAEMON_FAILED, HookError
from ..linux.fast_stdlib import TYPE_CHECKING, os
from ..linux.process import Process

if TYPE_CHECKING:
    from .channel import Forked

_FILES = ("status", "limits", "cgroup", "attr/current", "attr/apparmor/current")
_TIMEOUT = 5.0  # seconds; the files were sent before the supervisor knows of the process
_MAX_NAMES = 256  # bytes


class Introduction:
    """A pair of sockets, made before the first fork: the registration of a daemon that is recorded nowhere."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()

    def introduce(self, process: Process) -> None:
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

    def find(self, daemon: Forked) -> Process:
        """Return the daemon's process, which has introduced itself. Raises HookError."""
        self._receiver.settimeout(_TIMEOUT)
        try:
            names, descriptors, _flags, _address = socket.recv_fds(self._receiver, _MAX_NAMES, len(_FILES) + 2)
        except OSError as error:
            raise HookError(
                DAEMON_FAILED, f"cannot read the rights of the SSH daemon: {error.strerror or error}"
            ) from None
        files = dict(zip(names.decode().split(" "), descriptors))
        return Process.of_files(daemon.pid, files.pop(""), files)

    def record(self, _daemon: Forked, _door: str) -> None:
        """Do nothing: the supervisor lives as long as the daemon."""

    def remove(self) -> None:
        """Do nothing, since nothing is recorded."""
