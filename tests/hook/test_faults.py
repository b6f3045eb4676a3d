"""Each system call of createRuntime fails once: see lib/faults.py. This takes a sample, tests/hook/soak all of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

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
        try:
            with host_untouched():
                problem = faults.start_hitting(call, how).problem(good, how)
        except AssertionError as error:
            problem = str(error)
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


def spread(calls: list[Call], number: int = _KILLS) -> list[Call]:
    """So many of the calls at most, from the first one on."""
    return calls[:: -(-len(calls) // number)]


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


def until_write(calls: list[Call], number: int) -> int:
    """How many calls there are up to the write with that number, from 0 on, or from the end; without it."""
    return [place for place, call in enumerate(calls) if call.name == "write"][number]


def without_pid_namespace(config: dict[str, Any]) -> None:
    linux = config["linux"]
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "pid"]


@pytest.mark.parametrize("pid", ["private", "host"])
@pytest.mark.parametrize("how", [faults.KILL_CONTAINER, faults.KILL_RUNTIME])
def test_container_or_its_runtime_is_killed(good: Outcome, how: str, pid: str) -> None:
    """Before the daemon is recorded, the hook says so; then poststop, or a sweep, ends and removes what there is."""
    change = without_pid_namespace if pid == "host" else None
    of_hook = of_role(good, 0)
    released, listens = (
        until_write(of_hook, -2),
        until_write(of_hook, -1),
    )  # the last words: to the daemon, to the provisioner
    provisioner = of_role(good, ROLES.index("the provisioner"))
    others = [call for call in good.calls if ROLES[call.role] not in ("the hook", "the provisioner")]
    before = [
        *of_hook[:released],
        *others,
        *provisioner[: until_write(provisioner, -2)],
    ]  # its last word is the pidfile's
    found = [faults.start_hitting(call, how, change) for call in spread(before, 40)]
    assert [outcome.status for outcome in found] == [1] * len(found)
    assert [problem for outcome in found if (problem := outcome.problem(good, faults.KILL))] == []
    between = [faults.start_hitting(call, how, change) for call in spread(of_hook[released:listens])]
    failed = [outcome for outcome in between if outcome.status]
    assert [problem for outcome in failed if (problem := outcome.problem(good, faults.KILL))] == []
    # The hook polls until the provisioner ends: on a busy machine such a call comes before the last word, too.
    after = [faults.start_hitting(call, how, change) for call in of_hook[listens + 1 :]]
    assert 0 in [outcome.status for outcome in after]
    failed = [outcome for outcome in after if outcome.status]
    assert [problem for outcome in failed if (problem := outcome.problem(good, faults.KILL))] == []


@pytest.mark.parametrize("role", range(len(ROLES)))
def test_process_is_killed(good: Outcome, role: int) -> None:
    assert problems(spread(of_role(good, role)), faults.KILL, good) == []
