# SPDX-License-Identifier: GPL-3.0-or-later
"""What the processes of a start say to each other: typed messages, over pipes of one sender and one receiver each.

Format of a message on a pipe: its size, four bytes, big-endian; then its kind and its texts, separated by NUL.
"""

from __future__ import annotations

import posix
import time

from . import linux
from .errors import HookError, describe_failure
from .paths import fsdecode, fsencode

PATIENCE = 30.0  # seconds; by then whoever has to answer has given up
_CHUNK = 1 << 16  # bytes


class EndOfMessagesError(Exception):
    """The sender has ended."""


class NoAnswerError(Exception):
    """Nothing has come within the time."""


class Message:
    """A message of one kind. Attributes: texts, none of which holds a NUL."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def encode(self) -> bytes:
        """Return the message as it stands on a pipe."""
        data = b"\0".join(fsencode(text) for text in (self.__class__.__name__, *self.texts))
        return len(data).to_bytes(4, "big") + data


class Warned(Message):
    """A warning for the hook to report: its text."""


class Failed(Message):
    """The sender has failed and ends: why, one line."""


class Forked(Message):
    """The daemon's process exists: its pid, as the host's /proc numbers it, and its start time in clock ticks since boot."""


class PortIsFree(Message):
    """The daemon's process can be confined, and its port is free: its pid, as the container numbers it."""


class ProgramsMounted(Message):
    """Dropbear's programs are mounted in the container."""


class Provisioned(Message):
    """All is in place in the container: the options that Dropbear takes."""


class Run(Message):
    """The daemon is recorded, and may run Dropbear with these options."""


class Keep(Message):
    """The daemon listens: what was put into the container stays."""


_KINDS = {kind.__name__: kind for kind in (Warned, Failed, Forked, PortIsFree, ProgramsMounted, Provisioned, Run, Keep)}


def _decode(data: bytes) -> Message:
    kind, *texts = fsdecode(data).split("\0")
    return _KINDS[kind](*texts)


class Pipe:
    """A pipe from one process to another, made before the two part. Attributes: reader and writer, its descriptors."""

    def __init__(self) -> None:
        self.reader, self.writer = posix.pipe()
        self._received = b""

    def send(self, message: Message) -> None:
        """Send `message`. Raises OSError where the receiver has ended."""
        posix.write(self.writer, message.encode())

    def send_failure(self, error: Exception, what: str) -> None:
        """Send what went wrong, if there is a receiver; `what` begins the text where no check foresaw the failure."""
        text = describe_failure(error)
        try:
            self.send(Failed(text if isinstance(error, HookError) else f"{what}: {text}"))
        except OSError:
            pass

    def receive(self, seconds: float) -> Message:
        """Return the next message. Raises EndOfMessagesError, and NoAnswerError after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.has_message():
            if linux.poll([self.reader], deadline - time.monotonic()):
                self._read()
            elif time.monotonic() >= deadline:
                raise NoAnswerError
        return self._take()

    def receive_by_read(self) -> Message:
        """Return the next message, by no other system call than read(2). Raises EndOfMessagesError."""
        while not self.has_message():
            self._read()
        return self._take()

    def has_message(self) -> bool:
        """Whether a message has been read that was not taken yet."""
        return len(self._received) >= 4 + int.from_bytes(self._received[:4], "big") > 4

    def _read(self) -> None:
        more = posix.read(self.reader, _CHUNK)
        if not more:
            raise EndOfMessagesError
        self._received += more

    def _take(self) -> Message:
        end = 4 + int.from_bytes(self._received[:4], "big")
        data, self._received = self._received[4:end], self._received[end:]
        return _decode(data)


def expect(message: Message, kind: type[Message]) -> Message:
    """Return `message`, which has to be of this `kind`. Raises EndOfMessagesError: nobody who is at work sends another."""
    if not isinstance(message, kind):
        raise EndOfMessagesError
    return message


class Lifeline:
    """A pipe that nothing is written to: its reader sees whether the process that keeps the writer lives."""

    def __init__(self) -> None:
        self.reader, self.writer = posix.pipe2(posix.O_NONBLOCK | posix.O_CLOEXEC)

    def is_alive(self) -> bool:
        """Whether the process that keeps the writer lives."""
        try:
            posix.read(self.reader, 1)
        except BlockingIOError:
            return True
        return False


def wait_for_messages(pipes: list[Pipe], seconds: float) -> list[Pipe]:
    """Return those of `pipes` that have something to receive, an end too; none after `seconds`."""
    present = [pipe for pipe in pipes if pipe.has_message()]
    if present:
        return present
    ready = linux.poll([pipe.reader for pipe in pipes], seconds)
    return [pipe for pipe in pipes if pipe.reader in ready]


class Pipes:
    """The pipes of a start, made before its processes part.

    Attributes: from_provisioner, to the hook: Warned, Failed, Provisioned; from_daemon, to the hook: Forked, Warned, Failed;
    to_provisioner, from the daemon's process: PortIsFree; to_daemon, from the provisioner: ProgramsMounted; release, from the
    hook to the daemon's process: Run; verdict, from the hook to the provisioner: Keep; ready, to the hook: a newline of
    Dropbear's when it listens; hook, whose writer the hook keeps.
    """

    def __init__(self) -> None:
        self.from_provisioner = Pipe()
        self.from_daemon = Pipe()
        self.to_provisioner = Pipe()
        self.to_daemon = Pipe()
        self.release = Pipe()
        self.verdict = Pipe()
        self.ready = Pipe()
        self.hook = Lifeline()

    def close_others(self, *own: int) -> None:
        """Close all descriptors but the `own` ones of the calling process: the others' ends tell when they end."""
        for pipe in self.__dict__.values():
            for descriptor in (pipe.reader, pipe.writer):
                if descriptor not in own:
                    posix.close(descriptor)
