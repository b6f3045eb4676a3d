# SPDX-License-Identifier: GPL-3.0-or-later
"""The cgroups of the container's first process, versions 1 and 2."""

from __future__ import annotations

import posix

from . import linux
from .errors import CONTAINER_ENDED, HookError
from .mounts import unescape
from .paths import fsdecode


class Cgroups:
    """The cgroups of a process that differ from the hook's own.

    Attributes: directory, a descriptor of the cgroup of version 2, or None; files, descriptors of what takes a caller in:
    the tasks files of version 1.
    """

    def __init__(self, process: int, rootless: bool) -> None:
        """`process` is a descriptor of the process's directory in /proc.

        Raises HookError where a cgroup cannot be opened, unless `rootless`: there the session is no less confined than
        any process that the user starts outside of the container.
        """
        self.directory: int | None = None
        self.files: list[int] = []
        ours = set(_lines("/proc/self/cgroup", None))
        try:
            lines = _lines("cgroup", process)
        except (FileNotFoundError, ProcessLookupError):
            raise HookError(CONTAINER_ENDED) from None
        theirs = [line for line in lines if line not in ours]
        mounts = _cgroup_mounts() if theirs else []
        for line in theirs:
            _number, controllers, path = line.split(":", 2)
            try:
                is_open = self._open(controllers, path, mounts)
            except OSError as error:
                if not rootless:
                    raise HookError(f"cannot open the container's cgroup {path}: {error.strerror}") from None
                continue
            if not is_open and not rootless and _limits(controllers, lines):
                raise HookError(
                    f"cannot join the container's cgroup {path}: its hierarchy ({controllers or 'version 2'}) is not mounted on this node"
                )

    def _open(self, controllers: str, path: str, mounts: list[tuple[str, str, str]]) -> bool:
        """Whether the hierarchy is mounted."""
        for mounted, root, mount_point in mounts:
            if mounted == controllers and (path + "/").startswith(root.rstrip("/") + "/"):
                below = path[len(root.rstrip("/")) :].lstrip("/")
                directory = f"{mount_point}/{below}"
                if controllers:  # cgroup.procs would wait up to 10 ms for a grace period of RCU
                    self.files.append(posix.open(f"{directory}/tasks", posix.O_WRONLY | posix.O_CLOEXEC))
                else:
                    self.directory = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
                return True
        return False

    def fork(self) -> int:
        """Fork a child, which has to `enter` these cgroups while it has one thread; returns as posix.fork() does. Raises
        OSError.
        """
        if self.directory is not None:
            try:
                return linux.clone3_into_cgroup(self.directory)
            except OSError:  # before Linux 5.7, or refused: moving tells why
                flags = posix.O_WRONLY | posix.O_CLOEXEC
                self.files.append(posix.open("cgroup.procs", flags, dir_fd=self.directory))
        return posix.fork()

    def enter(self) -> None:
        """Move the caller into those cgroups in which `fork` did not start it. Raises OSError."""
        for file in self.files:
            posix.write(file, b"0")


def _limits(controllers: str, lines: list[str]) -> bool:
    """Whether a hierarchy can limit anything: a named one cannot, nor version 2 where version 1 has the controllers."""
    if controllers:
        return not controllers.startswith("name=")
    return not any(_limits(line.split(":", 2)[1], []) for line in lines if not line.startswith("0:"))


def _cgroup_mounts() -> list[tuple[str, str, str]]:
    """Mounted hierarchies: controllers as /proc/PID/cgroup names them ("" for version 2), root, mount point."""
    mounts = []
    for line in _lines("/proc/self/mountinfo", None):
        if " - cgroup" not in line:
            continue
        before, _dash, after = line.partition(" - ")
        kind, _source, options = after.split(" ", 2)
        root, mount_point = map(unescape, before.split(" ", 5)[3:5])
        if kind == "cgroup2":
            mounts.append(("", root, mount_point))
        elif kind == "cgroup":
            names = [option for option in options.split(",") if option not in ("rw", "ro", "xattr", "noprefix")]
            mounts.append((",".join(names), root, mount_point))
    return mounts


def _lines(path: str, directory: int | None) -> list[str]:
    """The lines of a file of /proc. Names of users' choice are in them, with what else Python takes for a line's end."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=directory)
    with open(descriptor, "rb") as file:
        return fsdecode(file.read()).split("\n")[:-1]
