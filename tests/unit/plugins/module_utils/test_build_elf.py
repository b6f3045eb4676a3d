"""What is compiled is checked."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import elf as checks
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import errors
from build_jobs import BIND_NOW, DT_FLAGS, DT_FLAGS_1, NOW, elf


def faults(data: bytes, architecture: str = "x86_64") -> list[str]:
    found: list[str] = checks.faults(checks.read_elf(data), architecture)
    return found


def test_a_static_position_independent_program_is_accepted() -> None:
    assert faults(elf()) == []


@pytest.mark.parametrize("flags", [((DT_FLAGS, BIND_NOW),), ((DT_FLAGS_1, NOW),), ((24, 0),)])
def test_each_way_to_say_bind_now_counts(flags: tuple[tuple[int, int], ...]) -> None:
    assert faults(elf(flags=flags)) == []


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (elf(interpreter=b"/lib/ld-musl-x86_64.so.1"), "needs the interpreter /lib/ld-musl-x86_64.so.1"),
        (elf(needed=(b"libc.so", b"libz.so.1")), "needs libc.so, libz.so.1"),
        (elf(kind=2), "is not position-independent"),
        (elf(relro=False), "does not bind all symbols at start, read-only"),
        (elf(flags=()), "does not bind all symbols at start, read-only"),
        (elf(stack=7), "has an executable stack"),
        (elf(stack=None), "has an executable stack"),
        (elf(machine=183), "is for another machine (ELF number 183)"),
    ],
)
def test_every_fault_is_named(data: bytes, fault: str) -> None:
    assert faults(data) == [fault]


def test_this_python_needs_an_interpreter_and_a_libc() -> None:
    data = Path(sys.executable).resolve().read_bytes()
    found = checks.read_elf(data)
    assert found.machine == checks.MACHINES[platform.machine()]
    assert found.interpreter.startswith("/lib")
    assert "libc.so.6" in found.needed


@pytest.mark.parametrize(
    "data", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(200), b"\x7fELF\x02\x02" + bytes(200)]
)
def test_what_is_no_64_bit_little_endian_program_is_refused(data: bytes) -> None:
    with pytest.raises(errors.BuildError, match="not a 64-bit little-endian ELF file"):
        checks.read_elf(data)


def test_a_file_cut_short_anywhere_is_refused_in_a_sentence() -> None:
    whole = elf(interpreter=b"/lib/ld", needed=(b"libc.so",))
    for length in range(len(whole)):
        with pytest.raises(errors.BuildError):
            checks.read_elf(whole[:length])


def test_the_refusal_names_file_architecture_and_faults() -> None:
    program = elf(interpreter=b"/lib/ld.so", needed=(b"libc.so",))
    with pytest.raises(errors.BuildError) as refusal:
        checks.check_program(program, "x86_64", "dropbearmulti")
    assert str(refusal.value) == "dropbearmulti for x86_64 needs the interpreter /lib/ld.so; needs libc.so: refused"
    with pytest.raises(
        errors.BuildError, match="dropbearmulti for x86_64 is not a 64-bit little-endian ELF file: refused"
    ):
        checks.check_program(b"junk", "x86_64", "dropbearmulti")
