# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook logins``: the sessions in the caller's containers on this node, as far as the caller may read the journal.

Format: systemd's "Journal JSON Format".
"""

from __future__ import annotations

import functools
import json
import os
import pwd
import subprocess
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from itertools import islice

from ..errors import SYSTEM, HookError, printable
from ..fast_stdlib import TYPE_CHECKING
from ..log import WARNING, log
from ..system_log import NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

_TIMEOUT = 60.0  # seconds for journalctl
_MOST = 20_000  # entries, the newest
_MAX_ENTRY = 8 << 10  # bytes, twice as many as the longest of Dropbear's
_EVENTS = ("begins", "ends")
# By the fields of the lines of Dropbear (patch 11-logins); `begun` and `ended` are seconds since the epoch.
_FIELDS = ("user", "uid", "container", "container_id", "job", "kind", "from", "key", "command")
_ENDS = ("status", "signal", "seconds", "started")
_COLUMNS = ("BEGUN", "SECONDS", "END", "KIND", "USER", "CONTAINER", "JOB", "FROM", "KEY")

DESCRIPTION = "Show the sessions in your containers on this node, from the journal."
EXAMPLE = "ssh_hook logins --since today"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--since",
        metavar="WHEN",
        default="-7d",
        help="show sessions since WHEN: today, -1d or 2026-11-28, as for journalctl (default: -7d)",
    )


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
        print("the part of the journal that you can read has no session in your containers")
    return 0


def sessions(lines: Iterable[bytes]) -> list[dict[str, str]]:
    """Return what the journal's entries, in JSON, tell of each session, by the order of their beginning.

    Anybody can write them. So what one user has written changes nothing of what another one's processes have, and
    `writer` is the uid that the kernel names where it is neither root's nor, by the name service, that of the user whom
    the line names. Only the writers' uids are looked up: the user names in lines are untrusted, and may be many.
    """
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for line in lines:
        try:
            entry = {name: value for name, value in json.loads(line).items() if isinstance(value, str)}
            event, writer = entry["SSH_HOOK_EVENT"], entry.get("_UID", "?")
            parts = (entry["SSH_HOOK_SESSION"], entry.get("SSH_HOOK_FROM", ""), entry.get("SSH_HOOK_USER", ""))
            identity = (*parts, writer, entry.get("_BOOT_ID", ""))
            seconds = f"{int(entry['__REALTIME_TIMESTAMP']) / 1e6:.3f}"
        except (ValueError, KeyError, AttributeError):
            continue  # anybody may write there
        values = _values(entry, _FIELDS)
        values["writer"] = "" if writer == "0" or values["user"] == _name_of(writer) else writer
        if event == _EVENTS[0]:
            found.setdefault(identity, {"begun": seconds, **values})
        elif event == _EVENTS[1]:  # its beginning may be older, or lost
            known = found.setdefault(identity, {"begun": "", **values})
            if "ended" not in known:
                known.update({"ended": seconds, **_values(entry, _ENDS)})
    return list(found.values())


@functools.cache
def _name_of(uid: str) -> str | None:
    """Return the name of the user with this uid, if there is one."""
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError, OverflowError):
        return None


def _values(entry: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: entry.get(f"SSH_HOOK_{name.upper()}", "") for name in names}


def _read_journal(since: str, uid: int) -> list[bytes]:
    """Return the entries of sessions, one in JSON each, the oldest first; of very many the newest. Raises HookError."""
    names = [f"SSH_HOOK_{name.upper()}" for name in ("event", "session", *_FIELDS, *_ENDS)]
    own = [] if uid == 0 else [f"SSH_HOOK_UID={uid}"]
    # Before systemd 254 --lines and --since together give the oldest lines.
    command = ["journalctl", "--no-pager", "--quiet", "--output=json", "--reverse", f"--since={since}"]
    command += [f"--identifier={NAME}", f"--output-fields=_UID,{','.join(names)}"]
    command += [*(f"SSH_HOOK_EVENT={event}" for event in _EVENTS), *own]
    with tempfile.TemporaryFile() as errors:
        try:
            journal = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        except FileNotFoundError:
            raise HookError(
                SYSTEM, "this node has no journal (journalctl): the administrator can read its log"
            ) from None
        except OSError as error:
            raise HookError(SYSTEM, f"cannot read the journal: {error}") from None
        newest = _take(journal)
        errors.seek(0)
        problems = errors.read(_MAX_ENTRY).decode("utf-8", "replace").strip()
    if len(newest) > _MOST:
        log(WARNING, f"these are the newest {_MOST} lines: journalctl -t {NAME} shows the others")
    elif journal.returncode < 0:
        raise HookError(SYSTEM, f"cannot read the journal: journalctl has not ended within {_TIMEOUT:.0f} s")
    elif journal.returncode != 0 and problems:
        raise HookError(SYSTEM, f"journalctl: {printable(problems.splitlines()[-1])}")
    return [line for line in reversed(newest[:_MOST]) if line]


def _take(journal: subprocess.Popen[bytes]) -> list[bytes]:
    """Return the first lines that `journal` prints, one more than _MOST at most, and end it; long ones are empty."""
    timer = threading.Timer(_TIMEOUT, journal.kill)
    timer.start()
    try:
        with journal:
            assert journal.stdout is not None
            lines = [line if len(line) <= _MAX_ENTRY else b"" for line in islice(journal.stdout, _MOST + 1)]
            if len(lines) > _MOST:
                journal.kill()
    finally:
        timer.cancel()
    return lines


def _row(session: dict[str, str]) -> tuple[str, ...]:
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(session["begun"]))) if session["begun"] else "-"
    if session.get("signal"):
        end = f"signal {session['signal']}"
    elif session.get("started") == "no":
        end = "not started"
    else:
        end = session.get("status") or ("disconnected" if "ended" in session else "-")
    container = session["container"] or session["container_id"][:12]
    user = f"{session['user']} (claimed by uid {session['writer']})" if session["writer"] else session["user"]
    cells = (begun, session.get("seconds"), end, session["kind"], user, container, session["job"])
    return tuple(printable(cell or "-") for cell in (*cells, session["from"], session["key"]))
