# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages: to standard error as the annotations com.hooks.logging.* direct, and to syslog.

syslog gets warnings and errors whatever the level, since a runtime may drop what a hook prints.
"""

from __future__ import annotations

import posix

from .errors import LateError

PREFIX = "ssh_hook: "  # of every line
_MAX_LENGTH = 1000  # characters of a message
DEBUG, INFO, WARNING, ERROR = range(4)
_NAMES = ("debug", "info", "warning", "error")
_TIMEOUT = 2.0  # seconds, for a message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    from .userfiles import LogFile

    Target = Union[int, LogFile]


class Log:
    """Attributes: level, the lowest level that is printed; stdout and stderr, where messages below a warning go, and the
    others, a descriptor or a file of the user's; to_syslog.
    """

    def __init__(self) -> None:
        self.level = WARNING
        self.stdout: Target = 1
        self.stderr: Target = 2
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

    def _print(self, target: Target, line: bytes) -> None:
        """Write `line`. While a runtime waits for the hook, a process does that which can be left behind: the file of a user's
        may hang, or what crun redirects the hook's messages to.
        """
        try:
            if self.to_syslog and self._print_by_another(target, line):
                return
            _write(target, line)
        except OSError:
            pass  # nobody reads; syslog has it

    def _print_by_another(self, target: Target, line: bytes) -> bool:
        """Whether there was a process for that."""
        try:
            from . import disposable  # which imports what a stage without messages does without

            user = None if isinstance(target, int) else target.user
            kept = (target,) if isinstance(target, int) else ()
            disposable.run(lambda: _write(target, line), "cannot log", user, kept, _TIMEOUT)
        except LateError:
            self.stdout, self.stderr = 1, 2  # the next message is not to wait as long
        except Exception:
            # The hook may not even be able to import: then it writes by itself, but into no file of a user's.
            return not isinstance(target, int)
        return True


def _write(target: Target, line: bytes) -> bytes:
    if isinstance(target, int):
        posix.write(target, line)
    else:
        target.append(line)
    return b""


log = Log()
