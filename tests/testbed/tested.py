"""The README's table of the engines that were tested: runs note what they used, and this puts it into the table.

Usage: tested.py    replaces the lines of the tests that have passed in this checkout, and adds those that it lacks
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
NOTES = ROOT / ".cache" / "tested"  # a file for each test, with the line of its last run
LINE = re.compile(r"^\| `make (?P<test>[a-z-]+)` \| (?P<date>[0-9-]+) \| (?P<engines>.*) \|\n", re.MULTILINE)


def version(said: str) -> str:
    """Return the first version in what a program says of itself. Raises ValueError."""
    found = re.search(r"[0-9]+(?:\.[0-9]+)+", said)
    if found is None:
        raise ValueError(f"no version: {said!r}")
    return found[0]


def note(test: str, versions: Mapping[str, str]) -> None:
    """Keep the versions of the engines with which a target of make has just passed."""
    NOTES.mkdir(parents=True, exist_ok=True)
    line = f"| `make {test}` | {datetime.date.today().isoformat()} | {listing(versions)} |\n"
    (NOTES / test).write_text(line, encoding="utf-8")


def listing(versions: Mapping[str, str]) -> str:
    """Return the table's words for engines and their versions."""
    return ", ".join(f"{engine} {number}" for engine, number in versions.items())


def lines() -> dict[str, re.Match[str]]:
    """Return the README's lines of the table, by the test. Raises ValueError if they are not one below the other."""
    text = README.read_text(encoding="utf-8")
    found = list(LINE.finditer(text))
    if not found or "".join(each[0] for each in found) not in text:
        raise ValueError(f"{README} has no table of what was tested")
    return {each["test"]: each for each in found}


def main() -> None:
    """Write the table."""
    found = lines()
    notes = {path.name: path.read_text(encoding="utf-8") for path in sorted(NOTES.iterdir())}
    old = {test: each[0] for test, each in found.items()}
    text = README.read_text(encoding="utf-8").replace("".join(old.values()), "".join({**old, **notes}.values()))
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
