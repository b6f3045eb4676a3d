# SPDX-License-Identifier: GPL-3.0-or-later
"""The container engine that runs the hook, the engine's user, and the hook's directories on the node for that user."""

from __future__ import annotations

from ..errors import CONTAINER_UNFIT, SYSTEM, HookError
from ..fast_stdlib import TYPE_CHECKING, os, read_file
from ..linux.identity import Identity, IdMap

if TYPE_CHECKING:
    from ..oci.oci_config import Container

NOBODY = 2**32 - 1  # not a valid uid
NO_LOGIN = 2**32 - 1  # the loginuid of a process not started by a login
_TO_BECOME_ANY_USER = {"CAP_SETUID", "CAP_SETGID"}
_NAME = "ocihooks-ssh"  # of the hook's directories
JOBS_PLACE = f"/run/{_NAME}/users"  # Prologs make directories of users with jobs here (job_place.py)


class Engine:
    """The container engine that runs the calling process.

    Attributes:
        is_rootless: whether it runs in a user namespace.
        host_uid: the engine's uid in the initial user namespace; NOBODY if it is not mapped.
    """

    def __init__(self) -> None:
        """Read the calling process's uid map. Raises HookError."""
        own_map = read_map("/proc/self/uid_map")
        self.is_rootless = not own_map.is_initial()
        outside = own_map.outside(os.geteuid())
        self.host_uid = os.geteuid() if not self.is_rootless else NOBODY if outside is None else outside

    def is_users(self) -> bool:
        """Return whether this is a rootless engine, not a rootful one in a system container's user namespace."""
        return self.is_rootless and self.host_uid not in (0, NOBODY)


def runtime_directory(uid: int) -> str:
    """Return the runtime directory of `uid`, an id of the initial user namespace; a reboot empties it.

    A user without a login session, as in batch jobs, has none.
    """
    return f"/run/user/{uid}" if uid else "/run"


def state_directory(uid: int) -> str:
    """Return the hook's directory in the `runtime_directory` of an engine with `uid`: a reboot empties it."""
    return f"{runtime_directory(uid)}/{_NAME}"


def temporary_directory(uid: int) -> str:
    """Return the directory that replaces the `state_directory` for a user without a login session."""
    return f"/tmp/{_NAME}-{uid}"


def login_uid() -> int:
    """Return the uid of the login that started the engine; NO_LOGIN if there was none. Format: proc_pid_loginuid(5)."""
    try:
        return int(read_file("/proc/self/loginuid"))
    except OSError:
        return NO_LOGIN  # a kernel without CONFIG_AUDIT


def prefer_own_user(container: Container, process: int) -> None:
    """Let sessions run as the user of a rootless engine if the container's process is root with a subordinate uid.

    It is so with `podman run --userns=keep-id --user=root`, which distrobox calls: users work under their own uid, and
    root only sets the container up. This gives nobody a new right: root in the container can become that user.

    `process` is the open directory in /proc of a process in the container's user namespace.
    """
    uid = read_map("uid_map", process).inside(os.geteuid())
    gid = read_map("gid_map", process).inside(os.getegid())
    if container.uid == 0 and uid and gid is not None and _TO_BECOME_ANY_USER.issubset(container.permitted):
        container.change_user(uid, gid)


def outside_user(container: Container, process: int, has_user_namespace: bool) -> Identity:
    """Return the container's user with ids of the hook's user namespace. Raises HookError if they are not mapped.

    `process` is the open directory in /proc of a process in the container's user namespace, if it has one of its own.
    """
    if not has_user_namespace:
        return Identity(container.uid, container.gid)
    return Identity(_map_id(process, "uid_map", container.uid), _map_id(process, "gid_map", container.gid))


def _map_id(process: int, kind: str, inside: int) -> int:
    outside = read_map(kind, process).outside(inside)
    if outside is None:
        raise HookError(
            CONTAINER_UNFIT,
            f"the container's process has the id {inside}, which its user namespace does not map ({kind})",
        )
    return outside


def read_map(path: str, directory: int | None = None) -> IdMap:
    """Read a uid_map or gid_map; `path` is relative to the open `directory` in /proc if given. Raises HookError."""
    try:
        return IdMap(read_file(path, directory).decode())
    except OSError as error:
        raise HookError(SYSTEM, f"cannot read {path}: {error.strerror}") from None
