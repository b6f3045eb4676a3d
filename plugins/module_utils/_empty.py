# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove directories that are empty."""

from __future__ import annotations

import errno
import os

_LEFT = (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.EBUSY)


def remove_empty(paths: list[str], check: bool) -> list[str]:
    """Remove those of the directories that are empty, in order. Return those that were removed.

    Args:
        check: only report which would be; one counts as empty if everything in it would be removed before.

    Raises:
        OSError: an empty directory cannot be removed.
    """
    removed: list[str] = []
    for path in paths:
        if check:
            if os.path.isdir(path) and not os.path.islink(path) and not set(_entries(path)) - set(removed):
                removed.append(path)
            continue
        try:
            os.rmdir(path)
            removed.append(path)
        except OSError as error:
            if error.errno not in _LEFT:
                raise
    return removed


def _entries(directory: str) -> list[str]:
    return [os.path.join(directory, name) for name in os.listdir(directory)]
