"""Checks what holds for every text of the checkout, whatever its language."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A link from outside to a file of this repository.
OWN = re.compile(r"https://github\.com/ocihooks/ssh/blob/main/([^)#\s>`\"']+)")

LONGEST = 120  # characters of a line
GENERATED = Path("CHANGELOG.md")
MOST_WORDS = 48_000  # of all Markdown but the changelog: who adds some takes others away
BLANKS = r"[ \t]+$"
RULES = {
    BLANKS: "blanks at the end of the line",
    r"\r": "carriage return",
    r"\b(pypi|deb|security|registry|galaxy|archive)\.(org|debian|ubuntu|npmjs|ansible)\b": "host of a package registry",
    r"\bpythonhosted\b|\bci-files\.": "host of a package registry",
    r"(?<![\w.>$}/-])/(work|root|home/(?!alice|bob))/\w+/": "a path of one machine",
    r"\bnoqa\b|type:\s*ignore|pragma:\s*no cover|shellcheck disable=(?!.* #)": "a check switched off",
    r"\bignore_errors:|\bfailed_when:\s*false\b|pytest\.mark\.(skip|xfail)|pytest\.skip": "a failure ignored",
}


def texts() -> Iterator[tuple[Path, str]]:
    """Yield the path, relative to the checkout, and the text of each file that git tracks or does not ignore."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for path in map(Path, filter(None, names)):
        if (ROOT / path).is_file() and not (ROOT / path).is_symlink():
            data = (ROOT / path).read_bytes()
            if b"\0" not in data:
                yield path, data.decode("utf-8")


def long_lines(text: str) -> Iterator[int]:
    """Yield the numbers of lines of Markdown that are too long, but for tables and what is shown as it is."""
    is_shown = False
    for number, line in enumerate(text.split("\n"), 1):
        is_shown ^= line.lstrip().startswith("```")
        if len(line) > LONGEST and not is_shown and not line.startswith("|"):
            yield number


def complaints(path: Path, text: str) -> Iterator[str]:
    """Yield one line for each place where a text breaks a rule."""
    if text and not text.endswith("\n"):
        yield f"{path}: no newline at the end"
    if path == Path(__file__).relative_to(ROOT):
        return  # names what it looks for
    if path.suffix == ".md" and path != GENERATED:
        for number in long_lines(text):
            yield f"{path}:{number}: more than {LONGEST} characters"
    for number, line in enumerate(text.split("\n"), 1):
        for name in OWN.findall(line):
            if not (ROOT / name).exists():
                yield f"{path}:{number}: a link to {name}, which does not exist"
        for rule, meaning in RULES.items():
            if path.suffix == ".patch" and rule == BLANKS:
                continue  # they are part of what is patched
            if re.search(rule, line):
                yield f"{path}:{number}: {meaning}: {line.strip()}"


def main() -> int:
    """Print every complaint; the exit status is 0 when there is none."""
    everything = list(texts())
    found = [complaint for path, text in everything for complaint in complaints(path, text)]
    words = sum(len(text.split()) for path, text in everything if path.suffix == ".md" and path != GENERATED)
    if words > MOST_WORDS:
        found.append(f"the documentation has {words} words, {words - MOST_WORDS} too many: take some away")
    print("\n".join(found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
