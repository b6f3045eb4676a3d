"""Write the hook's Python package from its package.json, with compiled bytecode. Prints "changed" or "unchanged".

Usage: python3 -I -S place_package.py [--check] DIRECTORY

DIRECTORY/package.json holds an object, file name -> text. The files go to DIRECTORY/ssh_hook, owned by root and not
writable by others whatever the umask; what else is there is removed. With --check nothing is written.
The bytecode is of the unchecked kind: the interpreter does not look at the source when a container starts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import py_compile
import shutil
import sys
import tempfile

UNCHECKED_HASH = (1).to_bytes(4, "little")  # flags field of a .pyc, PEP 552
HEADER_SIZE = 16


def header(source: bytes) -> bytes:
    """First bytes of the .pyc that belongs to a source."""
    return importlib.util.MAGIC_NUMBER + UNCHECKED_HASH + importlib.util.source_hash(source)


def read(path: str, size: int = -1) -> bytes:
    """Content of a root-owned file that only root can write; empty when there is no such file."""
    try:
        status = os.lstat(path)
        if (status.st_mode, status.st_uid, status.st_gid) != (0o100644, 0, 0):
            return b""
        with open(path, "rb") as file:
            return file.read(size)
    except FileNotFoundError:
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


def compile_source(path: str) -> None:
    """Compile a source to the place where the interpreter looks for its bytecode."""
    cached = importlib.util.cache_from_source(path)
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(path, cfile=cached, doraise=True, invalidation_mode=unchecked)
    os.chmod(cached, 0o644)
    os.chown(cached, 0, 0)


def make_directory(path: str, check: bool) -> bool:
    """Make a directory of root's, and say whether it had to be made or repaired."""
    try:
        status = os.lstat(path)
        if (status.st_mode, status.st_uid, status.st_gid) == (0o40755, 0, 0):
            return False
    except FileNotFoundError:
        status = None
    if not check:
        if status is None:
            os.mkdir(path)
        os.chmod(path, 0o755)
        os.chown(path, 0, 0)
    return True


def remove_others(directory: str, wanted: set[str], check: bool) -> bool:
    """Remove what is in a directory but is not wanted, and say whether there was any."""
    others = [entry for entry in os.scandir(directory) if entry.name not in wanted] if os.path.isdir(directory) else []
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
    target = os.path.join(directory, "ssh_hook")
    cache = os.path.join(target, "__pycache__")
    changed = [make_directory(path, check) for path in (target, cache)]
    for name, text in package.items():
        path = os.path.join(target, name)
        source = text.encode()
        differs = read(path) != source
        stale = differs or read(importlib.util.cache_from_source(path), HEADER_SIZE) != header(source)
        changed.append(stale)
        if differs and not check:
            write(path, source)
        if stale and not check:
            compile_source(path)
    changed.append(remove_others(target, {*package, "__pycache__"}, check))
    compiled = {os.path.basename(importlib.util.cache_from_source(name)) for name in package}
    changed.append(remove_others(cache, compiled, check))
    return any(changed)


if __name__ == "__main__":
    os.umask(0o022)
    try:
        print("changed" if place(sys.argv[-1], "--check" in sys.argv[1:-1]) else "unchanged")
    except OSError as error:
        sys.exit(f"{error.filename or sys.argv[-1]} cannot be written: {error.strerror}")
