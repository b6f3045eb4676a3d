# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespaces of the container's first process."""

from __future__ import annotations

from ..errors import CONTAINER_ENDED, HookError
from . import syscalls
from .files import is_same
from .lean import os

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
    """The namespaces of a process that differ from the hook's own, held open."""

    def __init__(self, process: int) -> None:
        """`process` is a descriptor of the process's directory in /proc. Raises OSError, and HookError where it has ended."""
        self._descriptors: dict[str, int] = {}
        for name in _KINDS:
            try:
                theirs = os.stat(f"ns/{name}", dir_fd=process)
            except FileNotFoundError:
                if name != "time":  # they came with Linux 5.6
                    raise HookError(CONTAINER_ENDED) from None
                continue
            ours = os.stat(f"/proc/self/ns/{name}")
            if not is_same(theirs, ours):
                try:
                    self._descriptors[name] = os.open(f"ns/{name}", os.O_RDONLY, dir_fd=process)
                except (FileNotFoundError, ProcessLookupError):
                    raise HookError(CONTAINER_ENDED) from None

    def has(self, name: str) -> bool:
        """Whether the process has a namespace `name` that is not the hook's."""
        return name in self._descriptors

    def close(self) -> None:
        """Let go of them: who has one open keeps it from ending."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def join_all_but_mount_and_user(self) -> None:
        """Join those after which the host's files are still in sight, and the caller is still the host's."""
        self.join("cgroup", "ipc", "uts", "net")

    def join(self, *names: str) -> None:
        """Join those of `names` that differ; a user namespace last, since its owner has all rights over the others.

        Joining "pid" takes effect for the children of the caller only.
        """
        for name in names:
            if name in self._descriptors:
                try:
                    syscalls.setns(self._descriptors[name], _KINDS[name])
                except OSError as error:
                    raise HookError(f"cannot join the container's {name} namespace: {error.strerror}") from None
