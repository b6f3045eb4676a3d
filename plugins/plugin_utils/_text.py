# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts from nodes, for admins to read."""

from __future__ import annotations

_MAX_LENGTH = 1000  # characters of a value


def printable(value: object) -> str:
    """Return a value as text of limited length, with unprintable characters as backslash escapes."""
    text = str(value)
    text = text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
