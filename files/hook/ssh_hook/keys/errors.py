# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of all errors for users, and the key store's exceptions. Their kinds are also the hook's (../errors.py)."""

from __future__ import annotations

import errno

DISK_FULL = "disk-full"
KEYS_DAMAGED = "keys-damaged"
KEYS_UNSAFE = "keys-unsafe"
NO_KEYS = "no-keys"
SYSTEM = "system"

REPLACE = "to replace the set run 'ssh_hook keygen --overwrite'"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class HookError(Exception):
    """A failure whose text is the complete message: one line that says what is wrong, where, and what to do.

    Attributes:
        kind: one of KINDS in ../errors.py.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class KeyStoreError(HookError):
    """An error with a key set."""


class MissingKeysError(KeyStoreError):
    """There is no key set at all."""


class MissingHomeError(KeyStoreError):
    """The user's directory does not exist."""


class MissingLibraryError(KeyStoreError):
    """Keys cannot be created, because the Python package cryptography cannot be imported."""


def kind_of_os(error: OSError, otherwise: str = SYSTEM) -> str:
    """Return the kind of a failed system call: DISK_FULL if no space or quota is left, else `otherwise`."""
    return DISK_FULL if error.errno in _FULL else otherwise
