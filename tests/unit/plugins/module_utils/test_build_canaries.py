"""Stack canaries are looked for in the linked program."""

from __future__ import annotations

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import canaries, errors
from ansible_collections.ocihooks.ssh.plugins.module_utils._build.elf import MACHINES
from build_jobs import linked

FAIL = "__stack_chk_fail"
# Calls over 64 bytes, on and back, as assemblers write them.
CALLS = {
    "x86_64": ("e83b000000", "e8bbffffff"),
    "aarch64": ("10000094", "f0ffff97"),
    "ppc64le": ("41000048", "c1ffff4b"),
    "riscv64": ("ef000004", "eff01ffc"),
}
FAR_CALLS = ("97000000e7800004", "97000000e78000fc")  # of riscv64: auipc and jalr


def on(call: bytes, functions: dict[str, int], architecture: str = "x86_64") -> bytes:
    """Return a program that begins with this call."""
    return linked(call.ljust(96, b"\0"), functions, MACHINES[architecture])


def back(call: bytes, functions: dict[str, int], architecture: str = "x86_64") -> bytes:
    """Return a program that has this call behind 64 bytes."""
    return linked((bytes(64) + call).ljust(96, b"\0"), functions, MACHINES[architecture])


@pytest.mark.parametrize(("architecture", "calls"), [*CALLS.items(), ("riscv64", FAR_CALLS)])
def test_a_function_that_calls_the_failure_has_a_canary(architecture: str, calls: tuple[str, str]) -> None:
    there, again = map(bytes.fromhex, calls)
    for program in (
        on(there, {"own": 0, "other": 32, FAIL: 64}, architecture),
        back(again, {FAIL: 0, "other": 32, "own": 64}, architecture),
    ):
        assert canaries.guarded_functions(program) == {"own"}
    for program in (
        on(there, {"own": 0, "other": 64, FAIL: 32}, architecture),
        back(again, {"other": 0, FAIL: 32, "own": 64}, architecture),
    ):
        assert canaries.guarded_functions(program) == set()


def test_a_call_to_the_local_entry_point_of_ppc64le_counts() -> None:
    call = bytes.fromhex(CALLS["ppc64le"][0])
    assert canaries.guarded_functions(on(call, {"own": 0, FAIL: 56}, "ppc64le")) == {"own"}


@pytest.mark.parametrize("architecture", CALLS)
def test_a_program_without_canaries_of_its_own_is_refused(architecture: str) -> None:
    program = on(bytes.fromhex(CALLS[architecture][0]), {"libc": 0, "own": 32, FAIL: 64}, architecture)
    canaries.check_program_canaries(program, {"libc", "unused"}, "scp")
    with pytest.raises(errors.BuildError) as refusal:
        canaries.check_program_canaries(program, {"own", "unused"}, "scp")
    assert str(refusal.value) == ("scp has stack canaries (-fstack-protector-strong) in 0 of its 1 functions: refused")


def test_a_program_with_hardly_any_canaries_is_refused() -> None:
    call = bytes.fromhex(CALLS["x86_64"][0])
    functions = {"own": 0, FAIL: 64} | {f"own{number}": 65 + number for number in range(10)}
    names = set(functions) - {FAIL}
    with pytest.raises(errors.BuildError, match="in 1 of its 11 functions: refused"):
        canaries.check_program_canaries(on(call, functions), names, "scp")
    canaries.check_program_canaries(on(call, functions), names - {"own9"}, "scp")


def test_a_stripped_program_cannot_be_checked_and_is_refused() -> None:
    program = on(bytes.fromhex(CALLS["x86_64"][0]), {})
    with pytest.raises(errors.BuildError, match="in 0 of its 0 functions: refused"):
        canaries.check_program_canaries(program, {"own"}, "scp")


def test_a_library_without_canaries_is_refused() -> None:
    bare, guarded = b"\x7fELF\0main\0", b"\x7fELF\0main\0__stack_chk_fail\0"
    canaries.check_library_canaries([bare] * 9 + [guarded], "release-1")
    for objects, found in (([], "0 of its 0"), ([bare], "0 of its 1"), ([bare] * 10 + [guarded], "1 of its 11")):
        with pytest.raises(errors.BuildError, match=f"release-1 has stack canaries .* in {found} objects: refused"):
            canaries.check_library_canaries(objects, "release-1")
