# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of the hook: to the destinations in the annotations com.hooks.logging.*, and to syslog.

syslog gets warnings and errors at any log level, since runtimes may drop the output of hooks. They are also kept for
the file that the user can read: node/last_messages.py.
"""

from __future__ import annotations

from .errors import LateError
from .fast_stdlib import TYPE_CHECKING, os

PREFIX = "ssh_hook: "  # of every line
_MAX_LENGTH = 1000  # characters
DEBUG, INFO, WARNING, ERROR = range(4)
NAMES = ("debug", "info", "warning", "error")
_MAX_KEPT = 8  # messages
_TIMEOUT = 2.0  # seconds to write one message

if TYPE_CHECKING:
    from collections.abc import Callable

    from .linux.identity import Identity


class LogTarget:
    """A destination for messages: an open descriptor, or a file that a subclass opens.

    Attributes:
        descriptor: -1 if not open yet.
        user: the identity to write with; None for the caller's.
    """

    def __init__(self, descriptor: int, user: Identity | None = None) -> None:
        self.descriptor = descriptor
        self.user = user

    def write(self, line: bytes) -> None:
        """Write `line`. Raises OSError."""
        os.write(self.descriptor, line)


class Log:
    """The hook's messages.

    Attributes:
        level: the lowest level to print. Errors are always printed.
        stdout: the destination of debug and info messages.
        stderr: the destination of warnings and errors.
        describe_subject: returns the fields of messages in the system log.
        to_syslog: whether to send warnings and errors to syslog too. True while a runtime waits for the hook.
        kept: the warnings and errors since it was set, as (level, kind, message).
        subject: id and bundle of the container that they are about; empty if unknown.
        user: the name of the container's owner; empty if unknown.
    """

    def __init__(self) -> None:
        self.level = WARNING
        self.stdout = LogTarget(1)
        self.stderr = LogTarget(2)
        self.describe_subject: Callable[[], dict[str, str]] = dict
        self.to_syslog = False
        self.kept: list[tuple[int, str, str]] = []
        self.subject = ("", "")
        self.user = ""
        self._fields: dict[str, str] | None = None

    def __call__(self, level: int, message: str, kind: str = "") -> None:
        """Log one line, an error with its `kind` at the end (errors.py).

        Never raises: a message that cannot be written must not fail the hook.
        """
        message = one_line(message)
        text = f"{message} [{kind}]" if level == ERROR and kind else message
        line = f"{PREFIX}{NAMES[level]}: {text}"
        if level >= self.level or level == ERROR:
            self._print(
                self.stdout if level < WARNING else self.stderr, (line + "\n").encode("utf-8", "backslashreplace")
            )
        if self.to_syslog and level >= WARNING:
            self.keep(level, message, kind)
            self._send(level, text, kind)

    def keep(self, level: int, message: str, kind: str) -> None:
        """Keep one line for the user to ask for, without logging it."""
        if len(self.kept) < _MAX_KEPT:
            self.kept.append((level, kind, one_line(message)))

    def fields(self) -> dict[str, str]:
        """Return the fields that identify the container and its user; cached after the first call."""
        if self._fields is None:
            self._fields = {}  # also if describe_subject fails
            self._fields = self.describe_subject()
        return self._fields

    def _send(self, level: int, text: str, kind: str) -> None:
        """Send one line to the system log."""
        try:
            from . import system_log  # here: most starts log no warning
        except Exception:
            return  # not enough memory to import it
        try:
            fields = self.fields()
        except Exception:
            fields = {}
        try:
            severity = system_log.WARNING if level == WARNING else system_log.ERROR
            system_log.send(severity, text, {"kind": kind, **fields})
        except Exception:
            pass  # the message is kept

    def _print(self, target: LogTarget, line: bytes) -> None:
        """Write `line`; while a runtime waits, in a child, since a user's file or crun's redirected output may hang."""
        try:
            if not (self.to_syslog and self._print_in_child(target, line)):
                target.write(line)
        except OSError:
            pass  # the reader has gone; syslog has it

    def _print_in_child(self, target: LogTarget, line: bytes) -> bool:
        """Write `line` in a disposable process; return False if the caller has to write it."""

        def write() -> bytes:
            target.write(line)
            return b""

        try:
            from .linux import disposable_process  # here: poststop without messages does not need it

            kept = (target.descriptor,) if target.user is None else ()
            disposable_process.run(write, "cannot log", target.user, kept, _TIMEOUT)
        except LateError:
            self.stdout, self.stderr = LogTarget(1), LogTarget(2)  # so that the next message does not wait as well
        except Exception:
            # Not enough memory to fork or import: the hook itself may write to its own output, but not to a user's
            # file.
            return target.user is not None
        return True


def one_line(message: str) -> str:
    """Return `message` truncated and without control sequences for terminals: messages may quote the image."""
    message = message if len(message) <= _MAX_LENGTH else message[:_MAX_LENGTH] + "..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)


log = Log()
