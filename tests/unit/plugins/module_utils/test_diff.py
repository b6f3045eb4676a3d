"""What --diff shows has a line for what is new, and the lines of a text that differs."""

from __future__ import annotations

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _diff


def test_a_text_that_is_new_or_goes_is_a_line() -> None:
    text = "{\n}\n"
    assert _diff.of_text("/hook.json", "", text) == {"prepared": "new: /hook.json (2 lines, SHA-256 d914176fd50b...)\n"}
    assert _diff.of_text("/hook.json", text, "") == {"prepared": "removed: /hook.json\n"}
    differing = _diff.of_text("/hook.json", "a\n", "b\n")
    assert [differing[key] for key in ("before_header", "before", "after")] == ["/hook.json", "a\n", "b\n"]


@pytest.mark.parametrize(
    ("old", "number", "lines"),
    [
        ("", 119, ["new: /lib/b (119 paths)"]),
        ("/lib/a", 119, ["new: /lib/b (119 paths), in place of /lib/a"]),
        ("/lib/b", 1, ["out of date: /0"]),
        ("/lib/b", 6, [*(f"out of date: /{number}" for number in range(4)), "and 2 more"]),
        ("/lib/b", 0, []),
    ],
)
def test_a_version_is_a_line_and_damage_a_few(old: str, number: int, lines: list[str]) -> None:
    paths = [f"/{index}" for index in range(number)]
    assert _diff.of_version("/lib/b", old, paths)["prepared"].splitlines() == lines


def test_names_are_counted() -> None:
    names = [f"user{number}" for number in range(20_000)]
    assert _diff.of_names({"new": names, "gone": ["bob"], "that differ": []}) == (
        "20000 new (user0, user1, user2, user3 and 19996 more), 1 gone (bob)"
    )
