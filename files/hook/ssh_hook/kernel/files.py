# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and descriptors: whether two are the same, who can write one, and which descriptors stay open."""

from __future__ import annotations

from .lean import os, stat


def is_same(first: os.stat_result, second: os.stat_result) -> bool:
    """Tell whether both are of one file."""
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def is_own(status: os.stat_result, kind: int = stat.S_IFREG) -> bool:
    """Tell whether it is a regular file, or of another `kind` (S_IFDIR and the like), that only the caller can write."""
    return stat.S_IFMT(status.st_mode) == kind and status.st_uid == os.geteuid() and status.st_mode & 0o022 == 0


def close_all_but(kept: set[int], null: int) -> None:
    """Close all descriptors of the process but those `kept`; standard input and output become `null`, a null device."""
    for descriptor in {0, 1, 2} - kept:
        os.dup2(null, descriptor)
    for descriptor in {int(name) for name in os.listdir("/proc/self/fd")} - kept - {0, 1, 2}:
        try:
            os.close(descriptor)
        except OSError:
            pass  # the listing's own
