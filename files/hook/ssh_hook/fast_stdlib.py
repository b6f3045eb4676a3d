# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replacements for slow modules of the standard library, for the start of a container.

The interpreter itself starts in some 8 ms. Importing ``os`` takes another 1.5 ms, ``json`` another 8 ms, and
``signal``, ``hashlib`` and ``typing`` a millisecond each. So `os`, `stat` and `signal` here are the C parts of these
modules. They have the same functions and constants, but not what the Python parts add: no ``os.path``, no decoded
``os.environ``, no enums. The functions below replace the needed parts of ``os.path``, ``io``, ``contextlib``,
``hashlib`` and ``json``.

`os.open` makes every descriptor close-on-exec, as Python's own does.

The collection's `module_utils` has a symbolic link to this file.
"""

from __future__ import annotations

import _stat as stat
import posix as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any
else:
    import _signal as signal

__all__ = ["os", "signal", "stat"]

MAX_LINKS = 40  # the kernel's limit for one path
_CHUNK = 1 << 16  # bytes; os.read() allocates the whole size that it is given
_NO_LIMIT = 1 << 62  # bytes
_MAX_DIGITS = 40  # of a number in JSON: int() needs quadratic time
_WHITESPACE = " \t\n\r"


# Replacements for os and os.path. The interpreter runs in UTF-8 mode, so that system calls use the same encoding.


def fsencode(text: str) -> bytes:
    """Encode `text` for the kernel, as os.fsencode() does."""
    return text.encode("utf-8", "surrogateescape")


def fsdecode(data: bytes) -> str:
    """Decode `data` so that `fsencode` restores the same bytes, as os.fsdecode() does."""
    return data.decode("utf-8", "surrogateescape")


def environment() -> dict[str, str]:
    """Return the environment variables that the process was started with."""
    return {fsdecode(name): fsdecode(value) for name, value in os.environ.items()}


def split(path: str) -> tuple[str, str]:
    """Return the directory and the last component of `path`."""
    head, slash, name = path.rpartition("/")
    return head.rstrip("/") or slash, name


def dirname(path: str) -> str:
    """Return the directory of `path`."""
    return split(path)[0]


def basename(path: str) -> str:
    """Return the last component of `path`."""
    return split(path)[1]


def exists(path: str) -> bool:
    """Return whether `path` exists, following links, as far as the caller can see."""
    try:
        os.stat(path)
    except OSError:
        return False
    return True


# Replacements for contextlib and io.


class closing:
    """Context manager that returns a descriptor and closes it on exit."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def read_all(descriptor: int, limit: int = _NO_LIMIT) -> bytes:
    """Read to the end; if more than `limit` bytes follow, return only the first `limit` + 1. Raises OSError."""
    chunks = []
    left = limit + 1
    while left > 0 and (chunk := os.read(descriptor, min(left, _CHUNK))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def read_file(path: str, dir_fd: int | None = None) -> bytes:
    """Return the content of a file, whose size may be unknown, as in /proc. Raises OSError."""
    with closing(os.open(path, os.O_RDONLY, dir_fd=dir_fd)) as descriptor:
        return read_all(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, with as many calls of write(2) as necessary. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def create_file(path: str, data: bytes, mode: int = 0o600, dir_fd: int | None = None) -> int:
    """Create a file with the content `data`; return a descriptor for reading and writing.

    Raises FileExistsError if the name exists, even as a link; other OSErrors may leave a partial file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=dir_fd)
    try:
        write_all(descriptor, data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


# Replacements for hashlib and json.


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 digest of `data`."""
    if TYPE_CHECKING:
        from hashlib import sha256 as digest
    else:
        try:
            from _sha2 import sha256 as digest  # since Python 3.12
        except ImportError:
            try:
                from _sha256 import sha256 as digest
            except ImportError:
                from hashlib import sha256 as digest
    return digest(data).digest()


class _Scanner:
    """The context of json's C scanner: the defaults of json.JSONDecoder, without NaN and Infinity."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float

    @staticmethod
    def parse_int(digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            raise ValueError(f"a number of {len(digits)} digits")
        return int(digits)

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")


def load_json(text: str) -> Any:
    """Parse the JSON document `text`.

    Raises ValueError, RecursionError, and, if a value is missing, StopIteration with its position.
    """
    try:
        from _json import make_scanner
    except ImportError:  # a private module, which other Python versions may lack
        import json

        return json.loads(text, parse_int=_Scanner.parse_int, parse_constant=_Scanner.parse_constant)
    start = len(text) - len(text.lstrip(_WHITESPACE))
    context: Any = _Scanner()
    value, end = make_scanner(context)(text, start)
    if text[end:].strip(_WHITESPACE):
        raise ValueError(f"there is more after the value, at character {end}")
    return value
