# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch to a user's uid and gid, without supplementary groups. The hook and the Ansible modules share this file.

The start of a container does not query the name service for a user's groups, which could take seconds. So nothing else
may use them either: otherwise a module could read files that a start cannot.
"""

from __future__ import annotations

from ..fast_stdlib import os, read_file


def become(uid: int, gid: int) -> None:
    """Set all uids and gids of the process permanently. Raises OSError."""
    set_groups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def act_as(uid: int, gid: int) -> None:
    """Set the effective ids, by which the kernel checks every access. Raises OSError; some may be set then."""
    set_groups([])
    os.setegid(gid)
    os.seteuid(uid)


def restore(uid: int, gid: int, groups: list[int]) -> None:
    """Undo `act_as`. Raises OSError."""
    os.seteuid(uid)
    os.setegid(gid)
    set_groups(groups)


def set_groups(groups: list[int]) -> None:
    """Call setgroups(2); if the user namespace denies it (/proc/self/setgroups), keep the current groups."""
    try:
        os.setgroups(groups)
    except PermissionError:
        if read_file("/proc/self/setgroups").strip() != b"deny":
            raise
