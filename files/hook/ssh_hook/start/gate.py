# SPDX-License-Identifier: GPL-3.0-or-later
"""A gate that the hook's own side opens, where the container's first process has executed programs long before.

Dropbear waits at its gate as ever, but what it reads there is a memory file in place of the /proc/PID/stat of that
process. Nobody else can reach the file: Dropbear is not dumpable until the gate is open.

Format: proc_pid_stat(5).
"""

from __future__ import annotations

from ..linux.fast_stdlib import TYPE_CHECKING, os

if TYPE_CHECKING:
    from ..linux.process import Process

# As much of /proc/PID/stat as Dropbear's gate reads. The last number are the flags: 64 is PF_FORKNOEXEC.
_CLOSED, _OPEN = b"0 () S 0 0 0 0 0 64\n", b"0 () S 0 0 0 0 0 00\n"


class Gate:
    """The gate of one daemon. Attributes: descriptor, of the memory file."""

    def __init__(self) -> None:
        """Make the gate, closed. Raises OSError."""
        self.descriptor = os.memfd_create("ocihooks-ssh-gate", os.MFD_CLOEXEC)
        os.write(self.descriptor, _CLOSED)

    def open(self) -> None:
        """Let the daemon accept connections. Raises OSError."""
        os.pwrite(self.descriptor, _OPEN, 0)


class OpenGate:
    """The gate of a daemon that may accept connections at once. Attributes: descriptor, of a /proc/PID/stat."""

    def __init__(self, process: Process) -> None:
        """Take the stat of `process`, which runs a program."""
        self.descriptor = process.stat

    def open(self) -> None:
        """Do nothing: it is open."""
