# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol of the three processes of a start: typed messages over pipes, each with one sender and receiver.

    provisioner  ->  hook          KeysMissing?, Warned*, Made*, Provisioned; or Failed, or Unserved
    daemon       ->  hook          Forked, Warned*; or Failed; then what Dropbear writes when it listens
    daemon       ->  provisioner   PortIsFree
    provisioner  ->  daemon        ProgramsMounted
    hook         ->  daemon        Run
    hook         ->  provisioner   KeysMade, after KeysMissing; Keep

The hook creates a Channel and forks. Each process then takes its end and closes all other descriptors, so that a reader
gets EOF when the writer has exited. An end has a method for each message that its process sends or awaits. A method
that must follow another message takes that message as an argument.

Format of a message: its size, four bytes, big-endian; then its kind and its fields, separated by NUL.
"""

from __future__ import annotations

import time

from ..errors import HookError, describe_failure, kind_of, known_kind
from ..fast_stdlib import TYPE_CHECKING, fsdecode, fsencode, os
from ..linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    M = TypeVar("M", bound="Message")

_TIMEOUT = 30.0  # seconds; longer than the hook waits before it kills the other side
_CHUNK = 1 << 16  # bytes
UNLOGGED = b"!"  # Dropbear's, where it listens, but cannot log logins


class EndOfMessagesError(Exception):
    """The sender has exited, or violated the protocol."""


class NoAnswerError(Exception):
    """No message arrived before the timeout."""


class Message:
    """A message of one kind. Its attributes are its fields, which are sent as text without NUL."""

    def fields(self) -> list[str]:
        """Return the arguments from which the constructor makes an equal message."""
        return [str(value) for value in self.__dict__.values()]


class _Text(Message):
    def __init__(self, kind: str, text: str) -> None:
        self.kind = known_kind(kind)
        self.text = text.replace("\0", "\\0")


class _HostKeys(Message):
    """Attributes: host_keys, the paths of the host keys in the container, preferred first."""

    def __init__(self, *host_keys: str) -> None:
        self.host_keys = host_keys

    def fields(self) -> list[str]:
        """Return the arguments from which the constructor makes an equal message."""
        return list(self.host_keys)


class Warned(_Text):
    """A warning for the hook to log. Attributes: kind, text."""


class Failed(_Text):
    """The sender has failed and exits. Attributes: kind; text, a one-line reason."""


class Unserved(_Text):
    """The container must start without SSH, and the sender exits. Attributes: kind; text, a one-line reason."""


class KeysMissing(_Text):
    """The user has no key set. Attributes: kind and text of the error if none can be created."""


class KeysMade(Message):
    """The user now has a key set."""


class Made(Message):
    """The provisioner has changed something in a container that may outlive the daemon.

    Attributes:
        kind: as in Rootfs.note.
        path: in the container.
        detail: the id of the mount as in mountinfo, or the old content.
    """

    def __init__(self, kind: str, path: str, detail: str) -> None:
        self.kind = kind
        self.path = path
        self.detail = detail


class Forked(Message):
    """The daemon's process exists.

    Attributes:
        pid: its pid in the pid namespace of the host's /proc.
        start_time: in clock ticks since boot.
    """

    def __init__(self, pid: int | str, start_time: int | str) -> None:
        self.pid = int(pid)
        self.start_time = int(start_time)


class PortIsFree(Message):
    """The daemon's process can be confined and its port is free. Attributes: pid, in the container's pid namespace."""

    def __init__(self, pid: int | str) -> None:
        self.pid = int(pid)


class ProgramsMounted(Message):
    """Dropbear's programs are mounted in the container."""


class Provisioned(_HostKeys):
    """The container is provisioned. Attributes: host_keys."""


class Run(_HostKeys):
    """The daemon is recorded, and may exec Dropbear. Attributes: host_keys."""


class Keep(Message):
    """The daemon listens: the provisioner may write files that outlive the container."""


_KINDS: dict[str, Callable[..., Message]] = {
    kind.__name__: kind
    for kind in (
        *(Warned, Failed, Unserved, KeysMissing, KeysMade, Made),
        *(Forked, PortIsFree, ProgramsMounted, Provisioned, Run, Keep),
    )
}


def encode(message: Message) -> bytes:
    """Return `message` as sent on a pipe."""
    data = b"\0".join(map(fsencode, [message.__class__.__name__, *message.fields()]))
    return len(data).to_bytes(4, "big") + data


def decode(data: bytes) -> Message:
    """Return the message in `data`, the result of `encode` without the size."""
    kind, *fields = fsdecode(data).split("\0")
    return _KINDS[kind](*fields)


class Sender:
    """The write end of a pipe. Attributes: descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def send(self, message: Message) -> None:
        """Send `message`. Raises BrokenPipeError if the receiver has exited."""
        os.write(self.descriptor, encode(message))

    def fail(self, error: Exception, what: str) -> None:
        """Send `error` as Failed, if the receiver is alive; the text begins with `what`, except for a HookError."""
        text = describe_failure(error)
        try:
            self.send(Failed(kind_of(error), text if isinstance(error, HookError) else f"{what}: {text}"))
        except OSError:
            pass


class Receiver:
    """The read end of a pipe. Attributes: descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._received = b""

    def receive(self, kind: type[M], seconds: float) -> M:
        """Return the next message, of type `kind`. Raises EndOfMessagesError, and NoAnswerError after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.has_message():
            if not syscalls.poll([self.descriptor], deadline):
                raise NoAnswerError
            self.read()
        return self._take(kind)

    def receive_by_read(self, kind: type[M]) -> M:
        """Return the next message like `receive`, without a timeout, and with no system call but read(2)."""
        while not self.has_message():
            self.read()
        return self._take(kind)

    def has_message(self) -> bool:
        """Return whether a complete message is buffered."""
        return len(self._received) >= 4 + int.from_bytes(self._received[:4], "big") > 4

    def read(self) -> None:
        """Wait for part of a message, and buffer it. Raises EndOfMessagesError."""
        more = os.read(self.descriptor, _CHUNK)
        if not more:
            raise EndOfMessagesError
        self._received += more

    def _take(self, kind: type[M]) -> M:
        end = 4 + int.from_bytes(self._received[:4], "big")
        data, self._received = self._received[4:end], self._received[end:]
        message = decode(data)
        if not isinstance(message, kind):
            raise EndOfMessagesError
        return message


class HookEnd:
    """The hook's end of the channel. Attributes: made, the provisioner's changes so far."""

    def __init__(self, provisioner: Receiver, daemon: Receiver, ready: int, run: Sender, keep: Sender) -> None:
        self.made: list[Made] = []
        self._receivers = (daemon, provisioner)
        self._ready = ready
        self._run = run
        self._keep = keep

    def receive(self, seconds: float) -> Message:
        """Return the next message from provisioner or daemon; a Made is collected, not returned.

        Raises NoAnswerError after `seconds`, EndOfMessagesError if one of them has exited.
        """
        deadline = time.monotonic() + seconds
        while isinstance(message := self._receive(deadline), Made):
            self.made.append(message)
        return message

    def _receive(self, deadline: float) -> Message:
        while True:
            for receiver in self._receivers:
                if receiver.has_message():
                    return receiver.receive(Message, 0)
            ready = syscalls.poll([receiver.descriptor for receiver in self._receivers], deadline)
            if not ready:
                raise NoAnswerError
            has_ended = False
            for receiver in self._receivers:
                if receiver.descriptor in ready:
                    try:
                        receiver.read()
                    except EndOfMessagesError:
                        has_ended = True
            if has_ended and not any(receiver.has_message() for receiver in self._receivers):
                raise EndOfMessagesError

    def failure(self, seconds: float) -> tuple[str, str] | None:
        """Return kind and text of the first Failed from either, or None; wait `seconds` for each message."""
        for receiver in self._receivers:
            try:
                while True:
                    message = receiver.receive(Message, seconds)
                    if isinstance(message, Made):
                        self.made.append(message)
                    if isinstance(message, Failed):
                        return message.kind, message.text
            except (EndOfMessagesError, NoAnswerError):
                pass
        return None

    def release(self, provisioned: Provisioned) -> None:
        """Let the daemon exec Dropbear. Raises BrokenPipeError if it has exited."""
        self._run.send(Run(*provisioned.fields()))

    def await_ready(self, seconds: float) -> bytes:
        """Return what Dropbear writes when it listens: a newline, or UNLOGGED; empty where it has ended.

        Raises NoAnswerError after `seconds`.
        """
        if not syscalls.poll([self._ready], time.monotonic() + seconds):
            raise NoAnswerError
        return os.read(self._ready, 1)

    def announce_keys(self) -> None:
        """Tell the provisioner that the user now has keys. Raises BrokenPipeError if it has exited."""
        self._keep.send(KeysMade())

    def keep(self) -> None:
        """Let the provisioner write the files that outlive the container, if there are any."""
        try:
            self._keep.send(Keep())
        except BrokenPipeError:
            pass  # there are none, and it has exited


class ProvisionerEnd:
    """The provisioner's end of the channel. Attributes: to_hook."""

    def __init__(self, to_hook: Sender, port: Receiver, programs: Sender, keep: Receiver) -> None:
        self.to_hook = to_hook
        self._port = port
        self._programs = programs
        self._keep = keep

    def await_keys(self) -> None:
        """Wait until the hook has created the user's keys. Raises EndOfMessagesError and NoAnswerError."""
        self._keep.receive(KeysMade, _TIMEOUT)

    def await_port(self) -> PortIsFree:
        """Wait until the daemon can be confined and its port is free. Raises EndOfMessagesError and NoAnswerError."""
        return self._port.receive(PortIsFree, _TIMEOUT)

    def announce_programs(self, _after: PortIsFree) -> None:
        """Tell the daemon that Dropbear's programs are mounted. Raises BrokenPipeError if it has exited."""
        self._programs.send(ProgramsMounted())

    def await_keep(self, _after: Provisioned) -> None:
        """Wait until the daemon listens. Raises EndOfMessagesError and NoAnswerError."""
        self._keep.receive(Keep, _TIMEOUT)


class DaemonEnd:
    """The daemon's end of the channel.

    Attributes:
        to_hook: the sender of messages to the hook.
        ready: the descriptor to which Dropbear writes when it listens.
    """

    def __init__(self, to_hook: Sender, port: Sender, programs: Receiver, run: Receiver, ready: int, hook: int) -> None:
        self.to_hook = to_hook
        self.ready = ready
        self._port = port
        self._programs = programs
        self._run = run
        self._hook = hook

    def kept(self) -> set[int]:
        """Return the descriptors that the process still needs after `announce_port`."""
        return {self.to_hook.descriptor, self._programs.descriptor, self._run.descriptor, self.ready, self._hook}

    def announce_port(self, pid: int) -> None:
        """Tell the provisioner that the port is free. Raises BrokenPipeError if it has exited."""
        self._port.send(PortIsFree(pid))

    def await_programs(self) -> ProgramsMounted:
        """Wait until Dropbear's programs are mounted. Raises EndOfMessagesError and NoAnswerError."""
        return self._programs.receive(ProgramsMounted, _TIMEOUT)

    def await_run(self, _after: ProgramsMounted) -> Run:
        """Wait for the hook to release the daemon, with no system call but read(2): a seccomp filter may be loaded.

        Raises EndOfMessagesError if the hook has exited, even after it sent Run.
        """
        run = self._run.receive_by_read(Run)
        try:
            os.read(self._hook, 1)
        except BlockingIOError:
            return run  # no EOF: the hook is alive
        raise EndOfMessagesError


class Channel:
    """All pipes of a start, created before the hook forks."""

    def __init__(self) -> None:
        self._provisioner_to_hook = os.pipe()
        self._daemon_to_hook = os.pipe()
        self._daemon_to_provisioner = os.pipe()
        self._provisioner_to_daemon = os.pipe()
        self._hook_to_daemon = os.pipe()
        self._hook_to_provisioner = os.pipe()
        self._ready = os.pipe()
        self._hook_alive = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # never written: EOF when the hook exits

    def fail(self, error: Exception, what: str) -> None:
        """Send an error to the hook, from a provisioner that has not taken its end yet; see Sender.fail."""
        Sender(self._provisioner_to_hook[1]).fail(error, what)

    def hook_end(self) -> HookEnd:
        """Return the hook's end, and close all other descriptors."""
        provisioner, daemon, ready = self._provisioner_to_hook[0], self._daemon_to_hook[0], self._ready[0]
        run, keep = self._hook_to_daemon[1], self._hook_to_provisioner[1]
        self._close_all_but(provisioner, daemon, ready, run, keep, self._hook_alive[1])
        return HookEnd(Receiver(provisioner), Receiver(daemon), ready, Sender(run), Sender(keep))

    def provisioner_end(self) -> ProvisionerEnd:
        """Return the provisioner's end, and close all other descriptors."""
        to_hook, port = self._provisioner_to_hook[1], self._daemon_to_provisioner[0]
        programs, keep = self._provisioner_to_daemon[1], self._hook_to_provisioner[0]
        self._close_all_but(to_hook, port, programs, keep)
        return ProvisionerEnd(Sender(to_hook), Receiver(port), Sender(programs), Receiver(keep))

    def daemon_end(self) -> DaemonEnd:
        """Return the end of the daemon's process, and close all other descriptors."""
        to_hook, port, ready = self._daemon_to_hook[1], self._daemon_to_provisioner[1], self._ready[1]
        programs, run, hook = self._provisioner_to_daemon[0], self._hook_to_daemon[0], self._hook_alive[0]
        self._close_all_but(to_hook, port, programs, run, ready, hook)
        return DaemonEnd(Sender(to_hook), Sender(port), Receiver(programs), Receiver(run), ready, hook)

    def _close_all_but(self, *own: int) -> None:
        for pipe in self.__dict__.values():
            for descriptor in pipe:
                if descriptor not in own:
                    os.close(descriptor)
