"""Write the hook's Python package from its package.json, and its bytecode. Prints "changed" or "unchanged".

Usage: python3 -I -S place_package.py [--check] DIRECTORY

DIRECTORY/package.json holds an object, path -> text. The files go to these paths below DIRECTORY/ssh_hook, owned by
root and not writable by others whatever the umask; what else is there is removed. With --check nothing is written. The
bytecode is one file, DIRECTORY/ssh_hook/bytecode; its format is that of the hook's importer.py.
"""

from __future__ import annotations

import ast
import hashlib
import json
import marshal
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Collection, Iterable
from types import CodeType
from typing import Any

PACKAGE = "ssh_hook"
BYTECODE = "bytecode"
ENTRY = f"{PACKAGE}.cli"  # what the launcher imports
IMPORTER = f"{PACKAGE}.importer"
INIT = ".__init__"
HEADER_SIZE = 128  # bytes


def header(package: dict[str, str]) -> bytes:
    """The beginning of the bytecode of these sources."""
    digest = hashlib.sha256(json.dumps(package, sort_keys=True).encode()).hexdigest()
    return f"{sys.implementation.cache_tag} {digest} ".encode()


def read(path: str, size: int = -1) -> bytes:
    """Content of a root-owned file that only root can write; empty when there is no such file."""
    try:
        status = os.lstat(path)
        if (status.st_mode, status.st_uid, status.st_gid) != (0o100644, 0, 0):
            return b""
        with open(path, "rb") as file:
            return file.read(size)
    except (FileNotFoundError, NotADirectoryError):
        return b""


def write(path: str, content: bytes) -> None:
    """Replace a file atomically."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
            os.fchown(file.fileno(), 0, 0)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class TypesRemover(ast.NodeTransformer):
    """Takes annotations, and what is imported for them alone, out of a module that does not look at them itself."""

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
    code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True, optimize=2)
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


def in_functions(tree: ast.Module) -> list[ast.AST]:
    """The nodes of what a module does not do at once."""
    return [
        node for outer in tree.body if isinstance(outer, (ast.FunctionDef, ast.ClassDef)) for node in ast.walk(outer)
    ]


def module_name(path: str) -> str:
    """The name of the module in the file `path`, relative to the package's directory."""
    name = f"{PACKAGE}/{os.path.splitext(path)[0]}".replace("/", ".")
    return name[: -len(INIT)] if name.endswith(INIT) else name


def bytecode(package: dict[str, str], directory: str) -> bytes:
    """The bytecode of all modules, whose sources lie in the directory."""
    modules = {module_name(path): path for path in package}
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
    beginning = header(package) + f"{HEADER_SIZE + len(content)} {len(ending)}".encode()
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


def make_directory(path: str, check: bool) -> bool:
    """Make a directory of root's, and say whether it had to be made or repaired. Nothing is done through a link."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        status = None
    if status is not None and (status.st_mode, status.st_uid, status.st_gid) == (0o40755, 0, 0):
        return False
    if check:
        return True
    if status is not None and not stat.S_ISDIR(status.st_mode):
        os.unlink(path)
        status = None
    if status is None:
        os.mkdir(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, 0, 0)  # first: then nobody can change the mode back
        os.fchmod(descriptor, 0o755)
    finally:
        os.close(descriptor)
    return True


def remove_others(directory: str, wanted: set[str], check: bool) -> bool:
    """Remove what is in a directory but is not wanted, and say whether there was any."""
    is_directory = os.path.isdir(directory) and not os.path.islink(directory)
    others = [entry for entry in os.scandir(directory) if entry.name not in wanted] if is_directory else []
    for entry in others:
        if check:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    return bool(others)


def place(directory: str, check: bool) -> bool:
    """Bring the package to what package.json says, and say whether anything differed."""
    try:
        with open(os.path.join(directory, "package.json"), encoding="utf-8") as file:
            package: dict[str, str] = json.load(file)
    except FileNotFoundError:
        if check:
            return True
        raise
    target = os.path.join(directory, PACKAGE)
    folders = {os.path.dirname(path) for path in package}
    changed = [make_directory(os.path.join(target, folder), check) for folder in sorted(folders)]
    for name, text in package.items():
        path = os.path.join(target, name)
        source = text.encode()
        differs = read(path) != source
        changed.append(differs)
        if differs and not check:
            write(path, source)
    path = os.path.join(target, BYTECODE)
    wanted = header(package)
    stale = read(path, len(wanted)) != wanted
    changed.append(stale)
    if stale and not check:
        write(path, bytecode(package, target))
    for folder in folders:
        names = {os.path.basename(path) for path in package if os.path.dirname(path) == folder}
        others = {BYTECODE, *folders} if folder == "" else set()
        changed.append(remove_others(os.path.join(target, folder), names | others, check))
    return any(changed)


if __name__ == "__main__":
    os.umask(0o022)
    try:
        print("changed" if place(sys.argv[-1], "--check" in sys.argv[1:-1]) else "unchanged")
    except OSError as error:
        sys.exit(f"{error.filename or sys.argv[-1]} cannot be written: {error.strerror}")
