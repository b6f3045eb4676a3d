"""A command of the bed at a terminal, as somebody sits there: types, reads, changes the window, and goes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from patience import within

PATIENCE = 20.0  # seconds

# If a command ends before crun has read all of its output, crun prints the rest as errors: red, with the time.
CRUN_REST = re.compile(rb"\x1b\[1;31m[-\dT:.]+Z: (.*?)\x1b\[0m\n", re.DOTALL)


class Terminal:
    """A terminal and the command at it."""

    def __init__(self, command: Sequence[str], rows: int, columns: int) -> None:
        self._master, slave = pty.openpty()
        self.said = b""
        self.resize(rows, columns)
        # Its own session, so that the terminal is the one that it controls; the first to open it gets it.
        leader = ["setsid", "--ctty", *command]
        self.process = subprocess.Popen(leader, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window, of which the command is told by a signal."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        """Type `text`; the enter key is a carriage return."""
        os.write(self._master, text)

    def expect(self, text: bytes) -> bytes:
        """Read until `text` appears after what was expected before; returns all up to its end."""
        deadline = time.monotonic() + within(PATIENCE)
        while text not in self.said:
            assert self._read(deadline), f"no {text!r} in {self.said!r}"
        before, found, self.said = self.said.partition(text)
        return before + found

    def end(self) -> tuple[int, bytes]:
        """The exit status of the command, and what it said since the last that was expected."""
        deadline = time.monotonic() + within(PATIENCE)
        while self._read(deadline):
            pass
        return self.process.wait(within(PATIENCE)), CRUN_REST.sub(rb"\1", self.said)

    def hang_up(self) -> None:
        """Close the window."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _read(self, deadline: float) -> bool:
        """Read some; whether there was any before `deadline` and before all at the other end were gone."""
        if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            more = os.read(self._master, 65536)
        except OSError:
            return False  # nobody has the other end any more
        self.said += more
        return more != b""


@contextmanager
def terminal(command: Sequence[str], rows: int = 50, columns: int = 132) -> Iterator[Terminal]:
    """A terminal with `command` at it, which is gone afterwards."""
    opened = Terminal(command, rows, columns)
    try:
        yield opened
    finally:
        opened.hang_up()
        opened.process.kill()
        opened.process.wait()
