"""Finds code that writes or removes files and is not in the table of docs/architecture.md, and the reverse.

Nothing is replaced or removed that the collection did not write. So each place that writes or removes says in the table
what it writes, and by what that is recognised.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs/architecture.md"
HEADING = "## What is written, and how it is recognised\n"
WRITES = re.compile(
    r"\b(?:os|posix)\.(?:rename|replace|unlink|rmdir|mkdir|makedirs|symlink|link|mknod|chmod|chown|truncate)\("
    r"|\bO_(?:CREAT|TMPFILE)\b|\bshutil\.(?:rmtree|copy\w*|move)\(|\btempfile\.mkstemp\("
    r"|\.(?:write_text|write_bytes|mkdir|touch|rmtree)\("
    r"|\b_files\.(?:write|update|update_directory|make_missing|remove\w*)\((?!.*check=True)"
    r"|(?<!def )\b(?:replace_files|write_whole|create_file|open_pidfile)\(|\bsyscalls\.bind\(.*unix_address"
)
MODULES = re.compile(
    r"ansible\.builtin\.(?:assemble|blockinfile|copy|fetch|file|get_url|lineinfile|replace|template|unarchive)(?:\n|:\n)"
)
PLACES = ("plugins/**/*.py", "files/hook/ssh_hook/**/*.py", "roles/*/tasks/*.yml", "playbooks/*.yml")


def rows() -> list[list[str]]:
    """Return the cells of the table: path, writers, how it is recognised."""
    _before, _heading, section = TABLE.read_text(encoding="utf-8").partition(HEADING)
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def writers() -> set[str]:
    """Return the files that write or remove something. Links lead to files of the hook, which are among them."""
    found = [path for place in PLACES for path in ROOT.glob(place) if not path.is_symlink()]
    return {
        str(path.relative_to(ROOT))
        for path in found
        if (WRITES if path.suffix == ".py" else MODULES).search(path.read_text(encoding="utf-8"))
    }


def main() -> int:
    """Print every complaint; the exit status is 0 when there is none."""
    table = rows()
    named = {name for row in table for name in re.findall(r"`([^`]+)`", row[1])}
    complaints = [f"{name} writes or removes files: add it to a row of {TABLE.name}" for name in writers() - named]
    complaints += [f"{TABLE.name} names {name}, which writes nothing" for name in named - writers()]
    complaints += [
        f"{TABLE.name}: the row of {row[0]} has no recognition" for row in table if len(row) != 3 or not row[2]
    ]
    if not table:
        complaints = [f"{TABLE.name} has no table below {HEADING}"]
    print("\n".join(sorted(complaints)))
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
