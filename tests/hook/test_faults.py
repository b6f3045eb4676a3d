"""Each system call of createRuntime fails once: see faults.py. This takes a sample, tests/hook/soak all of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import faults
import pytest
from attack import CANARY, host_untouched, plant
from faults import ROLES, Call, Outcome

# What confines a session: these fail in further ways, which the hook might take for a kernel that is old or a user
# namespace that denies them.
_CONFINING = (
    "setgroups",
    "setresgid",
    "setresuid",
    "capset",
    "prctl",
    "setns",
    "chroot",
    "prlimit64",
    "seccomp",
    "mount",
)
_KILLS = 12  # of each process


@pytest.fixture(scope="module")
def good() -> Iterator[Outcome]:
    """A start in which nothing fails."""
    shutil.rmtree(CANARY, ignore_errors=True)
    plant()
    yield faults.start(None, faults.KILL)
    shutil.rmtree(CANARY)


def problems(calls: list[Call], how: str, good: Outcome) -> list[str]:
    """What is wrong with starts in which each of `calls` fails."""
    found = []
    for call in calls:
        with host_untouched():
            outcome = faults.start(call, how)
            while not outcome.hit and (last := [made for made in outcome.calls if made[:2] == call[:2]]):
                call = last[-1]  # the hook waits by asking again, now more often and now less
                outcome = faults.start(call, how)
            problem = outcome.problem(good, how)
        if problem:
            found.append(f"{how} from {call}: {problem}")
    return found


def ends(calls: list[Call]) -> list[Call]:
    """The first and the last call of each name."""
    first: dict[str, Call] = {}
    last: dict[str, Call] = {}
    for call in calls:
        first.setdefault(call.name, call)
        last[call.name] = call
    return sorted(call for call in {*first.values(), *last.values()} if faults.may_fail(call))


def of_role(good: Outcome, role: int) -> list[Call]:
    return [call for call in good.calls if call.role == role]


def test_nothing_fails(good: Outcome) -> None:
    assert (good.status, good.said, good.hit) == (0, "", False)
    assert {call.role for call in good.calls} == set(range(len(ROLES)))
    assert "the daemon" in good.left
    assert good._replace(hit=True).problem(good, "") == ""


@pytest.mark.parametrize("role", range(len(ROLES)))
def test_call_fails(good: Outcome, role: int) -> None:
    assert problems(ends(of_role(good, role)), "EIO", good) == []


@pytest.mark.parametrize("how", ["EPERM", "ENOSYS"])
def test_confining_call_is_refused(good: Outcome, how: str) -> None:
    calls = [call for call in good.calls if call.name in _CONFINING and call.occurrence == 1]
    assert problems(calls, how, good) == []


@pytest.mark.parametrize("role", range(len(ROLES)))
def test_process_is_killed(good: Outcome, role: int) -> None:
    calls = of_role(good, role)
    assert problems(calls[:: -(-len(calls) // _KILLS)], faults.KILL, good) == []
