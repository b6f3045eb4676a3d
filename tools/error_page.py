"""Print docs/errors.md from the catalogue of errors: python tools/error_page.py >docs/errors.md"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "files" / "hook"))

from ssh_hook.health.error_catalogue import CATALOGUE, Entry

WIDTH = 120  # characters of a line
HEAD = """# Errors

When the hook or a command fails, its last line ends with the kind of the error, such as `[port-taken]`: search this
page for it. If the hook reports it as an error, the container does not start; if as a warning, it starts.
"""


def wrap(text: str, indent: str = "") -> str:
    """Break a text into lines; the second and further ones are indented."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def section(kind: str, entry: Entry) -> str:
    """Return what the page says of a kind, with a heading (so an anchor)."""
    items = [f"* User: {entry.user}."]
    if entry.admin:
        items.append(f"* Administrator: {entry.admin}.")
    when = f"{entry.when[0].upper()}{entry.when[1:]}."
    return "\n".join([f"## {kind}", "", wrap(when), "", *(wrap(item, "  ") for item in items)])


def page() -> str:
    """Return the page in Markdown."""
    return "\n\n".join([HEAD.rstrip(), *(section(kind, entry) for kind, entry in sorted(CATALOGUE.items()))])


if __name__ == "__main__":
    print(page())
