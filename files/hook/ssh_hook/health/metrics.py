# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``ssh_hook sweep --metrics FILE`` writes for a monitoring system: numbers, and no user names.

The format is OpenMetrics text, in the subset that node_exporter's textfile collector reads too: counters and gauges
without timestamps. Counters continue from the values in the file, so they survive a reboot. Starting a container writes
nothing: failures are read from the files of ``ssh_hook why``, which hold each user's last error.
"""

from __future__ import annotations

import os
import re
import stat
import time

from ..errors import INTERNAL, NOT_TRUSTED, HookError, kind_of_os
from ..fast_stdlib import closing
from ..linux.files import is_own, read_own
from ..node import last_messages, places, user_child
from ..node.inventory import find_all_daemons
from ..node.public_file import replace
from .error_catalogue import CATALOGUE

_MAX_SIZE = 64 << 10  # bytes
_MAX_VALUE = 1 << 53  # the largest count in a float64
_SAMPLE = re.compile(r'(ssh_hook_[a-z_]+)(?:\{kind="([a-z-]+)"\})? ([0-9]{1,16})')
_UNTIL = "ssh_hook_sweep_timestamp_seconds"
_FAILURES, _COLLECTED, _ERRORS = (
    "ssh_hook_failures_total",
    "ssh_hook_collected_total",
    "ssh_hook_sweep_errors_total",
)


class Metrics:
    """The numbers in a metrics file.

    Attributes:
        failures: failed starts, by kind of error.
        collected, errors: records that sweeps collected, and failed to collect.
        until: failures up to this time are counted, in seconds since the epoch.
    """

    def __init__(self, text: str = "") -> None:
        """Parse `text`, written by an earlier sweep; a missing or invalid number is 0."""
        found = {(match[1], match[2]): int(match[3]) for match in map(_SAMPLE.fullmatch, text.splitlines()) if match}
        self.failures = {kind: _bounded(found.get((_FAILURES, kind), 0)) for kind in sorted(CATALOGUE)}
        self.collected = _bounded(found.get((_COLLECTED, None), 0))
        self.errors = _bounded(found.get((_ERRORS, None), 0))
        self.until = _bounded(found.get((_UNTIL, None), 0))

    def count_failures(self, now: int) -> None:
        """Count each user's last error if it is older than `now` and no earlier sweep has counted it.

        Raises OSError if the directory of errors cannot be read.
        """
        since = min(self.until, now - 1)  # in case the clock was set back
        for kind in _kinds_of_errors(since, now):
            self.failures[kind] += 1
        self.until = now - 1

    def text(self, daemons: int, sessions: int) -> str:
        """Return the file's content, with the numbers of running daemons and sessions."""
        failures = [f'{_FAILURES}{{kind="{kind}"}} {number}' for kind, number in self.failures.items()]
        lines = [
            *_family("ssh_hook_daemons", "gauge", "Running SSH daemons of containers."),
            f"ssh_hook_daemons {daemons}",
            *_family("ssh_hook_sessions", "gauge", "Connections that these daemons serve."),
            f"ssh_hook_sessions {sessions}",
            *_family(
                "ssh_hook_failures",
                "counter",
                "Starts of rootful containers that failed in the hook, at most one per user between two sweeps.",
            ),
            *failures,
            *_family(
                "ssh_hook_collected",
                "counter",
                "Rootful containers that a sweep cleaned up after, since their runtime was killed.",
            ),
            f"{_COLLECTED} {self.collected}",
            *_family("ssh_hook_sweep_errors", "counter", "Rootful containers that a sweep could not clean up after."),
            f"{_ERRORS} {self.errors}",
            *_family(_UNTIL, "gauge", "Time of the last sweep. Later failures are not counted yet."),
            f"# UNIT {_UNTIL} seconds",
            f"{_UNTIL} {self.until}",
            "# EOF",
            "",
        ]
        return "\n".join(lines)


def update(path: str, collected: int, errors: int) -> None:
    """Update the file `path` with the current numbers and the results of one sweep. Raises HookError."""
    directory, name = os.path.split(path)
    try:
        with closing(_open_own(directory or ".")) as place:
            metrics = Metrics(_read(name, place))
            metrics.collected += collected
            metrics.errors += errors
            metrics.count_failures(int(time.time()))
            daemons = find_all_daemons()
            text = metrics.text(len(daemons), sum(daemon.sessions() for daemon in daemons))
            # Its temporary name has no suffix that node_exporter reads.
            replace(path, place, text.encode(), user_child.METRICS)
    except OSError as error:
        raise HookError(kind_of_os(error), f"cannot write {path}: {error.strerror}") from None


def _open_own(path: str) -> int:
    """Open the directory; only the caller may be able to replace files in it. Raises HookError and OSError."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    if is_own(os.fstat(directory), stat.S_IFDIR):
        return directory
    os.close(directory)
    raise HookError(
        NOT_TRUSTED,
        f"other users can write to {path}, so no metrics are written there: give it to root, with mode 0755",
    )


def _read(name: str, directory: int) -> str:
    """Return the text of an earlier file; empty if there is none, or it is not the caller's."""
    try:
        return (read_own(name, _MAX_SIZE, directory) or b"").decode("ascii", "replace")
    except OSError:
        return ""


def _kinds_of_errors(since: int, now: int) -> list[str]:
    """Return the kind of the first error in each user's last failure between `since` and `now`. Raises OSError."""
    found = []
    for uid in places.users():
        known = last_messages.read(last_messages.roots_paths(uid)[0])
        if known is not None and since < known.time < now:
            # An earlier version wrote no kind.
            found += [kind or INTERNAL for level, kind, _text in known.messages if level == "error"][:1]
    return found


def _family(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _bounded(number: int) -> int:
    return number % _MAX_VALUE
