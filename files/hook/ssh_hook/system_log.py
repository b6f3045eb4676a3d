# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's system log, with fields that identify the container and its user.

journald, if it runs, gets them in its native protocol. Any other daemon gets the fields as an RFC 5424 structured-data
element, followed by the text: the text may quote a user, who could fake such an element. The line itself is in RFC 3164
format, as sent by syslog(3): by default rsyslog accepts no other at /dev/log, and would mistake the version in an RFC
5424 header for the program's name.

Nothing blocks for long: if a daemon does not read, the message is lost, but the container starts.

Formats: systemd's "Native Journal Protocol", RFC 3164, and section 6.3 of RFC 5424.
"""

from __future__ import annotations

import errno
import time

from .fast_stdlib import os
from .linux import syscalls

WARNING, ERROR = 4, 3  # severities of RFC 5424
_DAEMON = 3  # a facility of RFC 5424
NAME = "ssh_hook"
JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
_MAX_LINE = 8 << 10  # bytes, rsyslog's default limit: the text is truncated, never the fields
_MAX_VALUE = 500  # bytes of a field's value, so that all fields fit
_ATTEMPTS = 20  # to write to a daemon whose queue is full
_DELAY = 0.01  # seconds between attempts


def send(severity: int, text: str, fields: dict[str, str]) -> None:
    """Log one line; it is lost if no daemon accepts it. `text` and the fields' values are printable.

    Names in `fields` consist of lower case letters and underscores; fields without a value are omitted.
    """
    known = {name: value for name, value in fields.items() if value}
    messages = (
        (JOURNAL, syscalls.SOCK_DGRAM, _for_journal(severity, text, known)),
        (SYSLOG, syscalls.SOCK_DGRAM, _for_syslog(severity, text, known)),
        (SYSLOG, syscalls.SOCK_STREAM, _for_syslog(severity, text, known) + b"\0"),
    )
    for path, kind, data in messages:
        if _has_sent(path, kind, data):
            return


def _for_journal(severity: int, text: str, fields: dict[str, str]) -> bytes:
    entries = {
        "MESSAGE": text,
        "PRIORITY": str(severity),
        "SYSLOG_FACILITY": str(_DAEMON),
        "SYSLOG_IDENTIFIER": NAME,
        "SYSLOG_PID": str(os.getpid()),
    }
    common = "".join(f"{name}={value}\n" for name, value in entries.items())
    return (common + journal_fields(fields)).encode("utf-8", "backslashreplace")


def _for_syslog(severity: int, text: str, fields: dict[str, str]) -> bytes:
    when = time.strftime("%b %e %H:%M:%S")
    element = f"[{NAME}{parameters(fields)}] " if fields else ""
    line = f"<{_DAEMON * 8 + severity}>{when} {NAME}[{os.getpid()}]: {element}{text}"
    return line.encode("ascii", "backslashreplace")[:_MAX_LINE]


def journal_fields(fields: dict[str, str]) -> str:
    """Return `fields` in journald's native protocol."""
    return "".join(f"SSH_HOOK_{name.upper()}={value}\n" for name, value in fields.items())


def parameters(fields: dict[str, str]) -> str:
    """Return `fields` as the parameters of an RFC 5424 structured-data element."""
    return "".join(f' {name}="{_escape(value)}"' for name, value in fields.items())


def _escape(value: str) -> str:
    shown = value.encode("ascii", "backslashreplace")[:_MAX_VALUE].decode("ascii")
    return shown.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _has_sent(path: str, kind: int, data: bytes) -> bool:
    """Send `data`; return False if no daemon accepts it within a fraction of a second."""
    for _attempt in range(_ATTEMPTS):
        try:
            syscalls.send_to_path(path, kind, data)
            return True
        except OSError as error:
            if error.errno != errno.EAGAIN:
                return False
        time.sleep(_DELAY)
    return False
