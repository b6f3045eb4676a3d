# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose container it is: the ids of its user in each user namespace, and the user's name on the cluster."""

from __future__ import annotations

import os

from . import passwd
from .errors import HookError
from .identity import Identity, IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .container import Container

_MAX_PASSWD_FILE = 256 << 20  # bytes
_NOBODY = 2**32 - 1  # no user's uid


class Owner:
    """Attributes: name, in PASSWD_FILE; keeper, who owns the name's files; user, the container's user. The ids are
    those of the hook's user namespace. rootless tells whether the engine runs in a user namespace of the user's own.
    runner is the uid of who runs the engine, see `runner`. state_directory is where only that one can write, and what
    is written lasts until the next boot.
    """

    def __init__(self, name: str, keeper: Identity, user: Identity, rootless: bool, runner: int) -> None:
        self.name = name
        self.keeper = keeper
        self.user = user
        self.rootless = rootless
        self.runner = runner
        self.state_directory = f"/run/user/{runner}" if runner else "/run"


def runner() -> int:
    """The uid, on the node, of who runs this; of root in a user namespace, that of the user whose it is."""
    return _runner(IdMap(_read("/proc/self/uid_map").decode()))


def _runner(ours: IdMap) -> int:
    if ours.is_initial():
        return os.geteuid()
    outside = ours.outside(0)
    return _NOBODY if outside is None else outside


def find_owner(container: Container, process: int | None, passwd_file: str) -> Owner:
    """Find the user of `container` in `passwd_file`.

    `process` is a descriptor of its first process's directory in /proc if that has a user namespace of its own. An
    engine that runs rootless is the user's own, whatever uid the container's process has.

    Raises HookError where there is no such user.
    """
    user = Identity(container.uid, container.gid)
    if process is not None:
        user = Identity(_outside(process, "uid_map", container.uid), _outside(process, "gid_map", container.gid))
    data = _read(passwd_file)
    ours = IdMap(_read("/proc/self/uid_map").decode())
    caller = _runner(ours)
    if not ours.is_initial():
        entry = None if caller == _NOBODY else passwd.find_by_uid(data, caller)
        if entry is not None:
            return Owner(entry.name, Identity(0, 0), user, True, caller)
    entry = passwd.find_by_uid(data, user.uid)
    if entry is None:
        raise HookError(f"no user has the uid {user.uid} in PASSWD_FILE {passwd_file}: add one, or refresh the file")
    return Owner(entry.name, user, user, not ours.is_initial(), caller)


def _outside(process: int, kind: str, inside: int) -> int:
    outside = IdMap(_read(kind, process).decode()).outside(inside)
    if outside is None:
        raise HookError(f"the container's process has the id {inside}, which its user namespace does not map ({kind})")
    return outside


def _read(path: str, directory: int | None = None) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=directory)
        with open(descriptor, "rb") as file:
            is_too_large = os.fstat(descriptor).st_size > _MAX_PASSWD_FILE
            data = b"" if is_too_large else file.read()  # without a size: memory is taken for all that is asked for
    except OSError as error:
        raise HookError(f"cannot read {path}: {error.strerror}") from None
    if is_too_large:
        raise HookError(f"{path} is larger than {_MAX_PASSWD_FILE} bytes")
    return data
