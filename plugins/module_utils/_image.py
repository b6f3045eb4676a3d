# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell an image of a node, which nothing was booted from yet, from a node that runs."""

from __future__ import annotations

import os
import stat

ROOT = "/"
FIRST_ROOT = "/proc/1/root"  # of the first process; only root may ask whose it is
SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
NULL = "/dev/null"


def is_image() -> bool:
    """Return whether the root directory is not the first process's, as in a chroot, or /proc is not mounted in it.

    What /proc tells of processes, sockets and the kernel is then the machine's that changes the image.
    """
    try:
        return not os.path.samestat(os.stat(FIRST_ROOT), os.stat(ROOT))
    except PermissionError:
        return False
    except OSError:
        return True


def has_systemd() -> bool:
    """Return whether systemd is installed, so that it will run when the image is booted."""
    return any(os.path.lexists(path) for path in SYSTEMD)


def has_null() -> bool:
    """Return whether /dev/null is a device. Programs that write to it would make a file of it."""
    try:
        return stat.S_ISCHR(os.stat(NULL).st_mode)
    except OSError:
        return False
