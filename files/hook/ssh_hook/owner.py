# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose container it is: the ids of its user in each user namespace, and the user's name on the cluster."""

from __future__ import annotations

import posix

from . import passwd
from .engine import NOBODY, Engine
from .errors import HookError
from .identity import Identity

_CHUNK = 64 << 10  # bytes, of which a line of PASSWD_FILE is shorter


class Owner:
    """Attributes: name, in PASSWD_FILE; keeper, who owns the name's files; user, the container's user. The ids are
    those of the hook's user namespace.
    """

    def __init__(self, name: str, keeper: Identity, user: Identity) -> None:
        self.name = name
        self.keeper = keeper
        self.user = user


def find_owner(user: Identity, engine: Engine, passwd_file: str) -> Owner:
    """Find the container's `user` in `passwd_file`.

    An engine that runs rootless is the user's own, whatever uid the container's process has.

    Raises HookError where there is no such user.
    """
    if engine.is_rootless:
        entry = None if engine.runner == NOBODY else _find_by_uid(passwd_file, engine.runner)
        if entry is not None:
            return Owner(entry.name, Identity(0, 0), user)
    entry = _find_by_uid(passwd_file, user.uid)
    if entry is None:
        raise HookError(f"no user has the uid {user.uid} in PASSWD_FILE {passwd_file}: add one, or refresh the file")
    return Owner(entry.name, user, user)


def _find_by_uid(path: str, uid: int) -> passwd.Entry | None:
    """The first entry of `uid` in a passwd file. A large one is read in parts, into the same memory: to get memory takes longer
    than to search it.
    """
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOCTTY)
        try:
            offset = 0
            buffer = bytearray(_CHUNK)
            while size := posix.preadv(descriptor, [buffer], offset):
                data = buffer if size == _CHUNK else buffer[:size]
                end = data.rfind(b"\n") + 1 or len(data)  # the last line may have no end
                if end == _CHUNK and data[-1:] != b"\n":
                    raise HookError(f"PASSWD_FILE {path} has a line of more than {_CHUNK} bytes: refresh the file")
                entry = passwd.find_by_uid(data, uid, end)
                if entry is not None:
                    return entry
                offset += end
        finally:
            posix.close(descriptor)
    except OSError as error:
        raise HookError(f"cannot read {path}: {error.strerror}") from None
    return None
