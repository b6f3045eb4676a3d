# SPDX-License-Identifier: GPL-3.0-or-later
"""Root's sweep of what the users' own containers left: each user's directory of copies is swept as that user.

Names there lead where the user wants, and a look-up may never end. So root follows none of them: a disposable process
with the user's ids does what the user's own sweep would, and can do no more. What goes wrong is a warning, since a user
can bring that about, and must not let root's sweep fail.
"""

from __future__ import annotations

import time

from ..errors import INSTALL_DAMAGED, HookError
from ..keys import passwd
from ..linux import disposable_process
from ..linux.fast_stdlib import os, read_file
from ..linux.identity import Identity
from ..log import INFO, WARNING, log
from ..node.engine import USERS, directory_of_copies
from .sweep import sweep

_TOTAL = 120.0  # seconds for all users
_SHARE = 12  # a user may take this part of what is left: one who hangs costs 10 s, and all together not all of it
_SHORTEST = 0.1  # seconds for one user
_MAX_DIGITS = 9  # of a count


def sweep_users(passwd_file: str) -> None:
    """Sweep the directory of each user who has one
    and is in `passwd_file`, within a fixed time; log a warning where that fails.

    The order is another one each time, so that no user is left out for ever because of those who hang.
    """
    deadline = time.monotonic() + _TOTAL
    try:
        users = sorted(_users(passwd_file), key=lambda _user: os.urandom(8))
    except HookError as error:
        log(WARNING, f"cannot sweep what users' containers left: {error}")
        return
    while users:
        timeout = (deadline - time.monotonic()) / _SHARE
        if timeout < _SHORTEST:
            log(
                WARNING,
                f"the directories of {len(users)} users wait for the next sweep: other users' have not answered",
            )
            return
        _visit(users.pop(), timeout)


def _users(passwd_file: str) -> list[Identity]:
    """Return the users who have a directory in USERS. Raises HookError.

    Their gid is that of the passwd file: to look at the directory would be to follow a name of theirs, such as a mount.
    """
    names = disposable_process.run(_names, f"cannot list {USERS}", None).split()  # others can hold its lock, too
    if not names:
        return []
    try:
        data = read_file(passwd_file)
    except OSError as error:
        raise HookError(INSTALL_DAMAGED, f"cannot read PASSWD_FILE {passwd_file}: {error.strerror}") from None
    entries = [passwd.find_by_uid(data, int(name)) for name in names if name.isdigit()]
    return [Identity(entry.uid, entry.gid) for entry in entries if entry is not None and entry.uid != 0]


def _names() -> bytes:
    try:
        return "\n".join(os.listdir(USERS)).encode()
    except FileNotFoundError:
        return b""  # nobody has logged in since the node booted


def _visit(user: Identity, timeout: float) -> None:
    """Sweep the directory of `user` as that user."""
    path = directory_of_copies(user.uid)

    def work() -> bytes:
        return b"%d %d" % sweep(path)

    try:
        answer = disposable_process.run(work, f"cannot sweep {path} as its user", user, (), timeout)
    except HookError as error:
        log(WARNING, str(error))
        return
    collected, failures = map(_count, answer.partition(b" ")[::2])
    if collected:
        log(INFO, f"{path}: collected what was left of containers that are gone: {collected}")
    if failures:
        log(WARNING, f"{path}: {failures} files could not be swept: run 'ssh_hook sweep' as uid {user.uid} to see why")


def _count(digits: bytes) -> int:
    """Return a number that a process of the user's may have sent."""
    return int(digits) if digits.isdigit() and len(digits) <= _MAX_DIGITS else 0
