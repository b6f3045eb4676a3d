"""What the summary of `make test` says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from containers import RUNC_BUSY, Result, repeated, unless_busy

ROOT = Path(__file__).resolve().parents[3]
SPEC = importlib.util.spec_from_file_location("run", ROOT / "tests" / "run.py")
assert SPEC is not None
assert SPEC.loader is not None
run = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(run)


def test_a_log_has_the_results_of_each_run_of_pytest() -> None:
    log = (
        "starts that were tried again: 2 (runc's seal)\n10 passed, 1 skipped in 3.1s\n"
        "a test prints: starts that were tried again: 5\n"
        "starts that were tried again: 1 (runc's seal)\n1 failed, 4 passed in 1.0s\n"
    )
    assert run.count(log) == (14, 2)
    assert run.count_repeated(log) == 3


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
    assert f"docs                     1       0 {2 * budget + 1:>6} s {budget:>6} s\n" in said
    assert "    99 s, 7 s without work\n" in said
    assert [line for line in said.splitlines() if line.startswith("warning: ")] == [
        f"warning: docs took {2 * budget + 1} s, more than twice its budget of {budget} s"
    ]
    assert "starts that were tried again: 3 (hook-tests 2, engines 1)\n" in said
    assert said.endswith("\n719 passed, 1 failed\n")


def test_the_summary_names_nothing_that_did_not_happen(capsys: pytest.CaptureFixture[str]) -> None:
    run.summarise([run.Result("docs", 1.0, 1, 0)], 1.0, 0.0)
    said = capsys.readouterr().out
    assert "warning" not in said
    assert "tried again" not in said


def test_a_start_that_runc_fails_is_tried_again_and_counted() -> None:
    busy, fine = Result(1, b"", b"runc: " + RUNC_BUSY), Result(0, b"", b"")
    results = [busy, fine, busy, busy, busy]
    assert unless_busy(lambda: results.pop(0)) == fine
    assert unless_busy(lambda: results.pop(0)) == busy
    assert (results, repeated) == ([], [busy, busy, busy])
