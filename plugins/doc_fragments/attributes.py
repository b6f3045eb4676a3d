# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that several modules share: attributes and notes."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation fragments, which a module may override."""

    DOCUMENTATION = r"""
attributes:
  platform:
    description: Target systems that the module works on.
    support: full
    platforms: linux
"""

    # For modules that change something.
    CHANGES = r"""
attributes:
  check_mode:
    description: Can run in check mode and report what would change.
    support: full
  diff_mode:
    description: Shows what changes.
    support: full
"""

    # For modules that change something, and that only root can run. ansible-test rejects a fragment with only notes,
    # and one that is not a literal.
    ROOT = r"""
attributes:
  check_mode:
    description: Can run in check mode and report what would change.
    support: full
  diff_mode:
    description: Shows what changes.
    support: full
notes:
  - Run it as root.
"""

    # For modules that only read.
    READ_ONLY = r"""
attributes:
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""
