"""docs/dropbear-patches.md has a row for each patch, with the lines that it adds and removes, and its files of ours."""

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


def test_each_new_dropbear_has_few_lines_to_take() -> None:
    total = sum(counts(path)[0] for path in PATCHES.glob("dropbear/*.patch"))
    assert f"add {total} lines to its files" in TEXT
    assert total <= 400


def test_no_patch_adds_a_file() -> None:
    """Those are below files/src, where editors and compilers see them."""
    patches = list(PATCHES.glob("*/*.patch"))
    assert [path.name for path in patches if "\n--- /dev/null" in path.read_text(encoding="utf-8")] == []
    assert patches


def test_each_file_of_ours_is_described() -> None:
    source = PATCHES.parent / "src"
    readme = (source / "README.md").read_text(encoding="utf-8")
    names = {f"{path.parent.name}/{path.stem}" for path in source.glob("*/*.c")}
    assert set(re.findall(r"^\| `([a-z/-]+)` \|", readme, re.MULTILINE)) == names
    assert {name.partition("/")[2] for name in names} <= set(re.findall(r"`([a-z-]+)`", TEXT))
