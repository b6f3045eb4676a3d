# SPDX-License-Identifier: GPL-3.0-or-later
"""What the start of a container needs of Python's ``os`` beyond its C half, ``posix``.

The start of every container uses ``posix`` directly: ``os`` itself takes a millisecond and a half to import, a fifth of
the interpreter's own start.
"""

from __future__ import annotations

import _stat as stat
import posix

_CHUNK = 1 << 16  # bytes
_ENCODING = "utf-8"  # the interpreter runs in its UTF-8 mode, so that the system calls use it too


def fsencode(text: str) -> bytes:
    """The bytes that the kernel has for `text`."""
    return text.encode(_ENCODING, "surrogateescape")


def fsdecode(data: bytes) -> str:
    """What the kernel calls `data` as a string; `fsencode` gives the same bytes back."""
    return data.decode(_ENCODING, "surrogateescape")


def environment() -> dict[str, str]:
    """The variables that the process was started with."""
    return {fsdecode(name): fsdecode(value) for name, value in posix.environ.items()}


def split(path: str) -> tuple[str, str]:
    """The directory and the last component of `path`."""
    head, slash, name = path.rpartition("/")
    return head.rstrip("/") or slash, name


def dirname(path: str) -> str:
    """The directory of `path`."""
    return split(path)[0]


def basename(path: str) -> str:
    """The last component of `path`."""
    return split(path)[1]


def read_file(path: str, directory: int | None = None) -> bytes:
    """The content of a file, one of /proc for instance. Python's own files take ten times as long. Raises OSError."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=directory)
    try:
        return read_to_end(descriptor)
    finally:
        posix.close(descriptor)


def read_to_end(descriptor: int) -> bytes:
    """All that is left to read. Raises OSError."""
    data = b""
    while more := posix.read(descriptor, _CHUNK):
        data += more
    return data


def close_all_but(kept: set[int], null: int) -> None:
    """Close all descriptors of the process but those `kept`; standard input and output become `null`, a null device."""
    for descriptor in {0, 1, 2} - kept:
        posix.dup2(null, descriptor)
    for descriptor in {int(name) for name in posix.listdir("/proc/self/fd")} - kept - {0, 1, 2}:
        try:
            posix.close(descriptor)
        except OSError:
            pass  # the listing's own


def exists(path: str) -> bool:
    """Whether `path` leads to something that the caller can see."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def is_same(first: posix.stat_result, second: posix.stat_result) -> bool:
    """Whether both are of one file."""
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def is_own(status: posix.stat_result, kind: int = stat.S_IFREG) -> bool:
    """Whether it is a regular file, or of another `kind` (S_IFDIR and the like), that only the caller can write."""
    return stat.S_IFMT(status.st_mode) == kind and status.st_uid == posix.geteuid() and status.st_mode & 0o022 == 0
