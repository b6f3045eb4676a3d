# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error of everything that builds."""

from __future__ import annotations


class BuildError(Exception):
    """A failure that its text explains completely, to the person who runs the play."""
