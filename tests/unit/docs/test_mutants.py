"""Each promise of the documentation has a fault that a test has to notice, and each fault can still be put in."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from mutants import FAULTS, HALF_IN_C, PATCHES, UNTRIED
from runner import said
from sources import Fault, FaultError, find, read_faults

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


def problem_of(fault: Fault) -> str:
    """What is wrong with a fault, its test or its reason; empty if nothing is."""
    try:
        find(fault, ROOT)
    except FaultError as error:
        return str(error)
    if fault.replacement == fault.text:
        return "the replacement is the text"
    path, _colons, words = fault.test.partition("::")
    if not (ROOT / "tests" / path).is_file():
        return f"there is no tests/{path}"
    names = re.findall(r"^def (test_\w+)", source(path), re.MULTILINE)
    if not path.startswith("lint/") and not any(words.split(" and ")[0] in name for name in names):
        return f"tests/{path} has no test {words}"
    if any(re.search(fault.reason, text) for text in (f"tests/{path}", *names, *BARE)) or len(fault.reason) <= 5:
        return f"a failure for another reason may print {fault.reason!r}"
    return ""


@cache
def source(path: str) -> str:
    return (ROOT / "tests" / path).read_text(encoding="utf-8")


def test_each_fault_can_be_put_in_and_has_a_test_with_a_reason_to_fail() -> None:
    problems = [f"{fault.function}: {problem}" for fault in FAULTS if (problem := problem_of(fault))]
    assert problems == []
    assert len(FAULTS) > 250


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"function": "no_such_function"}, "there is no no_such_function"),
        ({"text": "no such text"}, "^open_in_root has the text 0 times"),
        ({"replacement": FAULTS[0].text}, "the replacement is the text"),
        ({"test": "hook/no_such_file.py::test_it"}, "there is no tests/hook/no_such_file.py"),
        ({"test": "hook/test_attacks.py::no_such_test"}, "has no test no_such_test"),
        ({"reason": "AssertionError: assert False"}, "for another reason"),
        ({"reason": "test_attacks"}, "for another reason"),
        ({"reason": "E"}, "for another reason"),
    ],
)
def test_what_is_wrong_with_a_fault_is_told(change: dict[str, str], problem: str) -> None:
    assert problem_of(FAULTS[0]) == ""
    assert re.search(problem, problem_of(FAULTS[0]._replace(**change)))


@pytest.mark.parametrize("entry", ["f: a", "f: a = b\n    t: r", "f: a => b\n    t", "a => b\n    t: r", "f: a => b"])
def test_an_entry_of_another_form_is_named(tmp_path: Path, entry: str) -> None:
    file = tmp_path / "faults.txt"
    file.write_text(f"Promise\n  g: x\n    =>\n    t::u:\n      r\n  {entry}\n", encoding="utf-8")
    with pytest.raises(FaultError, match=f"^faults.txt cannot be read here:\n  {re.escape(entry)}$"):
        read_faults(file)
    file.write_text("# Form\n\nPromise\nof two\n  g: x\\n \\\\n\n    =>\n    t::u:\n      r\n", encoding="utf-8")
    assert read_faults(file) == [Fault("Promise of two", "g", "x\n \\n", "", "t::u", "r")]


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
