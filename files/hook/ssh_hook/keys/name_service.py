# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts in the node's name service, for a passwd file. Used by the module passwd_file and by refresh-passwd.

The file contains what `getent passwd` lists, without password hashes. An unreachable name service never empties it: see
accepted().
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

NODES_FILE = "/etc/passwd"  # which is never written
MARK = b"# Written by the role ocihooks.ssh.ssh_hook"  # in one of the first two lines of each of the role's text files
_FIRST_LINE = MARK + b": changes here do not last.\n"
_UNIT = "/etc/systemd/system/ssh-hook-passwd.service"
GETENT_SECONDS = 120
FIRST_PERSON = 1000
NOBODY = 65534
REMEDY = "check the node's name service"
ENTRY = re.compile(rb"([^:\s+\-][^:\x00-\x20]*):[^:]*:([0-9]{1,10}):([0-9]{1,10}):([^:]*):([^:]*):([^:]*)")


class NotRefreshed(Exception):
    """The file was not changed; str() is the line for the admin."""


def is_nodes_file(path: str) -> bool:
    """Return whether a path leads to the node's own passwd file, also through a link or another mount of /etc."""
    try:
        return os.path.samefile(path, NODES_FILE)
    except OSError:  # one of them is missing
        return os.path.realpath(path) == NODES_FILE


def entries(listing: bytes) -> dict[bytes, bytes]:
    """Return the accounts of a listing in passwd format, name -> line without password.

    The first line with a name counts, as in lookups. Invalid lines are omitted.
    """
    found: dict[bytes, bytes] = {}
    for line in listing.split(b"\n"):
        match = ENTRY.fullmatch(line)
        if match:
            found.setdefault(match[1], b":".join([match[1], b"x", *match.groups()[1:]]))
    return found


def people(accounts: dict[bytes, bytes]) -> set[bytes]:
    """Return the names of accounts that are not system accounts."""
    uids = {name: int(line.split(b":")[2]) for name, line in accounts.items()}
    return {name for name, uid in uids.items() if uid >= FIRST_PERSON and uid != NOBODY}


def list_accounts(seconds: int = GETENT_SECONDS) -> bytes:
    """Return the accounts that the name service lists, within this number of seconds.

    Raises:
        NotRefreshed: the name service cannot be queried.
    """
    program = shutil.which("getent", path="/usr/bin:/bin")
    if program is None:
        raise NotRefreshed("there is no getent on this node: install it, or set ssh_hook_passwd_source to 'file'")
    try:
        answer = subprocess.run(
            [program, "passwd"], stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotRefreshed(f"'getent passwd' did not answer within {seconds} seconds: {REMEDY}") from error
    if answer.returncode != 0:
        raise NotRefreshed(f"'getent passwd' failed with status {answer.returncode}: {REMEDY}")
    return answer.stdout


def accepted(new: dict[bytes, bytes], old: dict[bytes, bytes], path: str) -> None:
    """Reject a listing that looks like that of a broken name service.

    If a directory server does not answer, getent reports no error and omits its accounts.

    Raises:
        NotRefreshed: the listing has no root, or lacks more than half, and at least two, of the people listed before.
    """
    if b"root" not in new:
        raise NotRefreshed(f"'getent passwd' does not list root, so {path} stays as it is: {REMEDY}")
    before = people(old)
    lost = before - people(new)
    if len(lost) > 1 and 2 * len(lost) > len(before):
        raise NotRefreshed(
            f"'getent passwd' no longer lists {len(lost)} of the {len(before)} users in {path}, which stays as it is: "
            f"{REMEDY}, or remove {path} if that is right"
        )


def is_marked(content: bytes) -> bool:
    """Return whether this collection wrote a file with this content: one of the first two lines says so."""
    return any(line.startswith(MARK) for line in content.split(b"\n", 2)[:2])


def is_ours(path: str, content: bytes) -> bool:
    """Return whether this collection wrote a passwd file. Earlier versions set no mark, but their unit names it."""
    if is_marked(content):
        return True
    try:
        with open(_UNIT, "rb") as file:
            unit = file.read()
    except OSError:
        return False
    return is_marked(unit) and any(
        line.startswith(b"ExecStart=") and line.endswith(b" refresh-passwd " + os.fsencode(path))
        for line in unit.split(b"\n")
    )


def new_content(path: str, old: bytes, accounts: dict[bytes, bytes], *, is_known: bool = False) -> bytes:
    """Return the new content for the file `path` with the content `old`, from these accounts, name -> line.

    Args:
        is_known: whether the caller knows that this collection wrote the file

    Raises:
        NotRefreshed: the file must not be changed.
    """
    if os.path.lexists(path) and not is_known and not is_ours(path, old):
        raise NotRefreshed(
            f"{path} was not written by this collection, which replaces only its own files: set ssh_hook_passwd_source "
            "to 'file' if it is the site's own passwd file, or name another file in ssh_hook_passwd_file"
        )
    accepted(accounts, entries(old), path)
    return _FIRST_LINE + b"".join(line + b"\n" for line in accounts.values())
