# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and descriptors: compare files, check who can write one, replace files, close descriptors."""

from __future__ import annotations

import time

from ..fast_stdlib import TYPE_CHECKING, closing, create_file, os, read_all, stat, write_all
from .ownership import only_user_can_change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SUFFIX_LENGTH = 16  # hexadecimal digits that end the name of a temporary file
_MAX_WRITE_TIME = 60  # seconds
# Flags for names that users may have replaced: they follow no link, and wait for no device or FIFO.
SEARCH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def is_same(first: os.stat_result, second: os.stat_result) -> bool:
    """Return whether both are the status of the same file."""
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def is_own(status: os.stat_result, kind: int = stat.S_IFREG) -> bool:
    """Return whether only the caller can write the file, and it is of type `kind` (S_IFREG, S_IFDIR and the like)."""
    return stat.S_IFMT(status.st_mode) == kind and only_user_can_change(status, os.geteuid())


def open_without_links(root: int, path: str) -> int:
    """Open the directory at the absolute `path` below the open directory `root`, as O_PATH.

    Raises OSError, also if a component is a link.
    """
    directory = os.dup(root)
    for name in path.split("/")[1:]:
        with closing(directory) as above:
            directory = os.open(name, SEARCH, dir_fd=above)
    return directory


def read_own(name: str, limit: int, directory: int) -> bytes | None:
    """Return up to `limit` bytes and one more of a file that only the caller can write; None if others can.

    It is the file `name` in the open `directory`. Raises OSError, also for a link.
    """
    with closing(os.open(name, READ, dir_fd=directory)) as file:
        return read_all(file, limit) if is_own(os.fstat(file)) else None


def rewrite(handle: int, data: bytes) -> None:
    """Replace the content of a regular file, open as O_PATH, by `data`. Raises OSError."""
    with closing(os.open(f"/proc/self/fd/{handle}", os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK)) as descriptor:
        write_all(descriptor, data)


def replace_files(directory: int, files: Mapping[str, bytes], prepare: Callable[[int], None] | None = None) -> None:
    """Replace files in the open `directory`, each by an atomic rename; `files` are their contents by name.

    All files are written before the first is replaced, so that a full disk changes none. They belong to the caller,
    with mode 0600; `prepare` may change that for each open file before its rename. Raises OSError.
    """
    temporaries: list[str] = []
    try:
        for name, data in files.items():
            temporaries.append(f".{name}.{os.urandom(8).hex()}")
            with closing(create_file(temporaries[-1], data, 0o600, directory)) as file:
                if prepare is not None:
                    prepare(file)
        for temporary, name in zip(temporaries, files):
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        for temporary in temporaries:
            try:
                os.unlink(temporary, dir_fd=directory)
            except OSError:
                pass  # it was not created, or has been renamed
        raise


def names(directory: str) -> list[str]:
    """Return the names in a directory; none if it is missing, or the caller may not list it. Raises OSError."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, PermissionError):
        return []


def remove_leftovers(directory: int, name: str) -> None:
    """Remove temporary files of `name` that killed writers have left in the open `directory`."""
    prefix = f".{name}."
    for other in os.listdir(directory):
        suffix = other[len(prefix) :]
        if other.startswith(prefix) and len(suffix) == _SUFFIX_LENGTH and not suffix.strip("0123456789abcdef"):
            try:
                if time.time() - os.stat(other, dir_fd=directory, follow_symlinks=False).st_mtime > _MAX_WRITE_TIME:
                    os.unlink(other, dir_fd=directory)
            except FileNotFoundError:
                pass


def close_all_but(kept: set[int], null: int, proc: int | None = None) -> None:
    """Close all descriptors except `kept`; make 0, 1 and 2 copies of `null`, a descriptor of /dev/null.

    They are listed in /proc, or in the open `proc`. Raises OSError.
    """
    for descriptor in {0, 1, 2} - kept:
        os.dup2(null, descriptor)
    with closing(os.open("/proc/self/fd" if proc is None else "self/fd", os.O_RDONLY, dir_fd=proc)) as directory:
        opened = {int(name) for name in os.listdir(directory)} - {directory}
    for descriptor in opened - kept - {0, 1, 2}:
        try:
            os.close(descriptor)
        except OSError:
            pass  # the copy that os.listdir() made of the directory's
