# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespaces of the container's first process."""

from __future__ import annotations

import posix

from . import linux
from .errors import CONTAINER_ENDED, HookError
from .paths import is_same

_KINDS = {
    "cgroup": linux.CLONE_NEWCGROUP,
    "ipc": linux.CLONE_NEWIPC,
    "uts": linux.CLONE_NEWUTS,
    "net": linux.CLONE_NEWNET,
    "pid": linux.CLONE_NEWPID,
    "mnt": linux.CLONE_NEWNS,
    "user": linux.CLONE_NEWUSER,
    "time": linux.CLONE_NEWTIME,
}


class Namespaces:
    """The namespaces of a process that differ from the hook's own, held open."""

    def __init__(self, process: int) -> None:
        """`process` is a descriptor of the process's directory in /proc. Raises OSError, and HookError where it has ended."""
        self._descriptors: dict[str, int] = {}
        for name in _KINDS:
            try:
                theirs = posix.stat(f"ns/{name}", dir_fd=process)
            except FileNotFoundError:
                if name != "time":  # they came with Linux 5.6
                    raise HookError(CONTAINER_ENDED) from None
                continue
            ours = posix.stat(f"/proc/self/ns/{name}")
            if not is_same(theirs, ours):
                try:
                    self._descriptors[name] = posix.open(f"ns/{name}", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=process)
                except (FileNotFoundError, ProcessLookupError):
                    raise HookError(CONTAINER_ENDED) from None

    def has(self, name: str) -> bool:
        """Whether the process has a namespace `name` that is not the hook's."""
        return name in self._descriptors

    def close(self) -> None:
        """Let go of them: who has one open keeps it from ending."""
        for descriptor in self._descriptors.values():
            posix.close(descriptor)

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
                    linux.setns(self._descriptors[name], _KINDS[name])
                except OSError as error:
                    raise HookError(f"cannot join the container's {name} namespace: {error.strerror}") from None
