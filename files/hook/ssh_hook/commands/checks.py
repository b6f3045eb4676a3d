# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks of ``ssh_hook doctor`` have in common: those of a user, and with ``--node`` those of root."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import describe_failure

DEADLINE = 10.0  # seconds for one check
OK, WARNING, PROBLEM = "ok", "warning", "problem"
CLIENT_PROGRAMS = ("ssh", "scp", "sftp", "sftp-server")  # in the directory of Dropbear's

Result = tuple[str, str]
Check = Callable[[dict[str, str]], Result]


def as_json(results: Mapping[str, Result]) -> str:
    """Return the results of checks, by the names of these, for programs."""
    return json.dumps([{"check": name, "result": kind, "text": text} for name, (kind, text) in results.items()])


def within_deadline(check: Check, settings: dict[str, str], deadline: float = DEADLINE) -> Result:
    """Return the result of `check`: a problem where it raises, or takes more than `deadline` seconds, as on a file
    system that hangs.
    """
    found: list[Result] = []

    def work() -> None:
        try:
            found.append(check(settings))
        except Exception as error:
            found.append((PROBLEM, describe_failure(error)))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(deadline)
    return found[0] if found else (PROBLEM, f"no answer within {deadline:.0f} s: a file system or the network hangs")


def read_text(path: str) -> str:
    """Return the text of a file; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
