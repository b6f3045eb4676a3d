# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile the hook's Python package: a .pyc file for each module, one file for each of STAGES, and PROGRAM.

A program, run by the hook's interpreter, since each version has its own bytecode. It reads a JSON object from standard
input with `directory`, the place of the sources, and `package`, path -> text. It writes a JSON object to standard
output with `cache_tag`, the interpreter's name for its bytecode (sys.implementation.cache_tag), and `files`, path ->
content in base64.

A stage's file contains the modules to import at once, each after its own imports, in parts: the size of a part in four
bytes, big-endian, and a marshalled list of (name, parent's name, name within the parent, attributes, code), which
PROGRAM executes. Reading one .pyc file per module would add 4 ms to the start of every container. Imports inside
functions use the .pyc files.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import json
import marshal
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import CodeType
from typing import Any

Entry = tuple[str, str, str, dict[str, Any], CodeType]  # a module in a stage's file

PACKAGE = "ssh_hook"
INIT = ".__init__"
# The modules that are loaded first, and, under these names, those that are loaded next as needed. These include
# keygen, which a site may call at every login.
CLI = "cli"
STAGES = {
    CLI: ("cli",),
    "create_runtime": ("start.from_runtime",),
    "poststop": ("stop.poststop",),
    "enroot": ("start.from_enroot",),
    "keygen": ("dispatch", "commands.keygen"),
}
FORMAT = 3  # of the files: a launcher that reads another format has another directory
PART = 32 << 10  # bytes; for a file of 300 kB, malloc() would map new pages, instead of using its own again
# The launcher executes it, with its own names `bytecode`, `loads`, `settings` and `sys`. To compile it each time would
# take the launcher 0.2 ms.
PROGRAM = f"""
import posix


def load(stage):
    file = posix.open(f"{{bytecode}}/{{stage}}", posix.O_RDONLY | posix.O_CLOEXEC)
    while size := int.from_bytes(posix.read(file, 4), "big"):
        for name, parent, own_name, attributes, code in loads(posix.read(file, size)):
            module = sys.modules[name] = type(sys)(name)
            vars(module).update(attributes)
            exec(code, vars(module))
            if parent:
                setattr(sys.modules[parent], own_name, module)
    posix.close(file)


load({CLI!r})
from {PACKAGE}.cli import main

sys.exit(main(sys.argv[1:], settings, load))
"""
PYC_HEADER = importlib.util.MAGIC_NUMBER + bytes(12)  # PEP 552; there is no source next to the file, so no date


def digest(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 of a package, given path -> SHA-256 of its files, and of their format."""
    return hashlib.sha256(json.dumps([FORMAT, digests], sort_keys=True).encode()).hexdigest()


def digests(package: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of each file of a package, path -> text."""
    return {path: hashlib.sha256(text.encode()).hexdigest() for path, text in package.items()}


class TypesRemover(ast.NodeTransformer):
    """Removes annotations, and imports only for them, from a module that does not read them at run time."""

    def visit(self, node: ast.AST) -> Any:
        """Visit any node. Expressions have no annotations."""
        return node if isinstance(node, ast.expr) else super().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Visit a function."""
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Visit a parameter."""
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Visit a variable."""
        plain = ast.Pass() if node.value is None else ast.Assign([node.target], node.value)
        return ast.copy_location(plain, node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Visit "if": a block "if TYPE_CHECKING:" is never run."""
        self.generic_visit(node)
        return node.orelse if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


def without_lines(code: CodeType) -> CodeType:
    """Return the code without its line number tables, a sixth of its size."""
    consts = tuple(without_lines(const) if isinstance(const, CodeType) else const for const in code.co_consts)
    table = "co_linetable" if hasattr(code, "co_linetable") else "co_lnotab"  # before Python 3.10
    changes: dict[str, Any] = {"co_consts": consts, table: b""}
    return code.replace(**changes)


def compile_source(source: str, path: str) -> tuple[CodeType, ast.Module]:
    """Compile a module without docstrings, annotations and line numbers, which add 3 % to the start of a container."""
    tree = TypesRemover().visit(ast.parse(source, path))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    code: CodeType = compile(tree, path, "exec", dont_inherit=True, optimize=2)
    return without_lines(code), tree


def own_imports(nodes: Iterable[ast.AST], package: str, modules: Collection[str]) -> list[str]:
    """Return those of the `modules` that the nodes, of a module in `package`, import by relative imports."""
    found = []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*package.split(".")[: package.count(".") + 2 - node.level], *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            found += [name if name in modules else base for name in names]
    return list(dict.fromkeys(found))


def module_name(path: str) -> str:
    """Return the name of the module in the file `path`, relative to the package's directory."""
    name = f"{PACKAGE}/{os.path.splitext(path)[0]}".replace("/", ".")
    return name[: -len(INIT)] if name.endswith(INIT) else name


def bytecode(package: Mapping[str, str], directory: str) -> dict[str, bytes]:
    """Return the files, path -> content, for a package, path -> text, whose sources are in `directory`."""
    modules = {module_name(path): path for path in package if path.endswith(".py")}
    packages = {name for name, path in modules.items() if path.endswith("__init__.py")}
    codes = {}
    at_once = {}
    for name, path in modules.items():
        parent = name.rpartition(".")[0]
        codes[name], tree = compile_source(package[path], os.path.join(directory, PACKAGE, path))
        own = own_imports(tree.body, name if name in packages else parent, modules)
        at_once[name] = [parent] * bool(parent) + own

    files = {f"{PACKAGE}/{path}c": PYC_HEADER + marshal.dumps(codes[name]) for name, path in modules.items()}
    # A module finds other files of the package next to its own, which is the .pyc file.
    files.update((f"{PACKAGE}/{path}", text.encode()) for path, text in package.items() if not path.endswith(".py"))
    files["program"] = marshal.dumps(compile_source(PROGRAM, "program")[0])
    known: list[str] = []
    for stage, first in STAGES.items():
        names = [name for name in closure([f"{PACKAGE}.{module}" for module in first], at_once) if name not in known]
        known = known or names  # the command line's modules are already loaded when a stage is
        entries = []
        for name in names:
            parent, _dot, own_name = name.rpartition(".")
            attributes: dict[str, Any] = {"__file__": codes[name].co_filename, "__package__": parent}
            if name in packages:
                path = os.path.dirname(os.path.join(directory, sys.implementation.cache_tag, PACKAGE, modules[name]))
                attributes.update(__package__=name, __path__=[path])
            entries.append((name, parent, own_name, attributes, codes[name]))
        files[stage] = b"".join(len(part).to_bytes(4, "big") + part for part in parts(entries))
    return files


def parts(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield the entries of a stage in marshalled lists, each of at most PART bytes or one entry."""
    part: list[Entry] = []
    for entry in entries:
        if part and len(marshal.dumps([*part, entry])) > PART:
            yield marshal.dumps(part)
            part = []
        part.append(entry)
    yield marshal.dumps(part)


def closure(modules: Iterable[str], at_once: dict[str, list[str]]) -> list[str]:
    """Return the modules and all that they import, each after its own imports."""
    found: list[str] = []

    def add(name: str) -> None:
        for imported in at_once[name]:
            if imported not in found:
                add(imported)
        found.append(name)

    for module in modules:
        if module not in found:
            add(module)
    return found


def main() -> None:
    """Run the program; see the module's docstring."""
    request = json.load(sys.stdin)
    files = bytecode(request["package"], request["directory"])
    encoded = {path: base64.b64encode(content).decode() for path, content in files.items()}
    json.dump({"cache_tag": sys.implementation.cache_tag, "files": encoded}, sys.stdout)


if __name__ == "__main__":
    main()
