"""What the summary of `make test` says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import containers
import pytest
from containers import ATTEMPTS, Result, run_in_time, unless_busy
from patience import within

ROOT = Path(__file__).resolve().parents[3]
SPEC = importlib.util.spec_from_file_location("run", ROOT / "tests" / "run.py")
assert SPEC is not None
assert SPEC.loader is not None
run = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(run)


def test_a_log_has_the_results_of_each_run_of_pytest() -> None:
    log = (
        "tried again: 2 (runc's seal)\n10 passed, 1 skipped in 3.1s\n"
        "a test prints: tried again: 5\n"
        "tried again: 1 (runc's seal)\ntried again: 3 (commands that were late)\n1 failed, 4 passed in 1.0s\n"
    )
    assert run.count(log) == (14, 2)
    assert run.count_repeated(log) == 6


def test_the_summary_has_budgets_and_warns_of_more_than_twice_as_much(capsys: pytest.CaptureFixture[str]) -> None:
    budget = run.EXPECTED["docs"]
    results = [
        run.Result("docs", 2 * budget + 1.0, 1, 0),
        run.Result("lint", 2.0 * run.EXPECTED["lint"], 8, 0),
        run.Result("hook-tests", 1.0, 700, 1, repeated=2),
        run.Result("engines", 1.0, 10, 0, repeated=1),
    ]
    run.summarise(results, 99.0, 7.2)
    said = capsys.readouterr().out
    assert f"docs                     1       0 {2 * budget + 1:>6} s {budget:>6} s   0.0\n" in said
    assert "    99 s, 7 s without work\n" in said
    assert [line for line in said.splitlines() if line.startswith("warning: ")] == [
        f"warning: docs took {2 * budget + 1} s, more than twice its budget of {budget} s"
    ]
    assert "tried again: 3 (hook-tests 2, engines 1)\n" in said
    assert said.endswith("\n719 passed, 1 failed\n")


def test_a_busy_machine_has_larger_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.os, "sched_getaffinity", lambda _pid: {0, 1})
    budget = run.EXPECTED["docs"]
    assert not run.Result("docs", 4 * budget - 1.0, 1, 0, load=2.0 * run.LANES).is_over_budget()
    assert run.Result("docs", 4 * budget + 1.0, 1, 0, load=2.0 * run.LANES).is_over_budget()
    assert not run.Result("of its own", 9999.0, 1, 0).is_over_budget()


def test_the_summary_names_nothing_that_did_not_happen(capsys: pytest.CaptureFixture[str]) -> None:
    run.summarise([run.Result("docs", 1.0, 1, 0)], 1.0, 0.0)
    said = capsys.readouterr().out
    assert "warning" not in said
    assert "tried again" not in said


LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
import run
run.LOADS = (("compute",), ("compute",), ("write", sys.argv[2]))
with run.load():
    print(*open(f"/proc/self/task/{run.os.getpid()}/children").read().split(), flush=True)
    sys.stdin.read()
"""


def is_loading(pid: str) -> bool:
    """Whether it is load.py, and no more the program that executes that; in between it has no arguments."""
    arguments = Path("/proc", pid, "cmdline").read_bytes()
    return b"load.py" in arguments and b"setpriv" not in arguments


def test_the_load_ends_where_its_program_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-B", "-c", LOADED, ROOT / "tests", tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pids = program.stdout.readline().split()
        assert len(pids) == 3
        while not all(is_loading(pid) for pid in pids):
            time.sleep(0.01)
        program.kill()
    deadline = time.monotonic() + within(20)
    while any(Path("/proc", pid).exists() for pid in pids):
        assert time.monotonic() < deadline, "the load goes on"
        time.sleep(0.05)


def test_parts_that_did_not_pass_twice_alike_are_named() -> None:
    first = [run.Result(part, 1.0, 5, int(part == "c")) for part in "abcd"]
    second = [
        run.Result("a", 9.0, 5, 0),
        run.Result("b", 1.0, 4, 0),
        run.Result("c", 1.0, 5, 1),
        run.Result("d", 1.0, 4, 1),
    ]
    assert run.differences(first, second) == [
        "b: 5 passed, 0 failed, and then 4 passed, 0 failed",
        "c: 5 passed, 1 failed, and then 5 passed, 1 failed",
        "d: 5 passed, 0 failed, and then 4 passed, 1 failed",
    ]


class Made:
    """A part that is over when it has been looked at as often as its name is long."""

    running: ClassVar[list[Made]] = []

    def __init__(self, part: str, lanes: set[int], processors: set[int]) -> None:
        self.part, self.lanes, self.processors, self.looks = part, lanes, processors, 0
        assert not any(lanes & other.lanes for other in self.running)
        self.running.append(self)

    def is_over(self) -> bool:
        self.looks += 1
        return self.looks == len(self.part)

    def result(self) -> Any:
        self.running.remove(self)
        return run.Result(self.part, 1.0, 1, 0)

    def end(self) -> None:
        raise AssertionError(f"{self.part} is ended though nothing went wrong")


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_no_lane_has_two_parts_and_hook_tests_have_two_lanes(monkeypatch: pytest.MonkeyPatch, lanes: int) -> None:
    started: list[tuple[str, int]] = []

    def make(part: str, taken: set[int], processors: set[int]) -> Made:
        started.append((part, len(taken)))
        assert taken <= {*range(lanes)}
        return Made(part, taken, processors)

    monkeypatch.setattr(run, "Run", make)
    monkeypatch.setattr(run, "POLL", 0)
    results = run.run_all(["docs", "lint", "hook-tests", "unit"], lanes)
    assert {*results} == {"docs", "lint", "hook-tests", "unit"}
    assert dict(started) == {"docs": 1, "lint": 1, "hook-tests": min(2, lanes), "unit": 1}
    assert lanes == 1 or started[0][0] == "hook-tests", "the longest comes first"


def test_a_start_that_runc_fails_is_tried_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()
    monkeypatch.setattr(containers, "repeated", counted)
    said = b"runc: could not ensure we are a cloned binary: Device or resource busy"
    busy, fine = Result(1, b"", said), Result(0, b"", b"")
    results = [busy, fine, *[busy] * ATTEMPTS, fine]
    assert unless_busy(lambda: results.pop(0)) == fine
    assert unless_busy(lambda: results.pop(0)) == busy
    assert (results, counted) == ([fine], {"runc's seal": ATTEMPTS})


def test_a_command_that_is_late_is_tried_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()
    monkeypatch.setattr(containers, "repeated", counted)
    late, fine = Result(0, b"", b"could not list your containers within 2 s"), Result(0, b"all", b"")
    results = [late, late, fine, fine]
    monkeypatch.setattr(containers, "run", lambda _command, _stdin: results.pop(0))
    assert run_in_time(["status"]) == run_in_time(["status"]) == fine
    assert counted == {"commands that were late": 2}
