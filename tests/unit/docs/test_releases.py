"""README and docs/releases.md show the same commands that verify a release."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def commands(name: str) -> list[str]:
    """Return the commands of the one block of a page that begins with the archive's name."""
    (block,) = re.findall(r"```console\n(\$ archive=(?:.*\n)+?)```", (ROOT / name).read_text(encoding="utf-8"))
    return re.findall(r"^\$ .*$", block, re.MULTILINE)


def test_the_readmes_commands_are_those_of_the_page() -> None:
    shown = commands("README.md")
    assert len(shown) == 5
    assert shown == commands("docs/releases.md")
