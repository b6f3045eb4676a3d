"""The rule by which no stage asks what kind of start it serves."""

from __future__ import annotations

import ast

import plans
import pytest

FUNCTION = """
class Watcher: pass
def run(plan: StartPlan, settings: Settings) -> None:
    {}
"""


def found(statement: str) -> list[str]:
    """What the rule says of a function of a stage."""
    tree = ast.parse(FUNCTION.format(statement))
    every = {*plans.complaints(tree, {"Watcher"}), *plans.changes(tree)}
    return [complaint for _line, complaint in sorted(every)]


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("if plan.watcher is not None: pass", "tests plan.watcher, a part of the plan"),
        ("if plan.watcher: pass", "tests plan.watcher, a part of the plan"),
        ("x = 1 if not plan.watcher else 2", "tests plan.watcher, a part of the plan"),
        ("x = plan.a and plan.b.c", "tests plan.a, a part of the plan"),
        ("one, two = plan.one, 2; assert one", "tests one, a part of the plan"),
        ("other = plan; x = other.gate == 3", "tests other.gate, a part of the plan"),
        ("x = [y for y in () if plan.gate]", "tests plan.gate, a part of the plan"),
        ("x = isinstance(plan.ending, Watcher)", "asks for a class: isinstance(plan.ending, Watcher)"),
        ("x = isinstance(settings, Watcher)", "asks for a class: isinstance(settings, Watcher)"),
        ("x = type(plan.ending)", "asks for a class: type(plan.ending)"),
        ("x = plan.container.is_podmans", "asks for is_podmans, which is for those who make plans"),
        ("x = StartPlan()", "makes a plan"),
        ("plan.gate = 3", "changes plan.gate"),
        ("settings.join = False", "changes settings.join"),
        ("own = Settings({}); own.port += 1", "changes own.port"),
    ],
)
def test_what_tells_starts_apart(statement: str, complaint: str) -> None:
    assert complaint in found(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "if plan.settings.overlay and plan.init.is_alive(): pass",
        "namespaces = plan.namespaces; namespaces.join('mnt')",
        "x = plan.root.open()",
        "x = isinstance(settings, Failed)",
        "port = settings.port; port += 1",
    ],
)
def test_what_does_not(statement: str) -> None:
    assert found(statement) == []
