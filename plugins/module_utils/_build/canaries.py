# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stack canaries: count the functions of a source that have one, in the linked program itself.

A function with a canary calls __stack_chk_fail. Every program linked with musl contains that function, and some
distributions compile musl with canaries. So only calls from functions of the source's own objects count.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence, Set

from .elf import MACHINES
from .errors import BuildError
from .symbols import SHF_EXECINSTR, read_functions, read_sections

FAIL = "__stack_chk_fail"
MIN_GUARDED = 0.1  # of a program's functions, and of a library's objects; actually a third and a half have canaries


def _signed(value: int, bits: int) -> int:
    return value - (value >> (bits - 1) << bits)


def _calls_x86_64(code: bytes) -> Iterator[tuple[int, int]]:
    place = code.find(b"\xe8")
    while 0 <= place <= len(code) - 5:
        yield place, 5 + int(struct.unpack_from("<i", code, place + 1)[0])
        place = code.find(b"\xe8", place + 1)


def _calls_aarch64(code: bytes) -> Iterator[tuple[int, int]]:
    for index, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) // 4 * 4])):
        if word >> 26 == 0x25:  # bl
            yield 4 * index, 4 * _signed(word & 0x3FFFFFF, 26)


def _calls_ppc64le(code: bytes) -> Iterator[tuple[int, int]]:
    for index, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) // 4 * 4])):
        if word >> 26 == 18 and word & 3 == 1:  # bl
            distance = _signed(word & 0x3FFFFFC, 26)
            yield 4 * index, distance
            yield 4 * index, distance - 8  # to the local entry point, after two instructions


def _calls_riscv64(code: bytes) -> Iterator[tuple[int, int]]:
    for place in range(0, len(code) - 7, 2):
        word, following = struct.unpack_from("<II", code, place)
        if word & 0xFFF == 0xEF:  # jal ra
            bits = word >> 31 << 20 | (word >> 12 & 0xFF) << 12 | (word >> 20 & 1) << 11 | (word >> 21 & 0x3FF) << 1
            yield place, _signed(bits, 21)
        elif word & 0x7F == 0x17 and following & 0xFFF == 0xE7:  # auipc, jalr ra
            yield place, _signed(word & 0xFFFFF000, 32) + _signed(following >> 20, 12)


# For code: each possible call instruction, and the distance to its target.
CALLS = {
    MACHINES["x86_64"]: _calls_x86_64,
    MACHINES["aarch64"]: _calls_aarch64,
    MACHINES["ppc64le"]: _calls_ppc64le,
    MACHINES["riscv64"]: _calls_riscv64,
}


def guarded_functions(program: bytes) -> set[str]:
    """Return the names of a linked program's functions that have a canary; the program must have its symbol table."""
    functions = sorted(read_functions(program), key=lambda function: function.address)
    starts = [function.address for function in functions]
    targets = {function.address for function in functions if function.name == FAIL}
    (machine,) = struct.unpack_from("<H", program, 18)
    found = set()
    for section in read_sections(program):
        if section.flags & SHF_EXECINSTR:
            for place, distance in CALLS[machine](program[section.offset : section.offset + section.size]):
                caller = section.address + place
                index = bisect_right(starts, caller) - 1
                if caller + distance in targets and index >= 0:
                    found.add(functions[index].name)
    return found


def check_program_canaries(program: bytes, own: Set[str], name: str) -> None:
    """Raise BuildError unless a linked program has canaries in the functions named in `own`."""
    linked = own & {function.name for function in read_functions(program)}
    guarded = linked & guarded_functions(program)
    if len(guarded) < max(1, MIN_GUARDED * len(linked)):
        raise BuildError(
            f"{name} has stack canaries (-fstack-protector-strong) in {len(guarded)} of its {len(linked)} functions:"
            " refused"
        )


def check_library_canaries(objects: Sequence[bytes], release: str) -> None:
    """Raise BuildError unless the object files of a static library have canaries."""
    guarded = sum(f"\0{FAIL}\0".encode() in data for data in objects)
    if guarded < max(1, MIN_GUARDED * len(objects)):
        raise BuildError(
            f"{release} has stack canaries (-fstack-protector-strong) in {guarded} of its {len(objects)} objects:"
            " refused"
        )
