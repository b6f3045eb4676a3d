"""docs/interface.txt, which docs/compatibility.md promises to keep, is the interface of the code."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_interface_is_that_of_the_file() -> None:
    """After a change: python tools/interface.py >docs/interface.txt. Only a major version changes or removes a line."""
    lines = (ROOT / "docs/interface.txt").read_text(encoding="utf-8").splitlines()
    assert runpy.run_path(str(ROOT / "tools/interface.py"))["interface"]() == lines
    assert len({line.split()[0] for line in lines}) == 11
