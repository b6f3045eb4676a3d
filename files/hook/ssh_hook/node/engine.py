# SPDX-License-Identifier: GPL-3.0-or-later
"""The container engine that runs the hook, the engine's user, and the hook's directories on the node for that user."""

from __future__ import annotations

from ..fast_stdlib import os, read_file
from ..linux.id_maps import read_map

NOBODY = 2**32 - 1  # not a valid uid
NO_LOGIN = 2**32 - 1  # the loginuid of a process not started by a login
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
