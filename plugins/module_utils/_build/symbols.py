# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sections and symbols of ELF files that were just compiled.

The symbols are removed here because zig has no strip, and the host's strip supports one architecture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SHT_SYMTAB, SHT_NOBITS = 2, 8
SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK = 0x2, 0x4, 0x40
STT_FUNC = 2
HEADER = "<IIQQQQIIQQ"  # of a section


class Section(NamedTuple):
    """A section's header."""

    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class Function(NamedTuple):
    """A function in an object file or a program; the size is in bytes."""

    name: str
    address: int
    size: int


def read_sections(data: bytes) -> list[Section]:
    """Return the headers of all sections, in order."""
    (table,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    size = struct.calcsize(HEADER)
    return [Section(*struct.unpack_from(HEADER, data, table + number * size)) for number in range(count)]


def read_functions(data: bytes) -> list[Function]:
    """Return the functions that the file defines, from its symbol table; none if it was stripped."""
    sections = read_sections(data)
    found = []
    for section in sections:
        if section.kind == SHT_SYMTAB:
            names = sections[section.link].offset
            table = data[section.offset : section.offset + section.size]
            for name, info, _other, place, address, size in struct.iter_unpack("<IBBHQQ", table):
                if info & 15 == STT_FUNC and place != 0:
                    start = names + name
                    found.append(Function(data[start : data.index(b"\0", start)].decode(), address, size))
    return found


def object_files(top: Path) -> list[bytes]:
    """Return the object files below a directory."""
    files = (path.read_bytes() for path in sorted(top.rglob("*.o")))
    return [data for data in files if data.startswith(b"\x7fELF")]


def function_names(files: Iterable[bytes]) -> set[str]:
    """Return the names of the functions that object files define."""
    return {function.name for data in files for function in read_functions(data)}


def strip(data: bytes) -> bytes:
    """Return a linked program with only what is loaded: no symbol table, no debug information."""
    sections = read_sections(data)
    (names_index,) = struct.unpack_from("<H", data, 62)
    kept = [number for number, section in enumerate(sections) if number == 0 or section.flags & SHF_ALLOC]
    numbers = {number: position for position, number in enumerate(kept)}
    end = max(s.offset + s.size for s in (sections[number] for number in kept) if s.kind != SHT_NOBITS)
    names = sections[names_index]
    body = data[:end] + data[names.offset : names.offset + names.size]
    body += bytes(-len(body) % 8)
    headers = [
        section._replace(
            link=numbers.get(section.link, 0),
            info=numbers.get(section.info, 0) if section.flags & SHF_INFO_LINK else section.info,
        )
        for section in (sections[number] for number in kept)
    ]
    headers.append(names._replace(offset=end))
    stripped = bytearray(body + b"".join(struct.pack(HEADER, *header) for header in headers))
    (programs,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for place in range(programs, programs + count * size, size):
        offset, length = struct.unpack_from("<8xQ16xQ", data, place)
        if offset + length > end:  # PT_RISCV_ATTRIBUTES, which is for linkers
            stripped[place : place + size] = bytes(size)  # PT_NULL
    struct.pack_into("<Q", stripped, 40, len(body))
    struct.pack_into("<HH", stripped, 60, len(headers), len(headers) - 1)
    return bytes(stripped)
