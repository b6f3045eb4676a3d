# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook logins``: the sessions in the caller's containers on this node, as far as the caller may read the journal.

Format: systemd's "Journal JSON Format".
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from argparse import ArgumentParser, Namespace

from ..errors import SYSTEM, HookError, printable
from ..system_log import NAME

_TIMEOUT = 60.0  # seconds for journalctl
_EVENTS = ("begins", "ends")
# By the fields of the lines of Dropbear (patch 11-logins); `begun` and `ended` are seconds since the epoch.
_FIELDS = ("user", "uid", "container", "container_id", "job", "kind", "from", "key", "command")
_ENDS = ("status", "signal", "seconds")
_COLUMNS = ("BEGUN", "SECONDS", "END", "KIND", "USER", "CONTAINER", "JOB", "FROM", "KEY")

DESCRIPTION = "Show the sessions in your containers on this node, from the journal."
EXAMPLE = "ssh_hook logins --since today"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--since", metavar="WHEN", default="-7d", help="as for journalctl; default: seven days ago")


def run(arguments: Namespace, _settings: dict[str, str]) -> int:
    """Print the sessions, the oldest first; for root those of all users. Raises HookError."""
    found = sessions(_read_journal(arguments.since, os.getuid()))
    if arguments.json:
        print(json.dumps(found, indent=2))
    elif found:
        rows = [_COLUMNS, *map(_row, found)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    else:
        print("the journal that you may read has no session in a container of yours")
    return 0


def sessions(lines: str) -> list[dict[str, str]]:
    """Return what the journal's entries, in JSON, tell of each session, by the order of their beginning."""
    found: dict[str, dict[str, str]] = {}
    for line in lines.splitlines():
        try:
            entry = {name: value for name, value in json.loads(line).items() if isinstance(value, str)}
            event, identity = entry["SSH_HOOK_EVENT"], entry["SSH_HOOK_SESSION"] + entry.get("SSH_HOOK_FROM", "")
            seconds = f"{int(entry['__REALTIME_TIMESTAMP']) / 1e6:.3f}"
        except (ValueError, KeyError, AttributeError):
            continue  # anybody may write there
        if event == _EVENTS[0]:
            found[identity] = {"begun": seconds, **_values(entry, _FIELDS)}
        elif event == _EVENTS[1]:  # its beginning may be older, or lost
            known = found.setdefault(identity, {"begun": "", **_values(entry, _FIELDS)})
            known.update({"ended": seconds, **_values(entry, _ENDS)})
    return list(found.values())


def _values(entry: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: entry.get(f"SSH_HOOK_{name.upper()}", "") for name in names}


def _read_journal(since: str, uid: int) -> str:
    """Return the entries of sessions, one a line in JSON. Raises HookError."""
    own = [] if uid == 0 else [f"SSH_HOOK_UID={uid}"]
    command = ["journalctl", "--no-pager", "--quiet", "--output=json", f"--since={since}", f"--identifier={NAME}"]
    try:
        done = subprocess.run(
            [*command, *(f"SSH_HOOK_EVENT={event}" for event in _EVENTS), *own],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise HookError(SYSTEM, "this node has no journal (journalctl): the administrator can read its log") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HookError(SYSTEM, f"cannot read the journal: {error}") from None
    if done.returncode != 0 and done.stderr.strip():
        raise HookError(SYSTEM, f"journalctl: {printable(done.stderr.strip().splitlines()[-1])}")
    return done.stdout


def _row(session: dict[str, str]) -> tuple[str, ...]:
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(session["begun"]))) if session["begun"] else "-"
    if session.get("signal"):
        end = f"signal {session['signal']}"
    else:
        end = session.get("status") or ("disconnected" if "ended" in session else "-")
    container = session["container"] or session["container_id"][:12]
    cells = (begun, session.get("seconds"), end, session["kind"], session["user"], container, session["job"])
    return tuple(printable(cell or "-") for cell in (*cells, session["from"], session["key"]))
