"""Each promise of the documentation has a fault that a test has to notice, and each fault can still be put in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mutants import FAULTS, HALF_IN_C, PATCHES, UNTRIED
from runner import said
from sources import Fault, find

ROOT = Path(__file__).resolve().parents[3]
TABLES = {  # by the page: the heading before the table
    "security.md": ("## Promises", "## Attach"),
    "user-guide.md": ("## Annotations",),
    "admin-guide.md": ("## The hook's environment",),
    "engines/sarus.md": ("## What stays the same", "## What you can rely on"),
}
BARE = tuple(
    f"E   {prefix}{text}"
    for prefix in ("", "AssertionError: ")
    for text in ("assert", "assert False", "assert True", "assert None", "assert not False", "assert not True")
)


def promises() -> list[str]:
    """The first cells of the rows of these tables."""
    found = []
    for page, headings in TABLES.items():
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for heading in headings:
            section = text.partition(f"{heading}\n")[2].partition("\n#")[0]
            rows = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
            assert len(rows) > 5, heading
            found += rows[1:]  # without the heading of the table
    return found


def test_each_promise_has_a_fault_or_a_reason_why_not() -> None:
    assert set(promises()) == {fault.promise for fault in FAULTS} | set(UNTRIED)
    assert {fault.promise for fault in FAULTS} & set(UNTRIED) == set()
    assert all(reason.endswith(".") for reason in UNTRIED.values())


def test_each_patch_has_a_test_or_a_reason_why_not() -> None:
    patches = {f"{path.parent.name}/{path.stem}" for path in (ROOT / "roles/dropbear/files/patches").glob("*/*.patch")}
    assert patches == {patch for patch, _place in PATCHES}
    for _patch, place in PATCHES:
        path, _colons, name = place.partition("::")
        assert place.endswith(".") or f"\ndef {name}" in (ROOT / "tests" / path).read_text(encoding="utf-8")
    assert set(HALF_IN_C) <= {fault.promise for fault in FAULTS}
    assert set(HALF_IN_C.values()) <= {patch.partition("/")[2] for patch in patches}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.function)
def test_each_fault_can_be_put_in(fault: Fault) -> None:
    part, offset = find(fault, ROOT)
    assert part.text[offset:].startswith(fault.text)
    assert fault.replacement != fault.text


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.function)
def test_each_test_exists_and_has_a_reason_to_fail(fault: Fault) -> None:
    path, _colons, words = fault.test.partition("::")
    if path.startswith("lint/"):
        assert (ROOT / "tests" / path).is_file()
        return
    names = re.findall(r"^def (test_\w+)", (ROOT / "tests" / path).read_text(encoding="utf-8"), re.MULTILINE)
    first = words.split(" and ")[0]
    assert [name for name in names if first in name] != []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.function)
def test_no_reason_is_what_any_failure_prints(fault: Fault) -> None:
    """The names of the test and its file, and assertions of which pytest tells no more than that they failed."""
    path = fault.test.partition("::")[0]
    source = (ROOT / "tests" / path).read_text(encoding="utf-8")
    names = re.findall(r"^def (test_\w+)", source, re.MULTILINE)
    assert len(fault.reason) > 5
    assert [text for text in (f"tests/{path}", *names, *BARE) if re.search(fault.reason, text)] == []


def test_a_reason_is_not_looked_for_in_the_source() -> None:
    """Whatever fails, pytest prints the lines of each call that led there."""
    output = (
        "tests/unit/test_a.py:7: in test_a\n    assert swept(words) == 'trusted'\n"
        "tests/unit/helpers.py:9: in swept\n    return run(\n        'sweep', status=1,\n    )\n"
        "E   assert 0 == 1\n---- Captured stderr call ----\n    a line of the program's\n"
    )
    assert said(output) == (
        "tests/unit/test_a.py:7: in test_a\ntests/unit/helpers.py:9: in swept\n"
        "E   assert 0 == 1\n---- Captured stderr call ----\n    a line of the program's\n"
    )
