"""Reading JSON: what json.loads reads, and an error of one line for all else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ssh_hook.errors import HookError
from ssh_hook.oci import json_reader
from ssh_hook.oci.json_reader import Node, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES), st.sampled_from([None, 2]))
def test_reads_what_the_library_writes(value: dict[str, object], indent: int | None) -> None:
    assert parse(f" \n{json.dumps(value, indent=indent)}\t ".encode(), "x") == value


@given(st.binary())
def test_anything_gives_an_object_or_one_line(data: bytes) -> None:
    try:
        assert isinstance(parse(data, "the state"), dict)
    except HookError as error:
        assert str(error).startswith("the state ")
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a"',
        '{"a":',
        '{"a":1',
        '{"a":1} x',
        "[]",
        "1",
        "null",
        '{"a":NaN}',
        '{"a":Infinity}',
        "{'a':1}",
        '{"a":"\n"}',
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(HookError, match=r"^x is"):
        parse(text.encode(), "x")


def test_refuses_deep_nesting() -> None:
    with pytest.raises(HookError, match="nested too deeply"):
        parse(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "x")


def test_keeps_bytes_that_are_not_utf8() -> None:
    assert parse(b'{"a":"\xff\xfe"}', "x")["a"].encode("utf-8", "surrogateescape") == b"\xff\xfe"


def test_works_without_the_c_scanner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_json", None)
    assert json_reader.parse(b' {"a": [1, "b"]} ', "x") == {"a": [1, "b"]}
    for text in (b"{", b'{"a":NaN}', b"[]"):
        with pytest.raises(HookError, match=r"^x is"):
            json_reader.parse(text, "x")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda node: node.text("absent"), "c: 'absent' is missing"),
        (lambda node: node.text("number"), "c: 'number' is not a string"),
        (lambda node: node.text("nul"), "c: 'nul' contains a NUL character"),
        (lambda node: node.integer("text", 0, 9), "c: 'text' is not an integer"),
        (lambda node: node.integer("true", 0, 9), "c: 'true' is not an integer"),
        (lambda node: node.integer("number", 8, 9), "c: 'number' is 7, which is not between 8 and 9"),
        (lambda node: node.integers("mixed", 0, 9), "c: 'mixed' is not a list of integers"),
        (lambda node: node.texts("mixed"), "c: 'mixed' is not a list of strings"),
        (lambda node: node.nodes("mixed"), "c: 'mixed' is not a list of objects"),
        (lambda node: node.node("text"), "c: 'text' is not an object"),
        (lambda node: node.boolean("number"), "c: 'number' is not a boolean"),
        (lambda node: node.node("object").text("x"), "c: object: 'x' is missing"),
    ],
)
def test_says_where_a_wrong_value_stands(call: Callable[[Node], object], message: str) -> None:
    node = Node({"number": 7, "text": "t", "nul": "a\0b", "true": True, "mixed": [1, "a"], "object": {}}, "c")
    with pytest.raises(HookError) as caught:
        call(node)
    assert str(caught.value) == message
