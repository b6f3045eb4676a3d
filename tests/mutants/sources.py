"""Reads faults, finds a function of the collection by its name, wherever its file is, and puts a fault into it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

# Where faults are put, by the names of Python's functions, methods and module variables, and of other files.
_PYTHON = ("files/hook/ssh_hook", "plugins")
_OTHERS = ("files/hook/ssh_hook/**/*.sh", "roles/*/templates/*", "roles/*/files/*.bash", "roles/*/vars/*.yml")
_FAULT = re.compile(r"(\S+): (.*?)(?: |\n    )=>(?: (.*))?\n    (.+?):(?: |\n      )(.+)")  # the form: faults.txt


class Fault(NamedTuple):
    """A small fault, and the test that has to notice it.

    Attributes: see faults.txt.
    """

    promise: str
    function: str
    text: str
    replacement: str
    test: str
    reason: str


class FaultError(Exception):
    """A fault that cannot be put in: its function or text is missing, or is not the only one."""


class Part(NamedTuple):
    """The source of a function: the file, the offset in it, and the text."""

    path: Path
    start: int
    text: str


def read_faults(path: Path) -> list[Fault]:
    """Read a file of the form of faults.txt. Raises FaultError."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    faults = []
    for section in "\n".join(lines).strip("\n").split("\n\n"):
        promise, *entries = re.split(r"\n  (?! )", section)
        for entry in entries:
            match = _FAULT.fullmatch(entry)
            if match is None:
                raise FaultError(f"{path.name} cannot be read here:\n  {entry}")
            function, text, replacement, test, reason = match.groups("")
            faults.append(Fault(promise.replace("\n", " "), function, _plain(text), _plain(replacement), test, reason))
    return faults


def _plain(escaped: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], escaped)


def apply(fault: Fault, root: Path) -> tuple[Path, str]:
    """Put the fault into the checkout at `root`; return the file, and what it held. Raises FaultError."""
    part, offset = find(fault, root)
    before = part.path.read_text(encoding="utf-8")
    start = part.start + offset
    part.path.write_text(before[:start] + fault.replacement + before[start + len(fault.text) :], encoding="utf-8")
    return part.path, before


def find(fault: Fault, root: Path) -> tuple[Part, int]:
    """Return the part of the checkout at `root` that has the fault's text, and its offset there. Raises FaultError."""
    parts = parts_of(root).get(fault.function, [])
    if not parts:
        raise FaultError(f"there is no {fault.function}")
    found = sum(part.text.count(fault.text) for part in parts)
    if found != 1:
        raise FaultError(f"{fault.function} has the text {found} times: {fault.text!r}")
    part = next(part for part in parts if fault.text in part.text)
    return part, part.text.index(fault.text)


@cache
def parts_of(root: Path) -> dict[str, list[Part]]:
    """Return what faults can be put into, by its name."""
    found: dict[str, list[Part]] = {}
    for path in sorted({path.resolve() for place in _PYTHON for path in (root / place).rglob("*.py")}):
        text = path.read_text(encoding="utf-8")
        starts = [0]
        for line in text.split("\n"):
            starts.append(starts[-1] + len(line) + 1)
        for name, node in _named(ast.parse(text), ""):
            assert node.end_lineno is not None
            start = starts[node.lineno - 1]
            found.setdefault(name, []).append(Part(path, start, text[start : starts[node.end_lineno]]))
    for pattern in _OTHERS:
        for path in root.glob(pattern):
            found.setdefault(path.name, []).append(Part(path, 0, path.read_text(encoding="utf-8")))
    return found


def _named(node: ast.AST, prefix: str) -> list[tuple[str, ast.stmt]]:
    found: list[tuple[str, ast.stmt]] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            name = prefix + child.name
            found += [(name, child)] if isinstance(child, ast.FunctionDef) else []
            found += _named(child, f"{name}.") if isinstance(child, ast.ClassDef) else []
        elif isinstance(child, (ast.Assign, ast.AnnAssign)) and not prefix:
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            found += [(target.id, child) for target in targets if isinstance(target, ast.Name)]
    return found
