# SPDX-License-Identifier: GPL-3.0-or-later
"""User namespaces, their parents and owners: ioctl_ns(2), since Linux 4.11."""

from __future__ import annotations

import fcntl
import sys

from ..fast_stdlib import os
from .files import is_same

_NS_GET_USERNS = 0xB701
_NS_GET_PARENT = 0xB702
_NS_GET_OWNER_UID = 0xB704


def owning(namespace: int) -> int:
    """Return a descriptor of the user namespace that owns the open `namespace`. Raises OSError."""
    return fcntl.ioctl(namespace, _NS_GET_USERNS)


def owner_uid(user_namespace: int) -> int:
    """Return the uid that created the open user namespace, in the caller's user namespace. Raises OSError."""
    data = bytearray(4)
    fcntl.ioctl(user_namespace, _NS_GET_OWNER_UID, data)
    return int.from_bytes(data, sys.byteorder)


def lineage(user_namespace: int) -> list[int]:
    """Return descriptors of an open user namespace and its ancestors, up to a child of the caller's own.

    Raises PermissionError if it does not descend from the caller's own, and OSError; all are closed then.
    """
    own = os.stat("/proc/self/ns/user")
    found = [user_namespace]
    try:
        while not is_same(os.fstat(parent := fcntl.ioctl(found[-1], _NS_GET_PARENT)), own):
            found.append(parent)
    except OSError:
        for descriptor in found:
            os.close(descriptor)
        raise
    os.close(parent)
    return found
