# SPDX-License-Identifier: GPL-3.0-or-later
"""Who runs the container engine, and the hook with it."""

from __future__ import annotations

from ..errors import HookError
from ..kernel.identity import Identity, IdMap
from ..kernel.lean import TYPE_CHECKING, os, read_file

if TYPE_CHECKING:
    from ..spec.config import Container

NOBODY = 2**32 - 1  # no user's uid


class Engine:
    """The container engine that runs the calling process.

    Attributes:
        is_rootless: whether it runs in a user namespace.
        host_uid: the engine's uid in the initial user namespace.
        state_directory: where only that uid can write; what is there lasts until the next boot.
    """

    def __init__(self) -> None:
        """Of the calling process. Raises HookError."""
        ours = read_map("/proc/self/uid_map")
        self.is_rootless = not ours.is_initial()
        outside = ours.outside(0)
        self.host_uid = os.geteuid() if not self.is_rootless else NOBODY if outside is None else outside
        self.state_directory = f"/run/user/{self.host_uid}" if self.host_uid else "/run"


def outside_user(container: Container, process: int, has_user_namespace: bool) -> Identity:
    """The container's user in the hook's user namespace. Raises HookError where there is none. `process` is a descriptor
    of the directory in /proc of the container's first process, which may have a user namespace of its own.
    """
    if not has_user_namespace:
        return Identity(container.uid, container.gid)
    return Identity(_outside(process, "uid_map", container.uid), _outside(process, "gid_map", container.gid))


def _outside(process: int, kind: str, inside: int) -> int:
    outside = read_map(kind, process).outside(inside)
    if outside is None:
        raise HookError(f"the container's process has the id {inside}, which its user namespace does not map ({kind})")
    return outside


def read_map(path: str, directory: int | None = None) -> IdMap:
    """The map of ids in the file `path` of /proc. Raises HookError."""
    try:
        return IdMap(read_file(path, directory).decode())
    except OSError as error:
        raise HookError(f"cannot read {path}: {error.strerror}") from None
