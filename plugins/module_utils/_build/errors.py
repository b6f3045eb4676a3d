# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exception for build failures."""

from __future__ import annotations


class BuildError(Exception):
    """A failure whose text is a complete message for the person who runs the play."""
