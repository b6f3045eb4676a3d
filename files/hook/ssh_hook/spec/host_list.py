# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a job in one word: the annotation com.hooks.ssh.hosts.

Format: entries with a comma between them. An entry is ``NAME``, or ``NAME+MORE`` for MORE hosts after NAME, which are
counted by the last number in it: ``node001+127`` is node001 to node128. ``:SLOTS`` may follow, the number of processes
that launchers start on each of these hosts; it is 1 by default. The name is a host's name or IPv4 address: host files
of launchers separate slots by a colon, too. No character has a meaning for a shell that expands the word.
"""

from __future__ import annotations

from ..errors import HookError, printable
from ..kernel.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_TEXT = 32768  # characters: a command line's argument, and an annotation in config.json
MAX_HOSTS = 16384
_MAX_NAMES = 1 << 20  # characters of all names together: the hook's tmpfs is not charged to the container
_MAX_NAME = 253
_MAX_DIGITS = 9  # of the number that counts
_MAX_SLOTS = 65535
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


def parse(text: str, where: str) -> list[tuple[str, int]]:
    """Return each host with its slots, in order. Raises HookError, which begins with `where`."""
    if len(text) > MAX_TEXT:
        raise HookError(f"{where} has {len(text)} characters: it may have {MAX_TEXT}")
    found: dict[str, int] = {}
    size = 0
    for entry in text.split(","):
        names, _colon, slots = entry.partition(":")
        first, plus, more = names.partition("+")
        count = 1 + _number(more, MAX_HOSTS - 1) if plus else 1
        every = _number(slots, _MAX_SLOTS) if _colon else 1
        if not is_name(first) or count < 1 or every < 1:
            raise HookError(f"{where} has '{printable(entry)}': give NAME, NAME:SLOTS or NAME+MORE:SLOTS")
        if len(found) + count > MAX_HOSTS:
            raise HookError(f"{where} has more than {MAX_HOSTS} hosts")
        for name in _count_from(first, count, where):
            if name in found:
                raise HookError(f"{where} names {name} twice")
            found[name] = every
            size += len(name)
        if size > _MAX_NAMES:
            raise HookError(f"{where} has names of more than {_MAX_NAMES} characters in all")
    return list(found.items())


def compress(hosts: Iterable[tuple[str, int]]) -> str:
    """Return the text from which `parse` makes `hosts`; as short as consecutive names allow."""
    entries: list[str] = []
    start, following, more, slots = "", "", 0, 0
    for name, every in [*hosts, ("", 0)]:
        if name and name == following and every == slots:
            more += 1
        else:
            if start:
                entries.append(f"{start}+{more}:{slots}" if more else f"{start}:{slots}")
            start, more, slots = name, 0, every
        following = _successor(name)
    return ",".join(entries)


def is_name(name: str) -> bool:
    """Tell whether `name` can be a host's name or IPv4 address, and no option of a command."""
    return 0 < len(name) <= _MAX_NAME and _ALPHABET.issuperset(name) and name[0] not in "-."


def _number(text: str, maximum: int) -> int:
    """Return the number in `text`; -1 where it is not from 1 to `maximum`."""
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and 1 <= int(text) <= maximum
    return int(text) if is_number else -1


def _split(name: str) -> tuple[str, str, str]:
    """Return `name` as what stands before its last number, the number's digits, and what follows them."""
    end = len(name)
    while end and not name[end - 1].isdigit():
        end -= 1
    start = end
    while start and name[start - 1].isdigit():
        start -= 1
    return name[:start], name[start:end], name[end:]


def _count_from(first: str, count: int, where: str) -> list[str]:
    if count == 1:
        return [first]
    before, digits, after = _split(first)
    if not 0 < len(digits) <= _MAX_DIGITS:
        raise HookError(f"{where} has '{printable(first)}+': that name has no number of 1 to {_MAX_DIGITS} digits")
    width, number = len(digits), int(digits)
    return [f"{before}{value:0{width}d}{after}" for value in range(number, number + count)]


def _successor(name: str) -> str:
    """Return the host after `name`; empty where there is none."""
    before, digits, after = _split(name)
    return f"{before}{int(digits) + 1:0{len(digits)}d}{after}" if 0 < len(digits) <= _MAX_DIGITS else ""
