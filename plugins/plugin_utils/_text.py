# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts from nodes, for admins to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAX_LENGTH = 1000  # characters of a value


def escaped(value: Any) -> Any:
    """Return a value with the unprintable characters of its texts, except tabs and line breaks, as backslash escapes.

    A terminal would obey them.
    """
    if isinstance(value, str):
        return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in value)
    if isinstance(value, Mapping):
        return {key: escaped(item) for key, item in value.items()}
    return [escaped(item) for item in value] if isinstance(value, (list, tuple)) else value


def printable(value: object) -> str:
    """Return a value as text of limited length, with unprintable characters as backslash escapes."""
    text = str(value)
    text = text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
