"""ARGS reach the tests that they are meant for, or are refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def dry_run(target: str) -> subprocess.CompletedProcess[str]:
    """Return what make would run in the test system."""
    command = ["make", "--dry-run", "--no-print-directory", "IN_TEST_SYSTEM=yes", target, "ARGS=-k some_name"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ["unit", "sanity", "integration", "role-dropbear", "monitoring", "node-image"])
def test_a_target_passes_arguments_on(target: str) -> None:
    assert dry_run(target).stdout.rstrip().endswith(" -k some_name")


@pytest.mark.parametrize("target", ["lint", "test", "molecule", "slurm", "engines"])
def test_a_target_without_arguments_refuses_them(target: str) -> None:
    done = dry_run(target)
    assert done.returncode != 0
    assert f"{target} takes no ARGS. These targets do: unit " in done.stderr


def parts(*variables: str) -> list[str]:
    """Return the targets in these variables of the Makefile."""
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    return [
        part
        for line in lines
        if line.startswith(tuple(f"{name} :=" for name in variables))
        for part in line.split()[2:]
    ]


def test_help_names_all_targets() -> None:
    listed = subprocess.run(["make", "help", "ARGS="], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = parts("PARTS", "SCENARIOS")
    assert len(names) > 20
    assert [name for name in names if f"make {name}" not in listed] == []


def test_the_forge_runs_each_part_of_make_test() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert [
        part for part in parts("PARTS") if not re.search(rf"^ *- (run: make )?{part}$", workflow, re.MULTILINE)
    ] == []


def test_each_part_has_a_budget() -> None:
    budgets = (ROOT / "tests" / "run.py").read_text(encoding="utf-8")
    assert [part for part in parts("PARTS", "SCENARIOS") if f'    "{part}": ' not in budgets] == []
