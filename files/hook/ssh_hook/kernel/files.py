# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and descriptors: compare files, check who can write one, close descriptors."""

from __future__ import annotations

from .lean import closing, os, stat, write_all


def is_same(first: os.stat_result, second: os.stat_result) -> bool:
    """Tell whether both are the status of the same file."""
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def is_own(status: os.stat_result, kind: int = stat.S_IFREG) -> bool:
    """Tell whether only the caller can write the file, and it is of `kind` (S_IFREG, S_IFDIR and the like)."""
    return stat.S_IFMT(status.st_mode) == kind and status.st_uid == os.geteuid() and status.st_mode & 0o022 == 0


def rewrite(handle: int, data: bytes) -> None:
    """Replace the content of the regular file that is open as O_PATH by `data`. Raises OSError."""
    with closing(os.open(f"/proc/self/fd/{handle}", os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK)) as descriptor:
        write_all(descriptor, data)


def close_all_but(kept: set[int], null: int) -> None:
    """Close all descriptors except `kept`; make 0, 1 and 2 copies of `null`, a descriptor of /dev/null."""
    for descriptor in {0, 1, 2} - kept:
        os.dup2(null, descriptor)
    for descriptor in {int(name) for name in os.listdir("/proc/self/fd")} - kept - {0, 1, 2}:
        try:
            os.close(descriptor)
        except OSError:
            pass  # that of os.listdir()
