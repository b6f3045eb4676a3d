# SPDX-License-Identifier: GPL-3.0-or-later
"""The annotations of a container: com.hooks.ssh.* and com.hooks.logging.*.

Format: https://github.com/opencontainers/runtime-spec (config.md, annotations): every value is a string.
"""

from __future__ import annotations

from ..errors import ANNOTATION_WRONG, HookError, printable
from ..fast_stdlib import TYPE_CHECKING
from ..linux.process import is_decimal
from .container_paths import PIDFILE
from .settings import NO_PORT, parse_port_choice

if TYPE_CHECKING:
    from .json_reader import Node

PREFIX = "com.hooks.ssh."
ENABLED = "com.hooks.ssh.enabled"  # the condition for engines, in the hook's JSON
HOSTS = "com.hooks.ssh.hosts"
PORT = "com.hooks.ssh.port"
USER = "com.hooks.ssh.user"
WAIT = "com.hooks.ssh.wait"
REQUIRE_SHELL = "com.hooks.ssh.require_shell"
PIDFILE_CONTAINER = "com.hooks.ssh.pidfile_container"
PIDFILE_HOST = "com.hooks.ssh.pidfile_host"
AUTHORIZE_SSH_KEY = "com.hooks.ssh.authorize_ssh_key"
LOG_LEVEL = "com.hooks.logging.level"
LOG_STDOUT = "com.hooks.logging.stdoutfd"
LOG_STDERR = "com.hooks.logging.stderrfd"

# All annotations of com.hooks.ssh: the user is warned of any other, which must be a mistake.
_KNOWN = (ENABLED, HOSTS, PORT, USER, WAIT, REQUIRE_SHELL, PIDFILE_CONTAINER, PIDFILE_HOST, AUTHORIZE_SSH_KEY)
_MAX_UNKNOWN = 4  # warnings
_MAX_NAME = 64  # characters of an unknown annotation to compare
_DAY = 24 * 60 * 60  # seconds
_DEFAULT_LOG_LEVEL = 2  # warnings
WAIT_IN_JOB = 300  # seconds to wait if the container knows the hosts of its job, unless the user chooses another time


class Annotations:
    """The validated annotations of one container.

    Attributes:
        is_undecided: whether com.hooks.ssh.enabled is neither "true" nor "false". If it is "false" or missing, the hook
            was called through a CDI device or the bundle itself, which requests SSH.
        warnings: messages for the user about annotations that have no effect.
        port: NO_PORT if it is "none"; None if it is not set or "auto".
        has_automatic_port: whether it is "auto": the port is derived from the container's job.
        user: the name of the container's user; empty if not set.
        hosts: the hosts of the job in order, each with its slots; empty if not set.
        wait: how long the container's ssh waits for a server that does not answer yet, in seconds; None if not set.
        require_shell: whether a container without a shell fails to start; None if not set.
        pidfile_container: an absolute path; Dropbear's default pidfile if not set.
        pidfile_host, authorize_ssh_key: absolute paths; empty if not set.
        log_level: 0 (debug) to 4 (errors only).
        log_stdout, log_stderr: a path, or the number of a descriptor; empty if not set.
    """

    def __init__(self, annotations: Node) -> None:
        """Validate the object `annotations` of config.json. Raises HookError, which names the annotation."""
        self._annotations = annotations
        self.is_undecided = self._text(ENABLED) not in (None, "true", "false")
        self.warnings = [_describe_unknown(name) for name in self._unknown()[:_MAX_UNKNOWN]]
        port = self._text(PORT)
        self.port = None if port is None else parse_port_choice(port, f"the annotation {PORT}", ANNOTATION_WRONG)
        self.has_automatic_port = port is not None and self.port is None
        self.user = self._text(USER) or ""
        self.hosts = self._hosts()
        if self.port == NO_PORT and self.hosts:
            raise HookError(
                ANNOTATION_WRONG,
                f"the annotation {PORT} is none, but the hosts of {HOSTS} need a port to reach each other",
            )
        wait = self._text(WAIT)
        self.wait = None if wait is None else parse_seconds(wait, f"the annotation {WAIT}", ANNOTATION_WRONG)
        self.require_shell = self._boolean(REQUIRE_SHELL)
        self.pidfile_container = self._path(PIDFILE_CONTAINER) or PIDFILE
        self.pidfile_host = self._path(PIDFILE_HOST)
        self.authorize_ssh_key = self._path(AUTHORIZE_SSH_KEY)
        self.log_level = self._log_level()
        self.log_stdout = self._text(LOG_STDOUT) or ""
        self.log_stderr = self._text(LOG_STDERR) or ""

    def _unknown(self) -> list[str]:
        return [name for name in self._annotations.value if name.startswith(PREFIX) and name not in _KNOWN]

    def _text(self, name: str) -> str | None:
        return self._annotations.text(name) if self._annotations.has(name) else None

    def _path(self, name: str) -> str:
        text = self._text(name)
        if text is None:
            return ""
        if not text.startswith("/") or text.endswith("/") or any(character < " " for character in text):
            raise HookError(
                ANNOTATION_WRONG, f"the annotation {name} is '{printable(text)}': give the absolute path of a file"
            )
        return text

    def _boolean(self, name: str) -> bool | None:
        text = self._text(name)
        if text not in (None, "true", "false"):
            raise HookError(ANNOTATION_WRONG, f"the annotation {name} is '{printable(text)}': give true or false")
        return None if text is None else text == "true"

    def _hosts(self) -> list[tuple[str, int]]:
        text = self._text(HOSTS)
        if text is None:
            return []

        from .host_list import parse  # here: few containers have it

        return parse(text, f"the annotation {HOSTS}", ANNOTATION_WRONG)

    def _log_level(self) -> int:
        text = self._text(LOG_LEVEL)
        if text is None:
            return _DEFAULT_LOG_LEVEL
        if text not in ("0", "1", "2", "3", "4"):
            raise HookError(
                ANNOTATION_WRONG,
                f"the annotation {LOG_LEVEL} is '{printable(text)}': give a level from 0 (debug) to 4 (errors only)",
            )
        return int(text)


def _describe_unknown(name: str) -> str:
    return f"the annotation {printable(name)} has no effect: did you mean {nearest(name)}?"


def nearest(name: str) -> str:
    """Return the annotation closest to `name`."""
    return min(_KNOWN, key=lambda known: distance(name[:_MAX_NAME], known))


def distance(first: str, second: str) -> int:
    """Return the edit distance (Levenshtein) of two texts."""
    row = list(range(len(second) + 1))
    for number, character in enumerate(first, 1):
        last, row[0] = row[0], number
        for column, other in enumerate(second, 1):
            last, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, last + (character != other))
    return row[-1]


def parse_seconds(text: str, where: str, kind: str, least: int = 0, most: int = _DAY) -> int:
    """Return `text`, decimal digits only, as seconds. Raises HookError of `kind`, which begins with `where`."""
    if not (is_decimal(text, 5) and least <= int(text) <= most):
        raise HookError(kind, f"{where} is '{printable(text)}': give seconds from {least} to {most}")
    return int(text)
