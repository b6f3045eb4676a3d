# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The output of --diff: the lines that differ in a configuration; one line for new files, or for one of many."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

MAX_NAMED = 4  # paths of a list


def of_text(path: str, before: str, after: str) -> dict[str, str]:
    """Return the difference of a text: one line if it is new or removed."""
    if not before:
        digest = hashlib.sha256(after.encode()).hexdigest()[:12]
        return of_lines(f"new: {path} ({len(after.splitlines())} lines, SHA-256 {digest}...)")
    if not after:
        return of_lines(f"removed: {path}")
    return {"before_header": path, "after_header": path, "before": before, "after": after}


def of_lines(*lines: str) -> dict[str, str]:
    """Return a difference that consists of these lines."""
    return {"prepared": "".join(f"{line}\n" for line in lines)}


def of_version(new: str, old: str, paths: Sequence[str]) -> dict[str, str]:
    """Return the difference of a version's files: one line for a new version, else some of the paths.

    Args:
        new: directory of the version
        old: directory of the existing version, empty if there is none
        paths: what is out of date
    """
    if new != old:
        return of_lines(f"new: {new} ({len(paths)} paths)" + (f", in place of {old}" if old else ""))
    more = len(paths) - MAX_NAMED
    named = [f"out of date: {path}" for path in paths[:MAX_NAMED]]
    return of_lines(*named, *[f"and {more} more"] * (more > 0))


def of_names(kinds: dict[str, Sequence[str]]) -> str:
    """Return the number of names of each kind, and some of them; kinds without names are omitted."""
    said = []
    for kind, names in kinds.items():
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        said += [f"{len(names)} {kind} ({', '.join(names[:MAX_NAMED])}{more})"] if names else []
    return ", ".join(said)
