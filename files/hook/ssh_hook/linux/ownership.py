# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who can change a file, by its owner and mode. The hook and the Ansible modules share this file.

Access control lists need no extra rule: the group bits of the mode are the mask of what an ACL grants to named users
and groups. A sticky directory is no exception: others can create entries in it before its owner does. The mode of a
symbolic link has no meaning.
"""

from __future__ import annotations

from ..fast_stdlib import os, stat


def other_writers(uid: int, mode: int, user: int) -> tuple[bool, bool, bool]:
    """Return whether a file that belongs to `uid` can be changed by its owner, its group and all users, except `user`.

    `mode` is st_mode of stat(2), with the file type.
    """
    if stat.S_ISLNK(mode):
        return uid != user, False, False
    return uid != user, bool(mode & stat.S_IWGRP), bool(mode & stat.S_IWOTH)


def only_user_can_change(status: os.stat_result, user: int) -> bool:
    """Return whether only `user` and root can change the file with this status."""
    return not any(other_writers(status.st_uid, status.st_mode, user))
