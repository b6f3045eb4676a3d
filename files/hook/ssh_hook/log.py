# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages: to standard error as the annotations com.hooks.logging.* direct, and to syslog.

syslog gets warnings and errors whatever the level, since a runtime may drop what a hook prints.
"""

from __future__ import annotations

import posix

PREFIX = "ssh_hook: "  # of every line
_MAX_LENGTH = 1000  # characters of a message
DEBUG, INFO, WARNING, ERROR = range(4)
_NAMES = ("debug", "info", "warning", "error")


class Log:
    """Attributes: level, the lowest level that is printed; stdout and stderr, the descriptors for messages below a
    warning and for the others; to_syslog.
    """

    def __init__(self) -> None:
        self.level = WARNING
        self.stdout = 1
        self.stderr = 2
        self.to_syslog = False

    def __call__(self, level: int, message: str) -> None:
        """Report one line. Never raises: a message that cannot be written must not change what the hook does."""
        message = message if len(message) <= _MAX_LENGTH else message[:_MAX_LENGTH] + "..."
        message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)  # an image's words are in some
        line = f"{PREFIX}{_NAMES[level]}: {message}"
        if level >= self.level or level == ERROR:
            try:
                posix.write(
                    self.stdout if level < WARNING else self.stderr, (line + "\n").encode("utf-8", "backslashreplace")
                )
            except OSError:
                pass  # nobody reads; syslog has it
        if self.to_syslog and level >= WARNING:
            import syslog  # for this alone

            priority = syslog.LOG_WARNING if level == WARNING else syslog.LOG_ERR
            safe = message.encode("ascii", "backslashreplace").decode()
            syslog.openlog("ssh_hook", syslog.LOG_PID, syslog.LOG_DAEMON)
            syslog.syslog(priority, safe)
            syslog.closelog()  # its descriptor must not reach the container


log = Log()
