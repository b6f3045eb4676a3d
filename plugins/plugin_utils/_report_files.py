# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of an audit's report, on the controller."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ansible_collections.ocihooks.ssh.plugins.module_utils import _files
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _audit

JSON, PAGE = "audit.json", "audit.html"
# What identifies an earlier report: only that is replaced.
_PARTS = {JSON: ('"format": ', '"collection": ', '"nodes": '), PAGE: ("<title>SSH into containers: audit of ",)}
_MODE = 0o640


def write(directory: str, text: str, check: bool) -> list[str]:
    """Write the files that are missing or have other content. Return their paths.

    Their timestamps show when the nodes were audited, even if nothing has changed.

    Raises:
        OSError: a file cannot be written, or is not from an audit.
    """
    if not check:
        os.makedirs(directory, mode=0o750, exist_ok=True)
    written = []
    for name, content in ((JSON, text), (PAGE, _audit.page(text))):
        path = Path(directory, name)
        if _is_as(path, content):
            if not check:
                os.utime(path)
            continue
        written.append(str(path))
        if os.path.lexists(path) and not all(part in _text(path) for part in _PARTS[name]):
            raise OSError(errno.EEXIST, "no audit wrote this file, so it stays", str(path))
        if not check:
            _files.write(str(path), content.encode(), _MODE, owner=None)
    return written


def _is_as(path: Path, content: str) -> bool:
    """Return whether a path is a file with this content and a report's mode."""
    return os.path.lexists(path) and path.lstat().st_mode == 0o100000 | _MODE and _text(path) == content


def _text(path: Path) -> str:
    return _files.read(str(path)).decode(errors="replace")
