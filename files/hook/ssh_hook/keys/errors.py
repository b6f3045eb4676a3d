# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exceptions of the key store."""

from __future__ import annotations

REPLACE = "to replace the set run 'ssh_hook keygen --overwrite'"


class KeyStoreError(Exception):
    """An error with a key set; the text is one complete line for the user."""


class MissingKeysError(KeyStoreError):
    """There is no key set at all."""


class MissingHomeError(KeyStoreError):
    """The user's directory does not exist."""


class MissingLibraryError(KeyStoreError):
    """Keys cannot be made, because the Python package cryptography cannot be imported."""
