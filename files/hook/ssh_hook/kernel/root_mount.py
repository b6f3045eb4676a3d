# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount that an OCI runtime makes for a container's root directory, before it makes that the root.

The runtime binds the directory on itself in the container's mount namespace, which it has cloned from its own. So the
mount is there and not in the runtime's namespace, unlike its parent. Users can rename mount points, and what lies above
them, from outside of the namespace: a name tells nothing. Nobody without rights over the namespace changes a mount's
device, its parent, or the order in which mounts were made, which is that of the table.
"""

from __future__ import annotations

import errno

from ..errors import HookError
from .files import is_same
from .lean import TYPE_CHECKING, closing, os, read_file
from .mounts import mount_id
from .rootfs import open_in_root

if TYPE_CHECKING:
    from .process import Process

_PATH_FIELD, _ROOT_FIELD = 4, 3


class _Table:
    """A mountinfo (proc_pid_mountinfo(5)), parsed as far as ids, parents and devices."""

    def __init__(self, data: bytes) -> None:
        self._lines = [line.split(b" ", 5) for line in data.split(b"\n")[:-1]]
        self._by_id = {line[0]: line for line in self._lines}

    def __contains__(self, mount: bytes) -> bool:
        return mount in self._by_id

    def parent(self, mount: bytes) -> bytes:
        return self._by_id[mount][1]

    def ancestors(self, mount: bytes) -> list[bytes]:
        """Return the mount's parent, the parent's parent, and so on."""
        found: list[bytes] = []
        while (mount := self.parent(mount)) in self:
            found.append(mount)
        return found

    def is_bind_of_parent(self, mount: bytes) -> bool:
        """Tell whether a mount shows the file system that it is mounted on."""
        parent = self.parent(mount)
        return parent in self and self._by_id[parent][2] == self._by_id[mount][2]

    def alike(self, devices: list[bytes]) -> list[bytes]:
        """Return the mounts that have these devices, their own and those of their ancestors, in order of creation."""
        own = (line[0] for line in self._lines if line[2] == devices[0])
        return [mount for mount in own if self.devices(mount) == devices]

    def devices(self, mount: bytes) -> list[bytes]:
        """Return the mount's device, its parent's, and so on."""
        return [self._by_id[known][2] for known in (mount, *self.ancestors(mount))]

    def is_new(self, mount: bytes, outer: _Table) -> bool:
        """Tell whether the mount was made after the namespace was cloned from that of the table `outer`.

        A clone has the same devices under the same devices. So of mounts with equal ones the newest is the namespace's
        own if it has more of these.
        """
        devices = self.devices(mount)
        alike = self.alike(devices)
        return alike[-1] == mount and len(alike) > len(outer.alike(devices))

    def is_newest_bind(self, mount: bytes) -> bool:
        """Tell whether a mount is bound on its own directory, and no bind outside of it is newer."""
        later = self._lines[self._lines.index(self._by_id[mount]) + 1 :]
        binds = (line[0] for line in later if self.is_bind_of_parent(line[0]))
        return self._is_on_itself(mount) and all(mount in self.ancestors(other) for other in binds)

    def _is_on_itself(self, mount: bytes) -> bool:
        own, parent = self._by_id[mount], self._by_id[self.parent(mount)]
        below = b"/" + own[_PATH_FIELD][len(parent[_PATH_FIELD]) :].lstrip(b"/")
        return own[_ROOT_FIELD].rstrip(b"/") == parent[_ROOT_FIELD].rstrip(b"/") + below.rstrip(b"/")


class RootMount:
    """A container's root directory.

    Attributes:
        descriptor: the open directory.
        mount: the id of the mount that the runtime has yet to make the root; empty where it has done so.
        above: the id of the mount on which the node's root directory is mounted in the container's namespace. When the
            runtime has pivoted, it is the parent of the container's.
    """

    def __init__(self, descriptor: int, mount: bytes = b"", above: bytes = b"") -> None:
        self.descriptor = descriptor
        self.mount = mount
        self.above = above


class Outside:
    """The mount namespace from which that of a container was cloned.

    Attributes:
        root: the status of its root directory.
        mountinfo: its mounts.
    """

    def __init__(self, process: Process | None = None) -> None:
        """Read what `process` sees, else what the caller sees. Raises OSError."""
        directory = None if process is None else process.directory
        self.root = os.stat("/") if directory is None else os.stat("root", dir_fd=directory)
        self.mountinfo = read_file("/proc/self/mountinfo" if directory is None else "mountinfo", directory)


def open_root_mount(path: str, process: int, outside: Outside | None) -> RootMount:
    """Open the root directory `path` of the container in whose mount namespace `process` is.

    `process` is an open directory in /proc. `outside` is None where it cannot be known; then the mounts' names have to
    do. Raises HookError where the path does not lead to the mount that the runtime has made.
    """
    with closing(os.open("root", os.O_PATH | os.O_DIRECTORY, dir_fd=process)) as top:
        if outside is not None and not is_same(os.fstat(top), outside.root):
            return RootMount(os.dup(top))  # the runtime has pivoted
        descriptor = _open(path, top)
        is_hosts = is_same(os.fstat(top), os.fstat(descriptor))
    try:
        if is_hosts:
            raise HookError(f"the container's root directory {path} is the host's own")
        table = _Table(read_file("mountinfo", process))
        mount = mount_id(descriptor)
        ancestors = table.ancestors(mount) if mount in table else []
        if not (ancestors and _is_root_of_mount(descriptor, ancestors) and _is_made(mount, table, outside)):
            raise HookError(
                f"the container's root directory {path} is not where its OCI runtime has mounted it: somebody has "
                "renamed a directory above it meanwhile; keep it where only its user and root can do so"
            )
    except HookError:
        os.close(descriptor)
        raise
    return RootMount(descriptor, mount, table.parent(ancestors[-1]))


def _open(path: str, top: int) -> int:
    try:
        return open_in_root(top, path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        reason = "a link of procfs leads there" if error.errno == errno.ELOOP else error.strerror
        raise HookError(f"cannot open the container's root directory {path}: {reason}") from None


def _is_root_of_mount(directory: int, ancestors: list[bytes]) -> bool:
    """Tell whether a directory is its mount's root, and none below: then `..` is on a mount above it."""
    with closing(os.open("..", os.O_PATH | os.O_DIRECTORY, dir_fd=directory)) as parent:
        return mount_id(parent) in ancestors


def _is_made(mount: bytes, table: _Table, outside: Outside | None) -> bool:
    """Tell whether the runtime has bound this mount, and not its parent, which then is inherited."""
    if not table.is_bind_of_parent(mount):
        return False
    if outside is None:
        return table.is_newest_bind(mount)
    outer = _Table(outside.mountinfo)
    return table.is_new(mount, outer) and not table.is_new(table.parent(mount), outer)
