# SPDX-License-Identifier: GPL-3.0-or-later
"""The caller of a command: the entry in PASSWD_FILE and the key directory, and what the site has to make keys with."""

from __future__ import annotations

from ..errors import INSTALL_DAMAGED, SETTING_WRONG, USER_UNKNOWN
from ..fast_stdlib import TYPE_CHECKING, exists, os
from ..keys import passwd, store
from ..keys.dropbearkey import Dropbearkey
from ..keys.errors import KeyStoreError

if TYPE_CHECKING:
    from collections.abc import Mapping


def dropbearkey(settings: Mapping[str, str]) -> Dropbearkey | None:
    """Return the installed dropbearkey, or None if the node has only the users' commands."""
    directory = settings.get("DROPBEAR_DIR", "")
    found = Dropbearkey(directory)
    return found if directory and os.access(found.program, os.X_OK) else None


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
