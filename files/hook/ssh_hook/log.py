# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of the hook: to where the annotations com.hooks.logging.* direct them, and to syslog.

syslog gets warnings and errors at any log level, since a runtime may drop the output of its hooks. They are also kept,
for the file that the user can read: node/last_messages.py.
"""

from __future__ import annotations

from .errors import LateError
from .linux.fast_stdlib import TYPE_CHECKING, os

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
    """A destination of messages: an open descriptor, or a file that a subclass opens.

    Attributes:
        descriptor: -1 where there is none yet.
        user: whose credentials it is written with; None for the caller's.
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
        level: the lowest level that is printed. Errors always are.
        stdout: the destination of debug and info messages.
        stderr: the destination of warnings and errors.
        describe_subject: returns the fields of messages in the system log.
        to_syslog: whether warnings and errors go to syslog too. Set while a runtime waits for the hook.
        kept: the warnings and errors since then, as (level, kind, message).
        subject: id and bundle of the container that these are about; empty where they are unknown.
        user: the name of the container's owner; empty where it is unknown.
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
        """Return what says whose container the messages are about, by name, as of the first call."""
        if self._fields is None:
            self._fields = {}  # also where it cannot be found out
            self._fields = self.describe_subject()
        return self._fields

    def _send(self, level: int, text: str, kind: str) -> None:
        """Send one line to the system log."""
        try:
            from . import system_log  # here: most starts log no warning
        except Exception:
            return  # no memory to import it
        try:
            fields = self.fields()
        except Exception:
            fields = {}
        try:
            severity = system_log.WARNING if level == WARNING else system_log.ERROR
            system_log.send(severity, text, {"kind": kind, **fields})
        except Exception:
            pass  # it is kept

    def _print(self, target: LogTarget, line: bytes) -> None:
        """Write `line`; in a child while a runtime waits, since a user's file or crun's redirected output may hang."""
        try:
            if not (self.to_syslog and self._print_in_child(target, line)):
                target.write(line)
        except OSError:
            pass  # nobody reads it; syslog has it

    def _print_in_child(self, target: LogTarget, line: bytes) -> bool:
        """Write `line` in a disposable process; return False where the caller has to write it."""

        def write() -> bytes:
            target.write(line)
            return b""

        try:
            from .linux import disposable_process  # here: a poststop without messages does not need it

            kept = (target.descriptor,) if target.user is None else ()
            disposable_process.run(write, "cannot log", target.user, kept, _TIMEOUT)
        except LateError:
            self.stdout, self.stderr = LogTarget(1), LogTarget(2)  # the next message must not wait as well
        except Exception:
            # No memory to fork or import: the hook itself may write to its own output, but to no file of a user.
            return target.user is not None
        return True


def one_line(message: str) -> str:
    """Return `message` printable, so that no terminal takes it for a command, and truncated: some quote the image."""
    message = message if len(message) <= _MAX_LENGTH else message[:_MAX_LENGTH] + "..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)


log = Log()
