# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a job in one shell word: the annotation com.hooks.ssh.hosts.

Format: entries separated by commas, or by slashes: podman before 5.0 splits the value of --annotation at commas. An
entry is ``NAME``, or ``NAME+MORE`` for NAME and MORE hosts after it, counted in the last number of the name:
``node001+127`` is node001 to node128. To count in another number, put ``+MORE`` after it: ``x001+127-hsn0`` is
x001-hsn0 to x128-hsn0. ``:SLOTS`` may follow, the number of processes that launchers start on each of these hosts; it
is 1 by default. NAME is a host's name or IPv4 address (not IPv6: host files of launchers also separate slots with a
colon). No character is special to a shell that expands the word.

An entry may also be in Slurm's notation, ``node[001-003,007]:4``. Commands accept this with IPv6 addresses as well.
"""

from __future__ import annotations

from ..errors import HookError, printable
from ..fast_stdlib import TYPE_CHECKING
from ..linux.process import is_decimal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Characters. On Linux a string in a command line or the environment has at most 131,071 bytes (MAX_ARG_STRLEN,
# include/uapi/linux/binfmts.h). This leaves room for all other options in the argument of a `sh -c`.
MAX_TEXT = 120000
MAX_HOSTS = 16384
_MAX_NAME = 253
_MEAN_NAME = 64  # characters, with the maximum number of hosts
_MAX_NAMES = MAX_HOSTS * _MEAN_NAME  # characters in total: the hook's tmpfs is not charged to the container
_MAX_DIGITS = 9  # of the number that counts
MAX_SLOTS = 65535
_DIGITS = "0123456789"
_NO_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_.-"
_ALPHABET = frozenset(_DIGITS + _NO_DIGITS)


def parse(text: str, where: str, kind: str) -> list[tuple[str, int]]:
    """Return each host with its slots, in order. Raises HookError of `kind`, which begins with `where`."""
    if len(text) > MAX_TEXT:
        raise HookError(
            kind,
            f"{where} has {len(text)} characters: it may have {MAX_TEXT}: order the hosts so that numbers in their "
            "names count up, or leave it out and give your launcher your own host file",
        )
    has_slashes = "/" in text
    text = text.replace("/", ",")
    found: dict[str, int] = {}
    size = 0
    for entry in split_items(text, where, kind) if "[" in text else text.split(","):
        listed, colon, slots = entry.partition(":")
        every = _number(slots, MAX_SLOTS) if colon else 1
        # NODE/CPU is PBS's notation, ADDRESS/BITS that of a network.
        if every < 1 or (has_slashes and not listed.strip(_DIGITS)):
            raise _malformed(entry, where, kind)
        if "[" in listed:
            names = expand_item(listed, where, kind, MAX_HOSTS, len(found))
        else:
            names = _expand_entry(listed, entry, where, kind, len(found))
        for name in names:
            if name in found:
                raise HookError(kind, f"{where} lists {name} twice")
            found[name] = every
            size += len(name)
        if size > _MAX_NAMES:
            raise _too_long(where, kind, _MAX_NAMES)
    return list(found.items())


def _expand_entry(listed: str, entry: str, where: str, kind: str, known: int) -> list[str]:
    """Return the names of an entry without its slots, ``NAME`` or ``NAME+MORE``, after `known` earlier names."""
    first, plus, rest = listed.partition("+")
    after = rest.lstrip(_DIGITS)
    count = 1 + _number(rest[: len(rest) - len(after)], MAX_HOSTS - 1) if plus else 1
    if not is_name(first + after) or count < 1:
        raise _malformed(entry, where, kind)
    if known + count > MAX_HOSTS:
        raise _too_many(where, kind, MAX_HOSTS)
    return _count_from(first, after, count, where, kind)


def _malformed(entry: str, where: str, kind: str) -> HookError:
    return HookError(
        kind,
        f"{where} has '{printable(entry)}': give NAME, NAME:SLOTS, NAME+MORE:SLOTS or NAME+MORE-SUFFIX:SLOTS, or "
        "Slurm's notation, such as node[001-003,007]:SLOTS",
    )


def _too_many(where: str, kind: str, limit: int) -> HookError:
    return HookError(kind, f"{where} has more than {limit} hosts")


def _too_long(where: str, kind: str, limit: int) -> HookError:
    return HookError(kind, f"{where} has names of more than {limit} characters in total")


def expand(text: str, where: str, kind: str, limit: int) -> list[str]:
    """Return the hosts of a list in Slurm's notation: ``login1,gpu[001-003,7],rack[1-2]n[0-1]``.

    Raises HookError of `kind`, which begins with `where`, for a malformed list, an invalid host name, more than `limit`
    hosts, or too many long names.
    """
    hosts: list[str] = []
    for item in split_items(text, where, kind):
        hosts += expand_item(item, where, kind, limit, len(hosts))
    return hosts


def split_items(text: str, where: str, kind: str) -> list[str]:
    """Split a list at its commas, except those in brackets. Raises HookError."""
    items: list[str] = []
    pieces: list[str] = []
    depth = 0
    for piece in text.split(","):
        pieces.append(piece)
        depth += piece.count("[") - piece.count("]")
        if depth == 0:
            items.append(",".join(pieces))
            pieces = []
    if pieces:
        raise HookError(kind, f"{where} has '{printable(text)}': its brackets do not match")
    return items


def expand_item(item: str, where: str, kind: str, limit: int, known: int) -> list[str]:
    """Return the hosts of one item in Slurm's notation; `known` is the number of hosts before. Raises as `expand`."""
    choices: list[list[str]] = []  # alternately literal text and the content of brackets
    count = 1
    rest = item
    while rest or not choices:
        literal, opening, rest = rest.partition("[")
        choices.append([literal])
        if opening:
            inside, _closing, rest = rest.partition("]")
            choices.append(_numbers(inside, item, where, kind, limit, known))
        count *= len(choices[-1])
        if count > limit - known:
            raise _too_many(where, kind, limit)
    # All others differ from the longest name only in digits. They are generated after this check, since there may be
    # many.
    longest = "".join(max(choice, key=len) for choice in choices)
    if not is_host(longest):
        raise HookError(kind, f"{where} has '{printable(item)}', not the name or address of a host")
    if count * len(longest) > limit * _MEAN_NAME:
        raise _too_long(where, kind, limit * _MEAN_NAME)
    names = [""]
    for choice in choices:
        names = [name + part for name in names for part in choice]
    return names


def _numbers(ranges: str, item: str, where: str, kind: str, limit: int, known: int) -> list[str]:
    """Return the numbers in ``001-003,7``, each padded to the width of the first in its range."""
    numbers: list[str] = []
    for text in ranges.split(","):
        start, dash, end = text.partition("-")
        first, last = _natural(start), _natural(end if dash else start)
        if not 0 <= first <= last:
            raise HookError(kind, f"{where} has '{printable(item)}': '{printable(text)}' is not a range of numbers")
        if last - first >= limit - known - len(numbers):
            raise _too_many(where, kind, limit)
        width = len(start)
        numbers += [f"{number:0{width}d}" for number in range(first, last + 1)]
    return numbers


def _natural(digits: str) -> int:
    """Return the number in `digits`; -1 if they are not digits, or more than 9."""
    return int(digits) if is_decimal(digits, _MAX_DIGITS) else -1


def compress(hosts: Iterable[tuple[str, int]]) -> str:
    """Return the text that `parse` expands to `hosts`, shortened by runs of consecutive names."""
    return ",".join(_entry(first, counted, more, slots) for first, _last, counted, more, slots in _runs(hosts))


def in_slurms_notation(names: Iterable[str]) -> str:
    """Return the hosts as SLURM_JOB_NODELIST has them: ``login1,gpu[001-003]``."""
    runs = _runs((name, 1) for name in names)
    return ",".join(_item(first, last, counted) for first, last, counted, _more, _slots in runs)


def is_name(name: str) -> bool:
    """Return whether `name` can be a host's name or IPv4 address, and not a command's option."""
    return 0 < len(name) <= _MAX_NAME and _ALPHABET.issuperset(name) and name[0] not in "-."


def is_host(name: str) -> bool:
    """Return whether `name` can be a host's name or IP address (also IPv6), and not a command's option."""
    return is_name(name.replace(":", "."))


def _number(text: str, maximum: int) -> int:
    """Return the number in `text`; -1 if it is not from 1 to `maximum`."""
    number = _natural(text)
    return number if 1 <= number <= maximum else -1


def _parts(name: str) -> list[str]:
    """Return the parts of a name: texts (the first and the last may be empty) with a number between any two."""
    parts = [""]
    for character in name:
        if character.isdigit() == (len(parts) % 2 == 1):
            parts.append("")
        parts[-1] += character
    return parts if len(parts) % 2 == 1 else [*parts, ""]


def _runs(hosts: Iterable[tuple[str, int]]) -> Iterator[tuple[list[str], list[str], int, int, int]]:
    """Yield runs of consecutive hosts with the same slots.

    Each consists of the parts of its first and of its last name, the index of the number that counts (0 for a single
    host), the number of hosts after the first, and their slots.
    """
    first: list[str] = []
    last: list[str] = []
    counted, more, slots = 0, 0, 0
    for name, every in hosts:
        parts = _parts(name)
        following = _following(last, parts) if every == slots else 0
        if following and counted in (0, following):
            counted, more = following, more + 1
        else:
            if first:
                yield first, last, counted, more, slots
            first, counted, more, slots = parts, 0, 0, every
        last = parts
    if first:
        yield first, last, counted, more, slots


def _following(parts: list[str], others: list[str]) -> int:
    """Return the index of the number in which `others` is one more than `parts`; 0 if it is not."""
    if len(parts) != len(others):
        return 0
    differing = [index for index in range(len(parts)) if parts[index] != others[index]]
    if len(differing) != 1 or differing[0] % 2 == 0:
        return 0
    digits = parts[differing[0]]
    is_next = len(digits) <= _MAX_DIGITS and others[differing[0]] == f"{int(digits) + 1:0{len(digits)}d}"
    return differing[0] if is_next else 0


def _item(start: list[str], last: list[str], counted: int) -> str:
    """Return the item for the hosts from `start` to `last`; `counted` is the index of the part that counts them."""
    if not counted:
        return "".join(start)
    return f"{''.join(start[:counted])}[{start[counted]}-{last[counted]}]{''.join(start[counted + 1 :])}"


def _entry(parts: list[str], counted: int, more: int, slots: int) -> str:
    """Return the entry for a host and `more` after it; `counted` is the index of the part that counts them."""
    if not more:
        return f"{''.join(parts)}:{slots}"
    end = len(parts) if counted == len(parts) - 2 else counted + 1
    return f"{''.join(parts[:end])}+{more}{''.join(parts[end:])}:{slots}"


def _count_from(first: str, after: str, count: int, where: str, kind: str) -> list[str]:
    """Return `count` names. `first` is the name up to the number that counts, `after` the rest (may be empty)."""
    if count == 1:
        return [first]
    start = first.rstrip(_NO_DIGITS)
    rest = first[len(start) :]
    before = start.rstrip(_DIGITS)
    digits = start[len(before) :]
    if not 0 < len(digits) <= _MAX_DIGITS or (rest and after):
        raise HookError(
            kind,
            f"{where} has '{printable(first)}+': that name does not end with a number of 1 to {_MAX_DIGITS} digits",
        )
    after = rest + after
    width, number = len(digits), int(digits)
    return [f"{before}{value:0{width}d}{after}" for value in range(number, number + count)]
