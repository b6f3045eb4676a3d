# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch to another user's credentials temporarily."""

from __future__ import annotations

from ..fast_stdlib import os
from . import ids, syscalls


class Identity:
    """A uid and gid, in the user namespace of the process that uses it."""

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid


def _root() -> Identity:
    """Return root's ids, or the caller's in a user namespace that does not map root (enroot)."""
    return Identity(0, 0) if os.geteuid() == 0 else Identity(os.geteuid(), os.getegid())


ROOT = _root()  # of the hook: it has all capabilities over its user namespace


class ActingAs:
    """Context manager that sets the effective ids to a user's, without supplementary groups, and restores them on exit.

    The kernel then checks every access as the user's. With `privileged` the process keeps its effective capabilities:
    only new files, and the credentials saved by mount(2), are the user's.

    The caller is root, or that user (in a user namespace that maps no other id): then only capabilities change.
    """

    def __init__(self, identity: Identity, privileged: bool = False) -> None:
        self._identity = identity
        self._privileged = privileged
        self._groups: list[int] = []
        self._own = ROOT
        self._is_user = False  # the caller is this user, not root

    def __enter__(self) -> None:
        self._is_user = 0 != os.geteuid() == self._identity.uid
        if self._is_user:
            if not self._privileged:
                _effective, permitted, inheritable = syscalls.capget()
                syscalls.capset(0, permitted, inheritable)
            return
        self._groups = os.getgroups()
        self._own = Identity(os.geteuid(), os.getegid())
        try:
            ids.act_as(self._identity.uid, self._identity.gid)
            if self._privileged:
                syscalls.raise_capabilities()
        except BaseException:
            self.__exit__()  # Python does not call it if __enter__ fails
            raise

    def __exit__(self, *_: object) -> None:
        if self._is_user:
            syscalls.raise_capabilities()
            return
        ids.restore(self._own.uid, self._own.gid, self._groups)
