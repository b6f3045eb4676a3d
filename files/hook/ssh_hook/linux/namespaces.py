# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespaces of the container's first process."""

from __future__ import annotations

from ..errors import SYSTEM, ContainerEndedError, HookError
from ..fast_stdlib import os
from . import syscalls
from .files import is_same

_KINDS = {
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "net": syscalls.CLONE_NEWNET,
    "pid": syscalls.CLONE_NEWPID,
    "mnt": syscalls.CLONE_NEWNS,
    "user": syscalls.CLONE_NEWUSER,
    "time": syscalls.CLONE_NEWTIME,
}


class Namespaces:
    """Open descriptors of the namespaces of a process that differ from the hook's own."""

    def __init__(self, process: int | None) -> None:
        """Open them; `process` is an open directory in /proc, or None for the hook itself.

        Raises OSError, and HookError if it has exited.
        """
        self._descriptors: dict[str, int] = {}
        for name in _KINDS if process is not None else ():
            try:
                theirs = os.stat(f"ns/{name}", dir_fd=process)
            except (FileNotFoundError, ProcessLookupError):
                if name != "time":  # since Linux 5.6
                    raise ContainerEndedError() from None
                continue
            ours = os.stat(f"/proc/self/ns/{name}")
            if not is_same(theirs, ours):
                try:
                    self._descriptors[name] = os.open(f"ns/{name}", os.O_RDONLY, dir_fd=process)
                except (FileNotFoundError, ProcessLookupError):
                    raise ContainerEndedError() from None

    def has(self, name: str) -> bool:
        """Return whether the process's namespace `name` (as in /proc/PID/ns) differs from the hook's."""
        return name in self._descriptors

    def close(self) -> None:
        """Close the descriptors: an open one keeps its namespace alive."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def take(self, name: str) -> int | None:
        """Remove and return the descriptor of `name`, for the caller to join; None if it does not differ."""
        return self._descriptors.pop(name, None)

    def join_all_but_mount_and_user(self) -> None:
        """Join the other namespaces. The caller still sees the host's files and has the host's credentials."""
        self.join("cgroup", "ipc", "uts", "net")

    def join(self, *names: str) -> None:
        """Join those of `names` that differ, in this order; "pid" takes effect for children only. Raises HookError.

        "user" must come last: joining it loses the rights over namespaces that the engine's user namespace owns.
        """
        for name in names:
            if name in self._descriptors:
                try:
                    syscalls.setns(self._descriptors[name], _KINDS[name])
                except OSError as error:
                    raise HookError(SYSTEM, f"cannot join the container's {name} namespace: {error.strerror}") from None


def is_in_hosts_network() -> bool:
    """Return whether the caller is in the network namespace of the node's pid 1; True if that cannot be seen."""
    try:
        return is_same(os.stat("/proc/self/ns/net"), os.stat("/proc/1/ns/net"))
    except (PermissionError, FileNotFoundError):  # the latter with hidepid
        return True  # a rootless engine; a missing address is then an error
