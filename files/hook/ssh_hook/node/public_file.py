# SPDX-License-Identifier: GPL-3.0-or-later
"""World-readable files that a root timer replaces: the metrics and the hook's passwd file."""

from __future__ import annotations

from ..errors import HookError, LateError, kind_of_os
from ..fast_stdlib import basename, closing, os, read_all
from ..linux import disposable_process
from ..linux.files import READ, remove_leftovers, replace_files
from ..log import WARNING, log
from . import user_child

MODE = 0o644


def replace(path: str, directory: int, content: bytes, lock: int | None = None) -> None:
    """Replace the file `path`, whose directory is open, by a world-readable file of the caller's.

    A user who has mounted FUSE on the file can block the process that replaces it forever (docs/why.md). So a
    disposable process does so. If it is late, but has replaced the file, a warning says so. Raises HookError.

    `lock`: that of user_child.py, where a process that hangs is to be the only one.
    """
    name = basename(path)

    def work() -> bytes:
        try:
            replace_files(directory, {name: content}, _publish)
            remove_leftovers(directory, name)  # last: a user can hold that up, too
        except OSError as error:
            raise HookError(kind_of_os(error), f"cannot write {path}: {error.strerror}") from None
        return b""

    try:
        what, kept = f"cannot write {path}", (directory,)
        if lock is None:
            disposable_process.run(work, what, None, kept)
        else:
            user_child.run(lock, work, what, kept)
    except LateError as error:
        if _content(name, directory) != content:
            raise
        log(WARNING, f"{path} has been replaced, but the process that replaced it is blocked", error.kind)


def _content(name: str, directory: int) -> bytes | None:
    try:
        with closing(os.open(name, READ, dir_fd=directory)) as file:
            return read_all(file)
    except OSError:
        return None


def _publish(file: int) -> None:
    """Make the new file readable for all, and flush it to disk before it is renamed. Raises OSError."""
    os.fchown(file, os.geteuid(), os.getegid())  # first, so that no one else can change the mode back
    os.fchmod(file, MODE)
    os.fsync(file)
