"""What a seccomp filter answers, by an interpreter of the kernel's instructions of old (seccomp(2),
linux/bpf_common.h).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

ARCHITECTURES = (0xC000003E, 0x40000003, 0xC00000B7)  # x86_64, which has the calls of x32 too, i386, and a foreign one
X32 = 0x40000000  # is in the numbers of its calls
LAST_CALL = 480
_LOAD, _RETURN, _AND = 0x20, 0x06, 0x54
_JUMP, _EQUAL, _GREATER, _GREATER_EQUAL, _SET = 0x05, 0x15, 0x25, 0x35, 0x45


class Instruction(NamedTuple):
    """struct sock_filter."""

    code: int
    true: int
    false: int
    value: int


class Call(NamedTuple):
    """A system call as a filter sees it."""

    number: int
    architecture: int
    arguments: tuple[int, ...]

    def data(self) -> bytes:
        """struct seccomp_data."""
        return struct.pack("=II7Q", self.number, self.architecture, 0, *self.arguments)


def instructions(program: bytes) -> list[Instruction]:
    """The instructions of a program."""
    return [Instruction(*fields) for fields in struct.iter_unpack("=HBBI", program)]


def answer(program: Sequence[Instruction], call: Call) -> tuple[int, int]:
    """What the program returns for the call, and after how many instructions."""
    data = struct.unpack("=16I", call.data())
    place = steps = accumulator = 0
    while True:
        code, true, false, value = program[place]
        place += 1
        steps += 1
        if code == _LOAD:
            accumulator = data[value // 4]
        elif code == _AND:
            accumulator &= value
        elif code == _RETURN:
            return value, steps
        elif code == _JUMP:
            place += value
        else:
            holds = {
                _EQUAL: accumulator == value,
                _GREATER: accumulator > value,
                _GREATER_EQUAL: accumulator >= value,
                _SET: accumulator & value != 0,
            }[code]
            place += true if holds else false


def calls(program: Sequence[Instruction]) -> Iterator[Call]:
    """Every system call, with no arguments and with each of the values in turn that the program could ask for, and near
    them.
    """
    asked = {instruction.value for instruction in program if instruction.code in (_EQUAL, _GREATER, _GREATER_EQUAL)}
    values = sorted({0, 2**64 - 1} | {value + near for value in asked if value > LAST_CALL for near in (-1, 0, 1)})
    for architecture in ARCHITECTURES:
        for number in [*range(LAST_CALL), *range(X32, X32 + LAST_CALL), 2**32 - 1]:
            for value in values[:: 1 + len(values) // 6]:
                yield Call(number, architecture, (value,) * 6)
