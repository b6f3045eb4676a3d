# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook keygen``: create the SSH keys of the calling user, who is looked up by uid in PASSWD_FILE."""

from __future__ import annotations

import sys

from ..errors import INSTALL_DAMAGED, NO_KEYS, SETTING_WRONG, USER_UNKNOWN
from ..keys import passwd, store, writer
from ..keys.dropbearkey import Dropbearkey
from ..keys.errors import KeyStoreError, MissingLibraryError
from ..linux.fast_stdlib import TYPE_CHECKING, exists, os

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

DESCRIPTION = "Create your SSH keys for containers, unless you have them already."
EXAMPLE = "ssh_hook keygen"
FLAGS = {"overwrite": "replace the keys that you have"}


def run(arguments: Namespace, settings: dict[str, str]) -> int:
    """Create the keys, and print what was done. Raises KeyStoreError."""
    print(keygen(settings, arguments.overwrite))
    return 0


def keygen(settings: dict[str, str], overwrite: bool = False) -> str:
    """Create the caller's key set unless it exists; return one line that says what was done.

    `settings` has HOOK_BASE_DIR and PASSWD_FILE. Optional are SSH_KEY_TYPE, one of writer.KEY_TYPES; DROPBEAR_DIR; and
    PYTHON_PACKAGES: colon-separated directories with the package cryptography, for a node without Dropbear. With
    `overwrite` an existing set is replaced. Raises KeyStoreError.
    """
    directory, name = caller(settings)
    program = dropbearkey(settings)
    new_keys = program.new_keys if program else None
    if program is None:
        # Appended: nothing in these directories may shadow the standard library.
        sys.path += python_packages(settings)
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


def dropbearkey(settings: Mapping[str, str]) -> Dropbearkey | None:
    """Return the installed dropbearkey, or None if the node has only the users' commands."""
    directory = settings.get("DROPBEAR_DIR", "")
    found = Dropbearkey(directory)
    return found if directory and os.access(found.program, os.X_OK) else None


def python_packages(settings: Mapping[str, str]) -> list[str]:
    """Return the site's directories of Python packages."""
    return [path for path in settings.get("PYTHON_PACKAGES", "").split(":") if path.startswith("/")]


def caller(settings: dict[str, str]) -> tuple[str, str]:
    """Return the key directory and the name of the calling user. Raises KeyStoreError."""
    name = caller_entry(settings).name
    return store.key_directory(settings["HOOK_BASE_DIR"], name), name


def caller_entry(settings: dict[str, str]) -> passwd.Entry:
    """Return the calling user's entry in PASSWD_FILE. Raises KeyStoreError."""
    for setting in ("HOOK_BASE_DIR", "PASSWD_FILE"):
        if not settings.get(setting):
            raise KeyStoreError(
                SETTING_WRONG, f"{setting} is not set: run the installed ssh_hook, which sets it, or set it yourself"
            )
    path = settings["PASSWD_FILE"]
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise KeyStoreError(INSTALL_DAMAGED, f"cannot read PASSWD_FILE {path}: {error.strerror}") from error
    uid = os.getuid()
    entry = passwd.find_by_uid(data, uid)
    if entry is None:
        raise KeyStoreError(
            USER_UNKNOWN, f"no user with uid {uid} in PASSWD_FILE {path}: ask the administrator to refresh it"
        )
    return entry


def is_root_without_keys(directory: str) -> bool:
    """Return whether the caller is root without a `directory` of keys: root needs none."""
    return os.getuid() == 0 and not exists(directory)


def describe(keys: store.KeySet) -> str:
    """Return the type and the fingerprint of a user's public key."""
    return f"{store.public_key(keys).split()[0]} {store.fingerprint(keys)}"
