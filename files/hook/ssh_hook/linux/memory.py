# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the files in /proc that come from a process's memory: cmdline and environ.

A read waits for the lock of that memory (mmap_lock), and before Linux 4.17 for the file system of a file mapped there.
If that file system hangs, so does the read. So a disposable process reads.
"""

from __future__ import annotations

from ..errors import HOME_HANGS, SYSTEM, HookError, LateError
from ..fast_stdlib import closing, os, read_all
from . import disposable_process, syscalls


def read_memory(
    directory: int, name: str, what: str, limit: int, timeout: float, user_namespace: int | None = None
) -> bytes:
    """Return the content of the file `name` in the open `directory` in /proc, at most one byte more than `limit`.

    `what` begins the error message. `user_namespace` is the process's, open: it owns the file if the process's uid is
    not the caller's. Raises HookError, and LateError after `timeout` seconds.
    """

    def read() -> bytes:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # a process of the namespace could trace this one
        try:
            try:
                return _read(directory, name, limit)
            except PermissionError:
                if user_namespace is None:
                    raise
                syscalls.setns(user_namespace, syscalls.CLONE_NEWUSER)
                return _read(directory, name, limit)
        except OSError as error:
            raise HookError(SYSTEM, f"{what}: {error.strerror}") from None

    kept = (directory,) if user_namespace is None else (directory, user_namespace)
    try:
        return disposable_process.run(read, what, None, kept, timeout, limit=2 * limit)
    except LateError:
        raise LateError(
            HOME_HANGS, f"{what}: no answer within {timeout:.0f} s: its memory is a file's, and the file system hangs"
        ) from None


def _read(directory: int, name: str, limit: int) -> bytes:
    with closing(os.open(name, os.O_RDONLY, dir_fd=directory)) as descriptor:
        return read_all(descriptor, limit)
