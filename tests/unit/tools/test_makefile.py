"""ARGS reach the tests that they are meant for, or are refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def dry_run(target: str) -> subprocess.CompletedProcess[str]:
    """Return what make would run."""
    command = ["make", "--dry-run", target, "ARGS=-k some_name"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ["unit", "sanity", "integration", "role-dropbear", "monitoring", "node-image"])
def test_a_target_passes_arguments_on(target: str) -> None:
    assert dry_run(target).stdout.rstrip().endswith(" -k some_name")


@pytest.mark.parametrize("target", ["lint", "test", "molecule", "slurm", "engines"])
def test_a_target_without_arguments_refuses_them(target: str) -> None:
    done = dry_run(target)
    assert done.returncode != 0
    assert f"{target} takes no ARGS. These targets do: unit " in done.stderr


def test_help_names_all_targets() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    lists = [line for line in text.splitlines() if line.startswith(("PARTS :=", "SCENARIOS :="))]
    names = [name for line in lists for name in line.split()[2:]]
    assert len(names) > 20
    assert [name for name in names if f"make {name}" not in listed] == []
