"""docs/dropbear-patches.md has a row for each patch, with the lines that it adds and removes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PATCHES = ROOT / "roles" / "dropbear" / "files" / "patches"
TEXT = (ROOT / "docs" / "dropbear-patches.md").read_text(encoding="utf-8")
HUNK = re.compile(r"^@@ -[0-9]+(?:,([0-9]+))? \+[0-9]+(?:,([0-9]+))? @@", re.MULTILINE)


def counts(patch: Path) -> tuple[int, int]:
    """The lines added and removed, by the hunks' headers and the lines that they share."""
    parts = HUNK.split(patch.read_text(encoding="utf-8"))
    added = removed = 0
    for old, new, body in zip(parts[1::3], parts[2::3], parts[3::3]):
        shared = sum(line[:1] in (" ", "") for line in body.split("\n")[1:-1])
        removed += int(old or 1) - (shared if old != "0" else 0)
        added += int(new or 1) - (shared if old != "0" else 0)
    return added, removed


def test_rows() -> None:
    rows = re.findall(r"^\| `([0-9]{2}-[a-z-]+)` \|[^|]*\| ([0-9]+), ([0-9]+) \|", TEXT, re.MULTILINE)
    found = [(name, (int(added), int(removed))) for name, added, removed in rows]
    assert found == [(path.stem, counts(path)) for path in sorted(PATCHES.glob("*/*.patch"))]
