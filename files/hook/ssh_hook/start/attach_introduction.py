# SPDX-License-Identifier: GPL-3.0-or-later
"""The registration of an attach's daemon: its open /proc files go to the supervisor, the only process that needs them.

The supervisor is not root, and the daemon's process is not dumpable: on nodes whose /proc hides processes (hidepid) the
supervisor could not open these files, but the process itself can.
"""

from __future__ import annotations

import socket

from ..errors import DAEMON_FAILED, HookError
from ..fast_stdlib import TYPE_CHECKING, os
from ..linux.process import Process
from ..node.record import remove_kept

if TYPE_CHECKING:
    from ..node.record import Record
    from .channel import Forked
    from .registration import DaemonEntry

_FILES = ("limits", "cgroup", "attr/current", "attr/apparmor/current")
_TIMEOUT = 5.0  # seconds; the files are sent before the supervisor learns of the process
_MAX_NAMES = 256  # bytes


class Introduction:
    """A socket pair, created before the first fork: the registration of a daemon without a bundle."""

    def __init__(self, entry: DaemonEntry) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._entry = entry
        self._kept: Record | None = None

    def introduce(self, process: Process) -> None:
        """Send the files of `process`, the caller. Raises OSError."""
        opened = {"": process.directory, "stat": process.stat, "status": process.status}
        for name in _FILES:
            try:
                opened[name] = process.open(name, os.O_PATH)
            except FileNotFoundError:
                pass  # a file of a security module that the kernel lacks
        socket.send_fds(self._sender, [" ".join(opened).encode()], list(opened.values()))
        for name in _FILES:
            if name in opened:
                os.close(opened[name])

    def find(self, daemon: Forked) -> Process:
        """Return the daemon's process, from the files that it has sent. Raises HookError."""
        self._receiver.settimeout(_TIMEOUT)
        try:
            names, descriptors, _flags, _address = socket.recv_fds(self._receiver, _MAX_NAMES, len(_FILES) + 3)
        except OSError as error:
            raise HookError(
                DAEMON_FAILED, f"cannot read the rights of the SSH daemon: {error.strerror or error}"
            ) from None
        files = dict(zip(names.decode().split(" "), descriptors))
        return Process.of_files(daemon.pid, files.pop(""), files)

    def record(self, daemon: Forked, door: str) -> None:
        """Keep the entry, for the inventory: the supervisor itself knows the daemon. Raises HookError."""
        try:
            self._kept = self._entry.keep(daemon, "", door)
        except OSError as error:
            raise HookError(DAEMON_FAILED, f"cannot record the SSH daemon: {error.strerror}") from None

    def remove(self) -> None:
        """Remove the entry."""
        if self._kept is not None:
            remove_kept(self._kept)
