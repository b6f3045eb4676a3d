# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile the hook's Python package into one file of bytecode; its format is that of the hook's importer.py.

A program: the interpreter that runs the hook runs it too, since each version has bytecode of its own. It reads from
standard input a JSON object with `directory`, where the sources lie, and `package`, path -> text, and writes the
bytecode to standard output.
"""

from __future__ import annotations

import ast
import hashlib
import json
import marshal
import os
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import CodeType
from typing import Any

PACKAGE = "ssh_hook"
ENTRY = f"{PACKAGE}.cli"  # what the launcher imports
IMPORTER = f"{PACKAGE}.importer"
INIT = ".__init__"
HEADER_SIZE = 128  # bytes


def digest(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 of a package of which each file's path and SHA-256 are given."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def digests(package: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of each file of a package, path -> text."""
    return {path: hashlib.sha256(text.encode()).hexdigest() for path, text in package.items()}


def header(cache_tag: str, package_digest: str) -> bytes:
    """Return the beginning of the bytecode of these sources by an interpreter of this tag."""
    return f"{cache_tag} {package_digest} ".encode()


class TypesRemover(ast.NodeTransformer):
    """Takes annotations, and what is imported for them alone, out of a module that does not look at them itself."""

    def visit(self, node: ast.AST) -> Any:
        """Any node. In expressions there are no annotations."""
        return node if isinstance(node, ast.expr) else super().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function."""
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """A parameter."""
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """A variable."""
        plain = ast.Pass() if node.value is None else ast.Assign([node.target], node.value)
        return ast.copy_location(plain, node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """What follows "if TYPE_CHECKING:" is never run."""
        self.generic_visit(node)
        return node.orelse if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


def without_lines(code: CodeType) -> CodeType:
    """The code without the tables of its line numbers, a sixth of its size."""
    consts = tuple(without_lines(const) if isinstance(const, CodeType) else const for const in code.co_consts)
    table = "co_linetable" if hasattr(code, "co_linetable") else "co_lnotab"  # before Python 3.10
    changes: dict[str, Any] = {"co_consts": consts, table: b""}
    return code.replace(**changes)


def compile_source(source: str, path: str) -> tuple[CodeType, ast.Module]:
    """Compile a module, without docstrings, annotations and line numbers: reading them would take 3 % of a container's
    start.
    """
    tree = TypesRemover().visit(ast.parse(source, path))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    code: CodeType = compile(tree, path, "exec", dont_inherit=True, optimize=2)
    return without_lines(code), tree


def own_imports(nodes: Iterable[ast.AST], package: str, modules: Collection[str]) -> list[str]:
    """Those of the `modules` that the nodes, of a module in `package`, import by relative imports."""
    found = []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*package.split(".")[: package.count(".") + 2 - node.level], *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            found += [name if name in modules else base for name in names]
    return list(dict.fromkeys(found))


def in_functions(tree: ast.Module) -> Iterator[ast.AST]:
    """The statements that a module does not run at once."""
    pending = deque[ast.AST](node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
    while pending:
        node = pending.popleft()
        yield node
        pending += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]


def module_name(path: str) -> str:
    """The name of the module in the file `path`, relative to the package's directory."""
    name = f"{PACKAGE}/{os.path.splitext(path)[0]}".replace("/", ".")
    return name[: -len(INIT)] if name.endswith(INIT) else name


def bytecode(package: Mapping[str, str], directory: str) -> bytes:
    """The bytecode of all modules of a package, path -> text, whose files lie in the directory."""
    modules = {module_name(path): path for path in package if path.endswith(".py")}
    packages = {name for name, path in modules.items() if path.endswith("__init__.py")}
    codes = {}
    at_once = {}
    roots = [*sorted(packages), ENTRY]
    for name, path in modules.items():
        parent = name.rpartition(".")[0]
        own_package = name if name in packages else parent
        codes[name], tree = compile_source(package[path], os.path.join(directory, path))
        at_once[name] = [parent] * bool(parent) + own_imports(tree.body, own_package, modules)
        roots += own_imports(in_functions(tree), own_package, modules)

    present = closure(ENTRY, at_once)
    content = b""
    index = {}
    for root in dict.fromkeys(roots):
        names = [name for name in closure(root, at_once) if name == root or root == ENTRY or name not in present]
        group = marshal.dumps([(name, codes[name]) for name in names])
        index[root] = (HEADER_SIZE + len(content), len(group), root in packages)
        content += group
    ending = marshal.dumps((codes[IMPORTER], index))
    tag = sys.implementation.cache_tag
    beginning = header(tag, digest(digests(package))) + f"{HEADER_SIZE + len(content)} {len(ending)}".encode()
    return beginning.ljust(HEADER_SIZE - 1) + b"\n" + content + ending


def closure(module: str, at_once: dict[str, list[str]]) -> list[str]:
    """The module and all that it takes, each after what it imports at once."""
    found: list[str] = []

    def add(name: str) -> None:
        for imported in at_once[name]:
            if imported not in found:
                add(imported)
        found.append(name)

    add(module)
    return found


def main() -> None:
    """Do what the module's docstring says."""
    request = json.load(sys.stdin)
    sys.stdout.buffer.write(bytecode(request["package"], request["directory"]))


if __name__ == "__main__":
    main()
