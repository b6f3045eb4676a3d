"""Write a passwd file from the node's name service. Prints "changed" or "unchanged".

Usage: python3 -I -S refresh_passwd.py [--check] FILE

The file gets what `getent passwd` lists, without password hashes, owned by root, mode 0644, replaced atomically and
only when it differs. A name service that cannot be reached never empties it: see accepted(). With --check nothing is
written.
Exit 1, with one line on stderr, when the file had to be left as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile

GETENT_SECONDS = 120
FIRST_PERSON = 1000
NOBODY = 65534
REMEDY = "look at the node's name service"
ENTRY = re.compile(rb"([^:\s+\-][^:\x00-\x20]*):[^:]*:([0-9]{1,10}):([0-9]{1,10}):([^:]*):([^:]*):([^:]*)")


class NotRefreshed(Exception):
    """The file was not changed; str() is the line for the admin."""


def entries(listing: bytes) -> dict[bytes, bytes]:
    """Return the accounts of a listing in passwd's format, name -> line without password.

    The first line of a name counts, as in lookups. Lines that are no account are omitted.
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


def list_accounts() -> bytes:
    """Return the accounts that the name service lists.

    Raises:
        NotRefreshed: it cannot be asked.
    """
    program = shutil.which("getent", path="/usr/bin:/bin")
    if program is None:
        raise NotRefreshed("there is no getent on this node: install it, or set ssh_hook_passwd_source to 'file'")
    try:
        answer = subprocess.run(
            [program, "passwd"], stdin=subprocess.DEVNULL, capture_output=True, timeout=GETENT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotRefreshed(f"'getent passwd' gave no answer in {GETENT_SECONDS} seconds: {REMEDY}") from error
    if answer.returncode != 0:
        raise NotRefreshed(f"'getent passwd' failed with status {answer.returncode}: {REMEDY}")
    return answer.stdout


def accepted(new: dict[bytes, bytes], old: dict[bytes, bytes], path: str) -> None:
    """Refuse a listing that looks like one of a broken name service.

    If a directory server does not answer, getent reports no error and omits its accounts.

    Raises:
        NotRefreshed: the listing has no root, or lacks more than half of the people listed before, and two at least.
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


def read(path: str) -> tuple[bytes, bool]:
    """Return the file's content and whether its owner and mode are right; empty and False if it does not exist."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", False
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        return file.read(), (status.st_mode, status.st_uid, status.st_gid) == (0o100644, 0, 0)


def write(path: str, content: bytes) -> None:
    """Replace the file by an atomic rename."""
    descriptor, temporary = tempfile.mkstemp(prefix=".passwd-", dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, 0o644)
            os.fchown(descriptor, 0, 0)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def refresh(path: str, check: bool) -> bool:
    """Update the file. Return whether it had to be changed."""
    old, intact = read(path)
    new = entries(list_accounts())
    accepted(new, entries(old), path)
    content = b"".join(line + b"\n" for line in new.values())
    if content == old and intact:
        return False
    if not check:
        write(path, content)
    return True


def main(arguments: list[str]) -> int:
    """Refresh the file named by the last argument. Return 0 if it is up to date then."""
    path = arguments[-1]
    try:
        print("changed" if refresh(path, "--check" in arguments[:-1]) else "unchanged")
    except NotRefreshed as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{path} cannot be refreshed: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
