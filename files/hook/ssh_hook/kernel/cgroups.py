# SPDX-License-Identifier: GPL-3.0-or-later
"""The cgroups of the container's first process, versions 1 and 2."""

from __future__ import annotations

from ..errors import CONTAINER_ENDED, HookError
from . import syscalls
from .lean import fsdecode, os, read_file
from .mounts import unescape


class Cgroups:
    """The cgroups of a process that differ from the hook's own."""

    def __init__(self, process: int, rootless: bool) -> None:
        """`process` is a descriptor of the process's directory in /proc. Raises HookError where it has ended, or a
        cgroup of version 2 cannot be opened.

        `rootless`, a cgroup may be one that cannot be opened: there the session is no less confined than any process that
        the user starts outside of the container.
        """
        ours = set(_lines("/proc/self/cgroup", None))
        try:
            lines = _lines("cgroup", process)
        except (FileNotFoundError, ProcessLookupError):
            raise HookError(CONTAINER_ENDED) from None
        theirs = [line.split(":", 2) for line in lines if line not in ours]
        self._rootless = rootless
        self._all = [line.split(":", 2)[1] for line in lines]
        self._version_1 = [(controllers, path) for _number, controllers, path in theirs if controllers]
        self._mounts: list[tuple[str, str, str]] | None = None
        version_2 = [path for _number, controllers, path in theirs if not controllers]
        self._directories = [self._open("", path, os.O_RDONLY | os.O_DIRECTORY) for path in version_2]
        self._files: list[int] = []

    def fork(self) -> int:
        """Fork a child, which has to `open` and `enter` these cgroups while it has one thread; returns as fork() does.

        Raises OSError.
        """
        for directory in self._directories:
            if directory is not None:
                try:
                    return syscalls.clone3_into_cgroup(directory)
                except OSError:  # before Linux 5.7, or refused: moving tells why
                    flags = os.O_WRONLY
                    self._files.append(os.open("cgroup.procs", flags, dir_fd=directory))
        return syscalls.fork()

    def open(self) -> None:
        """Open those cgroups in which `fork` does not start a child: those of version 1. Raises HookError."""
        for controllers, path in self._version_1:
            tasks = self._open(controllers, f"{path}/tasks", os.O_WRONLY)  # cgroup.procs waits 10 ms, for RCU
            if tasks is not None:
                self._files.append(tasks)

    def enter(self) -> None:
        """Move the caller into those cgroups. Raises OSError."""
        for file in self._files:
            os.write(file, b"0")

    def _open(self, controllers: str, path: str, flags: int) -> int | None:
        """Open `path` in the hierarchy of these controllers; None where that does not matter."""
        if self._mounts is None:
            self._mounts = _cgroup_mounts()
        try:
            for mounted, root, mount_point in self._mounts:
                if mounted == controllers and (path + "/").startswith(root.rstrip("/") + "/"):
                    below = path[len(root.rstrip("/")) :].lstrip("/")
                    return os.open(f"{mount_point}/{below}", flags)
        except OSError as error:
            if self._rootless:
                return None
            raise HookError(f"cannot open the container's cgroup {path}: {error.strerror}") from None
        if not self._rootless and _limits(controllers, self._all):
            hierarchy = controllers or "version 2"
            raise HookError(
                f"cannot join the container's cgroup {path}: its hierarchy ({hierarchy}) is not mounted on this node"
            )
        return None


def _limits(controllers: str, all_controllers: list[str]) -> bool:
    """Whether a hierarchy can limit anything: a named one cannot, nor version 2 where version 1 has the controllers."""
    if controllers:
        return not controllers.startswith("name=")
    return not any(_limits(others, []) for others in all_controllers if others)


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
    return fsdecode(read_file(path, directory)).split("\n")[:-1]
