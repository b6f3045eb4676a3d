"""The kind at the end of an error of the hook's, such as ``[port-taken]``."""

from __future__ import annotations

import re

_LINE = re.compile(r"(ssh_hook: error: .*) \[([a-z]+(?:-[a-z]+)*)\]")


def separate(line: str) -> tuple[str, str]:
    """The text and the kind of a line with an error; AssertionError for a line without a kind."""
    found = _LINE.fullmatch(line.rstrip("\n"))
    assert found is not None, f"no error with a kind: {line!r}"
    return found.group(1), found.group(2)
