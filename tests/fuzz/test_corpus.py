"""What is kept of the inputs that the fuzzer found."""

from __future__ import annotations

from corpus import MOST_KEPT, within_limit


def test_a_merge_keeps_the_shortest_inputs_up_to_a_limit() -> None:
    """An input that is longer than the rest of the limit is left out."""
    present = [b"x" * 10, b"y"]
    short, long = [b"a", b"bb"], b"z" * (MOST_KEPT - 13)
    assert within_limit(present, [long, *short]) == [*present, *short]
    assert within_limit(present, [*short, long[1:], b"y"]) == [*present, *short, long[1:]]


def test_a_merge_removes_nothing() -> None:
    """Even where the kept inputs exceed the limit."""
    present = [b"x" * (MOST_KEPT + 1)]
    assert within_limit(present, [b"a"]) == present
