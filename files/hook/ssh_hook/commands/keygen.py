# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook keygen``: create the SSH keys of the calling user, who is looked up by uid in PASSWD_FILE."""

from __future__ import annotations

import sys

from ..errors import NO_KEYS, SETTING_WRONG
from ..fast_stdlib import TYPE_CHECKING
from ..keys import writer
from ..keys.errors import KeyStoreError, MissingLibraryError
from ..node.caller import caller, describe, dropbearkey

if TYPE_CHECKING:
    from argparse import Namespace

DESCRIPTION = "Create your SSH keys for containers, unless you have them already."
EXAMPLE = "ssh_hook keygen"
FLAGS = {"overwrite": "replace the keys that you have"}


def run(arguments: Namespace, settings: dict[str, str]) -> int:
    """Create the keys, and print what was done. Raises KeyStoreError."""
    print(keygen(settings, arguments.overwrite))
    return 0


def keygen(settings: dict[str, str], overwrite: bool = False) -> str:
    """Create the caller's key set unless it exists; return one line that says what was done.

    `settings` has HOOK_BASE_DIR and PASSWD_FILE. Optional are SSH_KEY_TYPE, one of writer.KEY_TYPES; and DROPBEAR_DIR.
    With `overwrite` an existing set is replaced. Raises KeyStoreError.
    """
    directory, name = caller(settings)
    program = dropbearkey(settings)
    new_keys = program.new_keys if program else None
    key_type = settings.get("SSH_KEY_TYPE") or writer.DEFAULT_KEY_TYPE
    if key_type not in writer.KEY_TYPES:
        raise KeyStoreError(SETTING_WRONG, f"SSH_KEY_TYPE is {key_type!r}: give one of {', '.join(writer.KEY_TYPES)}")
    try:
        made, keys = writer.generate(directory, name, key_type, overwrite, new_keys)
    except MissingLibraryError as error:
        raise KeyStoreError(
            NO_KEYS,
            f"{error}: install it for {sys.executable} (Debian: python3-cryptography),"
            " or have the administrator set its directory in PYTHON_PACKAGES",
        ) from error
    if made:
        return f"created SSH keys for {name} in {directory}: {describe(keys)}"
    return f"{name} already has SSH keys in {directory} ({describe(keys)}): use --overwrite to replace them"
