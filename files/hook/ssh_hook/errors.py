# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception of the hook."""

from __future__ import annotations


class HookError(Exception):
    """A failure whose text is the whole message: one line that says what is wrong, where, and what to do."""
