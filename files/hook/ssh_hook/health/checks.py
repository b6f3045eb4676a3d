# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared code of the checks of ``ssh_hook doctor``: a user's, and with ``--node`` root's."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import describe_failure

DEADLINE = 10.0  # seconds for one check
OK, WARNING, PROBLEM = "ok", "warning", "problem"
CLIENT_PROGRAMS = ("ssh", "scp", "sftp", "sftp-server")  # in Dropbear's directory

Result = tuple[str, str]
Check = Callable[[dict[str, str]], Result]


def as_json(results: Mapping[str, Result]) -> str:
    """Return the results of checks, keyed by name, for JSON."""
    return json.dumps([{"check": name, "result": kind, "text": text} for name, (kind, text) in results.items()])


def within_deadline(check: Check, settings: dict[str, str], deadline: float = DEADLINE) -> Result:
    """Return the result of `check`: a problem if it raises, or takes over `deadline` seconds (a hung file system)."""
    found: list[Result] = []

    def work() -> None:
        try:
            found.append(check(settings))
        except Exception as error:
            found.append((PROBLEM, describe_failure(error)))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(deadline)
    late = f"not finished within {deadline:.0f} s: a file system or the network may hang"
    return found[0] if found else (PROBLEM, late)


def read_text(path: str) -> str:
    """Return the text of a file; empty if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
