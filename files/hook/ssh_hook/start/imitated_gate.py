# SPDX-License-Identifier: GPL-3.0-or-later
"""A gate that the hook opens, for a container whose first process has already executed its program.

Dropbear waits at the gate as usual, but reads a memory file instead of that process's /proc/PID/stat. No other process
can open the file: Dropbear is not dumpable until the gate is open.

Format: proc_pid_stat(5).
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING, os

if TYPE_CHECKING:
    from ..linux.process import Process

# The part of /proc/PID/stat that Dropbear's gate reads. The last number contains the flags: 64 is PF_FORKNOEXEC.
_CLOSED, _OPEN = b"0 () S 0 0 0 0 0 64\n", b"0 () S 0 0 0 0 0 00\n"


class Gate:
    """The gate of one daemon. Attributes: descriptor, of the memory file."""

    def __init__(self) -> None:
        """Create the gate, closed. Raises OSError."""
        self.descriptor = os.memfd_create("ocihooks-ssh-gate", os.MFD_CLOEXEC)
        os.write(self.descriptor, _CLOSED)

    def open(self) -> None:
        """Let the daemon accept connections. Raises OSError."""
        os.pwrite(self.descriptor, _OPEN, 0)


class OpenGate:
    """The gate of a daemon that may accept connections at once. Attributes: descriptor, of a /proc/PID/stat."""

    def __init__(self, process: Process) -> None:
        """Use the stat of `process`, which runs a program."""
        self.descriptor = process.stat

    def open(self) -> None:
        """Do nothing: it is already open."""
