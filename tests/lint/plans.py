"""Finds where a stage asks what kind of start it serves: the plan has an object that does what is to be done there.

Three modules make plans, with the help of three others. These BUILDERS may ask. Elsewhere in the room `start` it is an
error

* to test an attribute of a plan itself, against None or as true or false, or a local name for one; what such an
  attribute has in turn, as a setting or a process, may be asked anything,
* to ask of which class of that room something is; messages have kinds, which a receiver tells apart,
* to ask what only builders need to know (OF_BUILDERS), and
* to make a plan.

Nobody, builder or not, changes a plan or the site's settings.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

HOOK = Path(__file__).resolve().parents[2] / "files/hook/ssh_hook"
START = HOOK / "start"
BUILDERS = ("from_runtime.py", "oci_stages.py", "from_enroot.py", "from_process.py", "basis.py", "description.py")
PLAN = "StartPlan"
FIXED = (PLAN, "Settings")  # classes whose instances are not changed
OF_BUILDERS = ("is_podmans", "is_rootless")
MESSAGES = "channel.py"


def instances(tree: ast.AST, classes: tuple[str, ...]) -> set[str]:
    """Return the expressions that stand for an instance of the classes: parameters, what is made, and attributes."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None and ast.unparse(node.annotation) in classes:
            found.add(node.arg)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Name, ast.Attribute)):
            value = ast.unparse(node.value)
            if value in found or value.partition("(")[0] in classes:
                found.add(ast.unparse(node.targets[0]))
    return found


def aliases(function: ast.AST, plans: set[str]) -> set[str]:
    """Return the local names that the function has for attributes of a plan."""
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            targets = target.elts if isinstance(target, ast.Tuple) else [target]
            values = value.elts if isinstance(value, ast.Tuple) else [value]
            found.update(ast.unparse(one) for one, what in zip(targets, values) if is_part(what, plans))
    return found


def is_part(node: ast.expr, plans: set[str]) -> bool:
    """Tell whether an expression is an attribute of a plan."""
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) in plans


def tested(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the operands of a test."""
    if isinstance(node, (ast.If, ast.While, ast.IfExp, ast.Assert)):
        yield node.test
    elif isinstance(node, ast.BoolOp):
        yield from node.values
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.Compare):
        yield from (node.left, *node.comparators)
    elif isinstance(node, ast.comprehension):
        yield from node.ifs


def complaints(tree: ast.Module, classes: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and complaint for each place of a stage that tells kinds of starts apart."""
    plans = instances(tree, (PLAN,))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        names = aliases(function, plans)
        for node in ast.walk(function):
            for operand in tested(node):
                if is_part(operand, plans) or ast.unparse(operand) in names:
                    yield operand.lineno, f"tests {ast.unparse(operand)}, a part of the plan"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "type", "issubclass"):
                asked = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)} & classes
                if asked or any(is_part(argument, plans) for argument in node.args):
                    yield node.lineno, f"asks for a class: {ast.unparse(node)}"
            if isinstance(node, ast.Attribute) and node.attr in OF_BUILDERS:
                yield node.lineno, f"asks for {node.attr}, which is for those who make plans"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == PLAN:
                yield node.lineno, "makes a plan"


def changes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and complaint for each change of what is not to be changed."""
    fixed = instances(tree, FIXED)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if is_part(target, fixed):
                    yield target.lineno, f"changes {ast.unparse(target)}"


def all_complaints() -> Iterator[str]:
    """Yield all complaints about the checkout."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(HOOK.rglob("*.py"))}
    stages = {path: tree for path, tree in trees.items() if path.parent == START}
    classes = {
        node.name
        for path, tree in stages.items()
        if path.name != MESSAGES
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    for path, tree in trees.items():
        found = set(changes(tree))
        if path in stages and path.name not in BUILDERS:
            found |= set(complaints(tree, classes))
        for line, complaint in sorted(found):
            yield f"{path.relative_to(HOOK)}:{line}: {complaint}"


def main() -> int:
    """Print the complaints; the exit status is 0 where there are none."""
    found = list(all_complaints())
    print(*found, sep="\n", end="\n" if found else "")
    return int(found != [])


if __name__ == "__main__":
    sys.exit(main())
