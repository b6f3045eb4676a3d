"""Faults in the C that is fuzzed: each target finds those that are planted where its inputs are to lead."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import c_targets
import pytest
from campaign import INPUT_LIMITS
from corpus import CACHE, kept, unpack

RUNS = 20000  # by the clock a busy machine would find fewer faults


@pytest.fixture(scope="module")
def programs() -> Path:
    """Return the directory of the programs."""
    return c_targets.programs(CACHE)


@pytest.mark.parametrize("number", range(len(c_targets.FAULTS)), ids=[fault.name for fault in c_targets.FAULTS])
def test_a_planted_fault_is_found(programs: Path, tmp_path: Path, number: int) -> None:
    """From the kept inputs on, with chance that is the same each time."""
    target = c_targets.FAULTS[number].target
    unpack(kept(target), tmp_path / "corpus")
    arguments: list[str | Path] = [
        f"-runs={RUNS}",
        "-seed=1",
        f"-artifact_prefix={tmp_path}/",
        *INPUT_LIMITS,
        tmp_path / "corpus",
    ]
    done = subprocess.run(
        [programs / "planted" / target, *arguments],
        env={**os.environ, "FAULT": str(number)},
        capture_output=True,
        errors="replace",
        text=True,
        check=False,
    )
    assert done.returncode != 0, done.stderr
    assert list(tmp_path.glob("crash-*")), done.stderr


@pytest.mark.parametrize("target", c_targets.NAMES)
def test_nothing_is_found_without_a_fault(programs: Path, tmp_path: Path, target: str) -> None:
    """So it is the fault that is found above."""
    unpack(kept(target), tmp_path / "corpus")
    command = [programs / "planted" / target, *sorted((tmp_path / "corpus").iterdir())]
    subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)
