# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look users up in the text of a passwd(5) file.

The file may have hundreds of thousands of lines, and a container's start waits for the answer, so
a look-up searches the bytes and parses only lines that can match. Invalid lines (blank, comments, NIS ``+`` and ``-``
lines, wrong number of fields, malformed numbers) are skipped. Of several entries with the same name or uid the first
counts, as for getpwnam(3).
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ID = 0xFFFFFFFE  # the kernel's (uid_t)-1 means "no user"


class Entry:
    """One user of a passwd file: name, uid, gid, gecos, home and shell.

    Text is decoded as UTF-8 with ``surrogateescape``, so that any bytes survive a round trip.
    """

    __slots__ = ("gecos", "gid", "home", "name", "shell", "uid")

    def __init__(self, name: str, uid: int, gid: int, gecos: str, home: str, shell: str) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.gecos = gecos
        self.home = home
        self.shell = shell


def find_by_uid(data: bytes | bytearray, uid: int, end: int | None = None) -> Entry | None:
    """Return the first entry for `uid` in the passwd file `data`, or in `data[:end]`; None if there is none."""
    # bytes.find() is slower if the needle begins with a frequent byte such as the colon; long numbers need no colon.
    needle, colons = (b"%d:" % uid, 2) if uid >= 1000 else (b":%d:" % uid, 1)
    limit = len(data) if end is None else end
    hit = data.find(needle, 0, limit)
    while hit >= 0:
        start = data.rfind(b"\n", 0, hit) + 1
        if data.count(b":", start, hit) != colons:  # the hit is in another field
            hit = data.find(needle, hit + 1, limit)
            continue
        line_end = _line_end(data, start)
        entry = _parse(data[start:line_end])
        if entry is not None and entry.uid == uid:
            return entry
        hit = data.find(needle, line_end, limit)
    return None


def iterate(data: bytes) -> Iterator[Entry]:
    """Yield every entry of the passwd file `data`, in the file's order, duplicates included."""
    start = 0
    while start < len(data):
        end = _line_end(data, start)
        entry = _parse(data[start:end])
        if entry is not None:
            yield entry
        start = end + 1


def _line_end(data: bytes | bytearray, start: int) -> int:
    end = data.find(b"\n", start)
    return len(data) if end < 0 else end


def _parse(line: bytes | bytearray) -> Entry | None:
    """Return the entry in `line`, or None if the line holds none."""
    fields = line.split(b":")
    if len(fields) != 7 or not fields[0] or fields[0][:1] in (b"#", b"+", b"-"):
        return None
    uid, gid = _number(fields[2]), _number(fields[3])
    if uid is None or gid is None:
        return None
    name, gecos, home, shell = (
        field.decode("utf-8", "surrogateescape") for field in (fields[0], fields[4], fields[5], fields[6])
    )
    return Entry(name, uid, gid, gecos, home, shell)


def _number(field: bytes | bytearray) -> int | None:
    """Return the id in `field`, or None if it is not an id in canonical decimal form."""
    if not field.isdigit() or len(field) > 10 or (field[:1] == b"0" and field != b"0"):
        return None
    value = int(field)
    return value if value <= MAX_ID else None
