# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Distinguish a node's image, which was not booted, from a running node."""

from __future__ import annotations

import os
import stat

ROOT = "/"
FIRST_ROOT = "/proc/1/root"  # of pid 1; only root may follow it
SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
NULL = "/dev/null"


def is_image() -> bool:
    """Return whether the root directory is not that of pid 1, as in a chroot, or has no /proc mounted.

    /proc then shows processes, sockets and kernel of the machine that builds the image.
    """
    try:
        return not os.path.samestat(os.stat(FIRST_ROOT), os.stat(ROOT))
    except PermissionError:
        return False
    except OSError:
        return True


def has_systemd() -> bool:
    """Return whether systemd is installed, and so will run when the image is booted."""
    return any(os.path.lexists(path) for path in SYSTEMD)


def has_null() -> bool:
    """Return whether /dev/null is a device. Otherwise programs that write to it create a file."""
    try:
        return stat.S_ISCHR(os.stat(NULL).st_mode)
    except OSError:
        return False
