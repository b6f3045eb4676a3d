# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of files, and files and directories of the user who builds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .. import _files


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def has_digest(path: Path, digest: str) -> bool:
    """Return whether there is a file with this SHA-256."""
    return path.is_file() and sha256(path) == digest


def make_directories(path: Path) -> None:
    """Create a directory and missing parents. Only their owner can write to them, regardless of the umask."""
    if not path.is_dir():
        make_directories(path.parent)
        path.mkdir(mode=0o755, exist_ok=True)


def write_whole(data: bytes, path: Path, mode: int) -> None:
    """Write `data` to `path` by an atomic rename; create its directory if missing."""
    make_directories(path.parent)
    _files.write(str(path), data, mode, owner=None)
