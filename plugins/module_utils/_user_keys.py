# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module user_keys, without Ansible."""

from __future__ import annotations

import os

from ._as_user import AsUserError
from ._keys import passwd, store, writer
from ._keys.errors import NO_KEYS, KeyStoreError, MissingHomeError, MissingKeysError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOUNTS = "/proc/self/mountinfo"
NAMES_SHOWN = 20  # in a message, and in the result for a range of users, which Ansible prints if the task fails


def select_users(data: bytes, wanted: list[str]) -> tuple[list[passwd.Entry], list[str]]:
    """Return the entries in the passwd file `data` for the names and uids in `wanted`, and the missing ones."""
    names: dict[str, passwd.Entry] = {}
    uids: dict[str, passwd.Entry] = {}
    asked = set(wanted)
    for entry in passwd.iterate(data):
        if entry.name in asked:
            names.setdefault(entry.name, entry)
        if str(entry.uid) in asked:
            uids.setdefault(str(entry.uid), entry)
    found = {**uids, **names}
    chosen = {found[item].name: found[item] for item in wanted if item in found}
    return list(chosen.values()), sorted(asked - found.keys())


def users_in_range(data: bytes, uid_min: int, uid_max: int) -> list[passwd.Entry]:
    """Return the entries in the passwd file `data` from `uid_min` to `uid_max`, inclusive, one for each name."""
    chosen: dict[str, passwd.Entry] = {}
    for entry in passwd.iterate(data):
        if uid_min <= entry.uid <= uid_max:
            chosen.setdefault(entry.name, entry)
    return list(chosen.values())


def homes_of_removed_users(base_dir: str, wanted: list[str]) -> tuple[list[passwd.Entry], dict[str, str | None]]:
    """Find the homes in `base_dir` of users whose accounts were removed, by name, uid or path.

    Return an entry for each home, with the ids of its owner; and for each other item of `wanted` why its home cannot be
    used, or None if there is no home. Raises OSError if `base_dir` cannot be read.
    """
    uids = {item for item in wanted if item.isascii() and item.isdigit()}
    by_uid = _homes_by_uid(base_dir) if uids else {}
    hides_homes = bool(uids) and _is_automounted(base_dir)
    found: dict[str, passwd.Entry] = {}
    others: dict[str, str | None] = {}
    for item in wanted:
        try:
            names = by_uid.get(item, []) if item in uids else [_name_in(base_dir, item)]
            homes = [_owner_of_home(base_dir, name) for name in names]
        except FileNotFoundError:
            homes = []
        except KeyStoreError as error:
            others[item] = str(error)
            continue
        except OSError as error:
            others[item] = f"cannot look for a home of {item} in {base_dir}: {error.strerror}"
            continue
        if not homes:
            hidden = (
                f"there may be a home of uid {item} that is not mounted, since autofs manages {base_dir}: name the home"
            )
            others[item] = hidden if item in uids and hides_homes else None
        found.update((home.name, home) for home in homes)
    return list(found.values()), others


def _is_automounted(directory: str) -> bool:
    """Return whether a directory is managed by autofs, so that it lists only what is mounted (proc(5), mountinfo)."""
    path = os.path.realpath(directory)
    with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
        return any(line.split()[4] == path and " - autofs " in line for line in mounts)


def _homes_by_uid(base_dir: str) -> dict[str, list[str]]:
    """Return the names of the directories in `base_dir`, keyed by the owner's uid. Raises OSError."""
    names: dict[str, list[str]] = {}
    for entry in os.scandir(base_dir):
        try:
            if entry.is_dir():
                names.setdefault(str(entry.stat().st_uid), []).append(entry.name)
        except OSError:
            pass  # a dangling link, or a home that cannot be mounted
    return names


def _name_in(base_dir: str, item: str) -> str:
    """Return the name of the home in `base_dir` for `item`, a name or a path. Raises KeyStoreError."""
    if not item.startswith("/"):
        return item
    directory, name = os.path.split(item.rstrip("/"))
    if os.path.normpath(directory) != os.path.normpath(base_dir):
        raise KeyStoreError(NO_KEYS, f"{item} is not in {base_dir}: set base_dir to the directory that the home is in")
    return name


def _owner_of_home(base_dir: str, name: str) -> passwd.Entry:
    """Return an entry with the ids of the owner of ``<base_dir>/<name>``. Raises OSError and KeyStoreError."""
    path = store.home_of(store.key_directory(base_dir, name))
    status = os.stat(f"{path}/.")  # else autofs in browse mode does not mount the home, and its mount point is root's
    if status.st_uid == 0:
        raise KeyStoreError(NO_KEYS, f"{path} belongs to root, and not to a user whose keys can be removed")
    return passwd.Entry(name, status.st_uid, status.st_gid, "", path, "")


def describe(keys: store.KeySet) -> str:
    """Return the line for a key set in a diff."""
    return f"{store.public_key(keys).split()[0]} {store.fingerprint(keys)}\n"


def state_of(directory: str, name: str) -> str:
    """Return the text for the content of a key directory in a diff."""
    try:
        return describe(store.load(directory, name))
    except MissingKeysError:
        return ""
    except KeyStoreError:
        return "(not a valid key set)\n"


class KeyTask:
    """The task of a module call. `__call__` and `look` run as the user in a child process; results are JSON."""

    def __init__(self, params: dict[str, Any], check_mode: bool) -> None:
        """Store the module's parameters."""
        self.base_dir: str = params["base_dir"]
        self.key_type: str = params["key_type"]
        self.overwrite: bool = params["overwrite"]
        self.absent: bool = params["state"] == "absent"
        self.check_mode = check_mode

    def __call__(self, user: passwd.Entry) -> dict[str, Any]:
        """Do the work for a user, or in check mode predict its result. Raises KeyStoreError."""
        try:
            return self._work(user)
        except MissingHomeError as error:
            return self._without_home(error)

    def _work(self, user: passwd.Entry) -> dict[str, Any]:
        directory = store.key_directory(self.base_dir, user.name)
        if self.absent or self.overwrite:
            before = state_of(directory, user.name)
            outcome = self._remove(directory) if self.absent else self._make(directory, user.name)
        else:  # an existing set is kept, or is an error, so it need not be read twice
            outcome = self._make(directory, user.name)
            before = "" if outcome["changed"] else outcome["after"]
        outcome["before"] = before
        return outcome

    def look(self, user: passwd.Entry) -> dict[str, Any] | None:
        """Return the result of `__call__` if nothing needs to be done, else None. Raises KeyStoreError."""
        try:
            return self._look(user)
        except MissingHomeError as error:
            return self._without_home(error)

    def _look(self, user: passwd.Entry) -> dict[str, Any] | None:
        directory = store.key_directory(self.base_dir, user.name)
        if self.absent:
            return None if writer.removable(directory) else {**self._removed(False), "before": ""}
        if self.overwrite:
            return None
        outcome = _made(False, store.load(directory, user.name))
        return None if writer.left_behind(directory) else {**outcome, "before": outcome["after"]}

    def _make(self, directory: str, name: str) -> dict[str, Any]:
        if self.check_mode:
            existing = writer.examine(directory, name, self.overwrite)
            if self.overwrite or existing is None:
                return {"changed": True, "after": "(new)\n", "host_key_names": writer.host_key_names(self.key_type)}
            changed, keys = False, existing
        else:
            changed, keys = writer.generate(directory, name, self.key_type, self.overwrite)
        return _made(changed, keys)

    def _remove(self, directory: str) -> dict[str, Any]:
        return self._removed(writer.removable(directory) if self.check_mode else writer.remove(directory))

    def _removed(self, changed: bool) -> dict[str, Any]:
        return {"changed": changed, "after": "", "host_key_names": writer.host_key_names(self.key_type)}

    def _without_home(self, error: MissingHomeError) -> dict[str, Any]:
        return {**self._removed(False), "before": "", "missing_home": str(error)}

    def result(self, user: passwd.Entry, outcome: dict[str, Any] | AsUserError) -> dict[str, Any]:
        """Return the module's result for a user. Absent keys need no home."""
        values = {} if isinstance(outcome, AsUserError) else outcome
        problem = str(outcome) if isinstance(outcome, AsUserError) else values.get("missing_home")
        error = None if self.absent and "missing_home" in values else problem
        directory = f"{self.base_dir.rstrip('/')}/{user.name}/.oci-hooks/ssh/keys"
        names = values.get("host_key_names", writer.host_key_names(self.key_type))
        return {
            "name": user.name,
            "uid": user.uid,
            "changed": values.get("changed", False),
            "error": error,
            "public_key": values.get("public_key"),
            "fingerprint": values.get("fingerprint"),
            "paths": {
                "directory": directory,
                "private_key": f"{directory}/{store.PRIVATE_KEY}",
                "authorized_keys": f"{directory}/{store.AUTHORIZED_KEYS}",
                "host_key": f"{directory}/{names[0]}",
                "host_keys": [f"{directory}/{name}" for name in names],
            },
        }


def _made(changed: bool, keys: store.KeySet) -> dict[str, Any]:
    return {
        "changed": changed,
        "after": describe(keys),
        "public_key": store.public_key(keys),
        "fingerprint": store.fingerprint(keys),
        "host_key_names": list(keys.host_keys),
    }


def difference(result: dict[str, Any], outcome: dict[str, Any]) -> dict[str, str]:
    """Return the diff for a user whose keys change."""
    path = result["paths"]["directory"]
    return {"before_header": path, "after_header": path, "before": outcome["before"], "after": outcome["after"]}


def has_no_home(outcome: dict[str, Any] | AsUserError) -> bool:
    """Return whether the work for a user failed because the user's directory does not exist."""
    return not isinstance(outcome, AsUserError) and "missing_home" in outcome


def unknown_user(name: str, error: str | None) -> dict[str, Any]:
    """Return the module's result for a user who is not in the passwd file and has no usable home."""
    return {
        "name": name,
        "uid": None,
        "changed": False,
        "error": error,
        "public_key": None,
        "fingerprint": None,
        "paths": None,
    }


def shortened(items: list[str], separator: str) -> str:
    """Join the first `NAMES_SHOWN` of `items` for a message."""
    shown = separator.join(items[:NAMES_SHOWN])
    return shown if len(items) <= NAMES_SHOWN else f"{shown}{separator}and {len(items) - NAMES_SHOWN} more"


def failure_message(results: list[dict[str, Any]], without_home: int) -> str | None:
    """Return one line with the users whose work failed, the reasons, and the other users; None if none failed.

    `without_home` is the number of users whose directory does not exist.
    """
    failed = [f"{result['name']}: {result['error']}" for result in results if result["error"]]
    served = [result["name"] for result in results if not result["error"]]
    if not failed:
        return None
    done = shortened(served, ", ") if served else "nobody"
    hint = " Where homes are made at the users' first logins, set missing_homes to skip." if without_home else ""
    return f"{len(failed)} of {len(results)} users failed: {shortened(failed, '; ')}. Done: {done}.{hint}"


def bounded(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most `NAMES_SHOWN` of the results, in order. Those of users whose work failed take precedence."""
    first = sorted(results, key=lambda result: not result["error"])[:NAMES_SHOWN]
    kept = {id(result) for result in first}
    return [result for result in results if id(result) in kept]
