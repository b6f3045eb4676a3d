"""What is written of errors comes from their catalogue."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from ssh_hook.errors import KINDS
from ssh_hook.health.error_catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[3]
HIDING = ("podman", "podman-hpc", "sarus-suite", "crun-runc")  # engines that do not show what a hook says


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_page_is_the_catalogue() -> None:
    """After a change: python tools/error_page.py >docs/errors.md."""
    text = text_of("errors.md")
    assert text == f"{runpy.run_path(str(ROOT / 'tools/error_page.py'))['page']()}\n"
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == sorted(KINDS)


@pytest.mark.parametrize("engine", HIDING)
def test_where_an_engine_hides_what_the_hook_says_its_page_begins_with_why(engine: str) -> None:
    assert "ssh_hook why" in text_of(f"engines/{engine}.md").split("\n\n")[1]


def test_kinds_in_the_documentation_exist() -> None:
    named = {
        kind
        for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for kind in re.findall(r" \[([a-z]+(?:-[a-z]+)+)\]`?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert "port-taken" in named and named <= set(CATALOGUE)
