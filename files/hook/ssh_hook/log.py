# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages: to standard error as the annotations com.hooks.logging.* direct, and to syslog.

syslog gets warnings and errors whatever the level, since a runtime may drop what a hook prints.
"""

from __future__ import annotations

from .errors import LateError
from .kernel.lean import TYPE_CHECKING, os

PREFIX = "ssh_hook: "  # of every line
_MAX_LENGTH = 1000  # characters of a message
DEBUG, INFO, WARNING, ERROR = range(4)
_NAMES = ("debug", "info", "warning", "error")
_TIMEOUT = 2.0  # seconds, for a message

if TYPE_CHECKING:
    from .kernel.identity import Identity


class LogTarget:
    """Where messages go: an open descriptor, or what a subclass makes of that.

    Attributes:
        descriptor: -1 where there is none yet.
        user: who has to write; None for the caller.
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
        level: the lowest level that is printed.
        stdout: where messages below a warning go; stderr: where the others go.
        to_syslog: whether warnings and errors go there too.
    """

    def __init__(self) -> None:
        self.level = WARNING
        self.stdout = LogTarget(1)
        self.stderr = LogTarget(2)
        self.to_syslog = False

    def __call__(self, level: int, message: str) -> None:
        """Report one line. Never raises: a message that cannot be written must not change what the hook does."""
        message = message if len(message) <= _MAX_LENGTH else message[:_MAX_LENGTH] + "..."
        message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)  # an image's words are in some
        line = f"{PREFIX}{_NAMES[level]}: {message}"
        if level >= self.level or level == ERROR:
            self._print(
                self.stdout if level < WARNING else self.stderr, (line + "\n").encode("utf-8", "backslashreplace")
            )
        if self.to_syslog and level >= WARNING:
            import syslog  # for this alone

            priority = syslog.LOG_WARNING if level == WARNING else syslog.LOG_ERR
            safe = message.encode("ascii", "backslashreplace").decode()
            syslog.openlog("ssh_hook", syslog.LOG_PID, syslog.LOG_DAEMON)
            syslog.syslog(priority, safe)
            syslog.closelog()  # its descriptor must not reach the container

    def _print(self, target: LogTarget, line: bytes) -> None:
        """Write `line`. While a runtime waits for the hook, a process does that which can be left behind: the file of a user's
        may hang, or what crun redirects the hook's messages to.
        """
        try:
            if not (self.to_syslog and self._print_by_another(target, line)):
                target.write(line)
        except OSError:
            pass  # nobody reads; syslog has it

    def _print_by_another(self, target: LogTarget, line: bytes) -> bool:
        """Tell whether there was a process for that."""

        def write() -> bytes:
            target.write(line)
            return b""

        try:
            from .kernel import disposable  # which imports what a stage without messages does without

            kept = (target.descriptor,) if target.user is None else ()
            disposable.run(write, "cannot log", target.user, kept, _TIMEOUT)
        except LateError:
            self.stdout, self.stderr = LogTarget(1), LogTarget(2)  # the next message is not to wait as long
        except Exception:
            # The hook may not even be able to import: then it writes by itself, but into no file of a user's.
            return target.user is not None
        return True


log = Log()
