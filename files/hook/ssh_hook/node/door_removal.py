# SPDX-License-Identifier: GPL-3.0-or-later
"""How the name of a door is removed, which every end of a container does.

Whoever removes a name waits for a user who has mounted FUSE on it; whoever moves it does not (docs/why.md). So
root's are moved to a directory in which nobody else reaches a name, and its sweep removes them there.
"""

from __future__ import annotations

from ..linux.fast_stdlib import os

ROOT_PLACE = "/run/ocihooks-ssh/doors"  # for doors of rootful engines
REMOVED = "/run/ocihooks-ssh/removed"


def remove_door(path: str) -> None:
    """Remove the name of a door, if it is there; root's is moved to REMOVED."""
    directory, _slash, name = path.rpartition("/")
    if directory == ROOT_PLACE:
        move_away(path, name)
    else:
        unlink(path)


def move_away(path: str, name: str) -> None:
    """Move a name of root's to REMOVED, if it is there. There it is called `name`, as no other is."""
    try:
        try:
            os.rename(path, f"{REMOVED}/{name}")
        except FileNotFoundError:  # the directory is missing, or the name
            os.mkdir(REMOVED, 0o700)
            os.rename(path, f"{REMOVED}/{name}")
    except OSError:
        pass  # there is no such name, or a sweep removes it


def unlink(path: str) -> bool:
    """Remove a name; return False where that failed."""
    try:
        os.unlink(path)
    except OSError:
        return False  # there is none, or a sweep removes it
    return True
