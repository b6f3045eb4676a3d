# SPDX-License-Identifier: GPL-3.0-or-later
"""Act as another user for a moment, and translate ids between user namespaces."""

from __future__ import annotations

from . import syscalls
from .lean import os, read_file

_ALL_IDS = 2**32 - 1


class Identity:
    """A user and group id, in the user namespace of the process that uses it."""

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid


ROOT = Identity(0, 0)


class ActingAs:
    """Context manager: the effective ids are the user's, without supplementary groups, and root's again afterwards.

    With `privileged` the process keeps its capabilities meanwhile: only what it creates, and what it leaves as its
    credentials in a mount, is the user's. Without, the kernel checks every access as the user's own.
    """

    def __init__(self, identity: Identity, privileged: bool = False) -> None:
        self._identity = identity
        self._privileged = privileged
        self._groups: list[int] = []

    def __enter__(self) -> None:
        self._groups = os.getgroups()
        try:
            set_groups([])
            os.setegid(self._identity.gid)
            os.seteuid(self._identity.uid)
            if self._privileged:
                _effective, permitted, inheritable = syscalls.capget()
                syscalls.capset(permitted, permitted, inheritable)
        except BaseException:
            self.__exit__()  # not called for us then
            raise

    def __exit__(self, *_: object) -> None:
        os.seteuid(0)
        os.setegid(0)
        set_groups(self._groups)


def set_groups(groups: list[int]) -> None:
    """setgroups(2), but in a user namespace of one user, which denies it, that user's own groups stay."""
    try:
        os.setgroups(groups)
    except PermissionError:
        if read_file("/proc/self/setgroups").strip() != b"deny":
            raise


class IdMap:
    """A user namespace's map of user or group ids.

    Format: user_namespaces(7), /proc/PID/uid_map: "inside outside count" on each line, where "outside" is an id of
    the reader's user namespace (or, when the process reads its own, of the parent's).
    """

    def __init__(self, text: str) -> None:
        self._extents = [tuple(int(field) for field in line.split()) for line in text.splitlines()]

    def outside(self, inside: int) -> int | None:
        """The outer id of `inside`; None where it is not mapped."""
        for first, outer, count in self._extents:
            if first <= inside < first + count:
                return outer + inside - first
        return None

    def is_initial(self) -> bool:
        """Whether this is the map of the initial user namespace, which maps every id to itself."""
        return self._extents == [(0, 0, _ALL_IDS)]
