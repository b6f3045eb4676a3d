# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users call: ``ssh_hook keygen`` and ``ssh_hook check-user-has-sshkeys``.

Both act for the user who calls them, and name that user by uid from PASSWD_FILE.
"""

from __future__ import annotations


def keygen(settings: dict[str, str], overwrite: bool = False) -> str:
    """Make the caller's key set; return one line for the caller that says what was done.

    `settings` gives HOOK_BASE_DIR, PASSWD_FILE, and PYTHON_PACKAGES (optional: directories that
    hold the package cryptography, separated by colons). Raises KeyStoreError.
    """
    raise NotImplementedError


def check(settings: dict[str, str]) -> str:
    """Return one line that names the caller's key set; raise KeyStoreError if it is not complete."""
    raise NotImplementedError
