# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of compiled programs: they run in containers without libc, and are hardened as intended."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .errors import BuildError

MACHINES = {"x86_64": 62, "aarch64": 183, "ppc64le": 21, "riscv64": 243}  # ELF's numbers


@dataclass(frozen=True)
class Elf:
    """The properties of a program for the checks."""

    machine: int
    position_independent: bool
    interpreter: str
    needed: tuple[str, ...]
    relro: bool
    bind_now: bool
    executable_stack: bool


def read_elf(data: bytes) -> Elf:
    """Read a 64-bit little-endian ELF file; raises BuildError if `data` is invalid or truncated."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise BuildError("not a 64-bit little-endian ELF file")
    try:
        return _read_elf(data)
    except (struct.error, ValueError):
        raise BuildError("a damaged ELF file") from None


def _read_elf(data: bytes) -> Elf:
    kind, machine = struct.unpack_from("<HH", data, 16)
    (table,) = struct.unpack_from("<Q", data, 32)
    entry_size, count = struct.unpack_from("<HH", data, 54)
    # Of each program header: type, flags, file offset, virtual address, size in the file.
    headers = [struct.unpack_from("<IIQQ8xQ", data, table + number * entry_size) for number in range(count)]
    if any(offset + size > len(data) for _header, _flags, offset, _address, size in headers):
        raise ValueError("cut short")

    def contents(wanted: int) -> bytes:
        for header, _flags, offset, _address, size in headers:
            if header == wanted:
                return data[offset : offset + size]
        return b""

    def text_at(address: int) -> str:
        for header, _flags, offset, start, size in headers:
            if header == 1 and start <= address < start + size:  # PT_LOAD
                place = offset + address - start
                return data[place : data.index(b"\0", place)].decode(errors="replace")
        raise ValueError(address)

    dynamic = list(struct.iter_unpack("<QQ", contents(2)))  # PT_DYNAMIC
    values = dict(dynamic)
    flags = {header: flags for header, flags, *_rest in headers}
    return Elf(
        machine=machine,
        position_independent=kind == 3,  # ET_DYN
        interpreter=contents(3).rstrip(b"\0").decode(errors="replace"),  # PT_INTERP
        needed=tuple(text_at(values[5] + value) for tag, value in dynamic if tag == 1),  # DT_NEEDED in DT_STRTAB
        relro=0x6474E552 in flags,  # PT_GNU_RELRO
        bind_now=24 in values or bool(values.get(30, 0) & 8) or bool(values.get(0x6FFFFFFB, 0) & 1),
        executable_stack=bool(flags.get(0x6474E551, 1) & 1),  # PT_GNU_STACK; absent means executable
    )


def faults(elf: Elf, architecture: str) -> list[str]:
    """Return why a program must not be installed; empty if it may."""
    found = []
    if elf.machine != MACHINES[architecture]:
        found.append(f"is for another machine (ELF number {elf.machine})")
    if elf.interpreter:
        found.append(f"needs the interpreter {elf.interpreter}")
    if elf.needed:
        found.append(f"needs {', '.join(elf.needed)}")
    if not elf.position_independent:
        found.append("is not position-independent")
    if not (elf.relro and elf.bind_now):
        found.append("does not bind all symbols at start, read-only")
    if elf.executable_stack:
        found.append("has an executable stack")
    return found


def check_program(data: bytes, architecture: str, name: str) -> None:
    """Raise BuildError unless the program runs in a container without libc, hardened as intended."""
    try:
        found = faults(read_elf(data), architecture)
    except BuildError as error:
        found = [f"is {error}"]
    if found:
        raise BuildError(f"{name} for {architecture} {'; '.join(found)}: refused")
