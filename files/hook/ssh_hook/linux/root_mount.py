# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount that an OCI runtime makes for a container's root directory, before it makes that the root.

The runtime binds the directory on itself in the container's mount namespace, which it has cloned from its own. So the
mount is there and not in the runtime's namespace, unlike its parent. Users can rename mount points, and what lies above
them, from outside of the namespace: a name tells nothing but whether a mount is on its own directory. Nobody without
rights over the namespace changes a mount's device, its parent, or the order in which mounts were made, which is that of
the table.
"""

from __future__ import annotations

import errno

from ..errors import ROOT_NOT_A_MOUNT, HookError
from .fast_stdlib import TYPE_CHECKING, closing, os, read_file
from .files import is_same
from .mounts import mount_id
from .rootfs import open_in_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .process import Process

_NO_MOUNT = b"4294967295"  # ids are below 2**31
_ID, _PARENT, _DEVICE, _ROOT, _PATH, _REST = range(6)  # fields of a line


class _Table:
    """A mountinfo (proc_pid_mountinfo(5)). Only the lines that are asked for are parsed, of perhaps a thousand."""

    def __init__(self, data: bytes) -> None:
        self._data = b"\n" + data
        self._known: dict[bytes, list[bytes] | None] = {}

    def __contains__(self, mount: bytes) -> bool:
        return self._find(mount) is not None

    def _find(self, mount: bytes) -> list[bytes] | None:
        """Return the fields of a mount's line; None where there is no such mount."""
        if mount not in self._known:
            start = self._data.find(b"\n%s " % mount)
            self._known[mount] = None if start < 0 else self._fields(start + 1)
        return self._known[mount]

    def _fields(self, start: int) -> list[bytes]:
        return self._data[start : self._data.index(b"\n", start)].split(b" ", _REST)

    def line(self, mount: bytes) -> list[bytes]:
        """Return the fields of the line of a mount that is in the table."""
        fields = self._find(mount)
        assert fields is not None
        return fields

    def parent(self, mount: bytes) -> bytes:
        """Return the id of the mount's parent, which may not be in the table."""
        return self.line(mount)[_PARENT]

    def ancestors(self, mount: bytes) -> list[bytes]:
        """Return the mount's parent, the parent's parent, and so on.

        A namespace's first mount is its own parent. It is seen on nodes that run from their initramfs.
        """
        found: list[bytes] = []
        while (parent := self.parent(mount)) in self and parent != mount:
            found.append(parent)
            mount = parent
        return found

    def is_bind_of_parent(self, mount: bytes) -> bool:
        """Tell whether a mount shows the file system that it is mounted on."""
        parent = self.parent(mount)
        return parent in self and self.line(parent)[_DEVICE] == self.line(mount)[_DEVICE]

    def devices(self, mount: bytes) -> list[bytes]:
        """Return the mount's device, its parent's, and so on."""
        return [self.line(known)[_DEVICE] for known in (mount, *self.ancestors(mount))]

    def is_private(self, mount: bytes) -> bool:
        """Tell whether mounts of other namespaces do not reach this one, and it is no copy that has come from there."""
        return b" " not in self.line(mount)[_REST].partition(b" - ")[0]  # options alone, and no tags

    def _has_proc(self, mount: bytes) -> bool:
        """Tell whether a proc file system is mounted on the directory proc of a mount."""
        path = self.line(mount)[_PATH].rstrip(b"/") + b"/proc"
        word = b" %s " % path
        lines = (line.split(b" ", _REST) for line in self._data.split(b"\n") if word in line)
        return any(
            fields[_PARENT] == mount and fields[_PATH] == path and b" - proc " in fields[_REST] for fields in lines
        )

    def is_own(self, mount: bytes, outer: _Table) -> bool:
        """Tell whether the namespace has made a mount for a root, after it was cloned from that of the table `outer`.

        It is private, bound on its own directory, and no such bind is newer but those on it. What comes from another
        namespace meanwhile is never private. The copy of a bind in `outer` shows the same directory below the same
        devices.
        """
        return self.is_private(mount) and self.is_newest_bind(mount) and not outer.has_bind(self, mount)

    def has_bind(self, other: _Table, mount: bytes) -> bool:
        """Tell whether the directory that a mount of the table `other` shows is bound on itself here too."""
        return any(self.is_on_itself(known) for known in self._counterparts(other, mount))

    def has_copied(self, other: _Table, mount: bytes) -> bool:
        """Tell whether a mount of the table `other` is here too, at the same place."""
        path = other.line(mount)[_PATH]
        return any(self.line(known)[_PATH] == path for known in self._counterparts(other, mount))

    def _counterparts(self, other: _Table, mount: bytes) -> Iterator[bytes]:
        """Yield the mounts here that show the same directory as a mount of the table `other`, below such devices."""
        devices, root = other.devices(mount), other.line(mount)[_ROOT]
        word = b" %s %s " % (devices[0], root)
        place = self._data.find(word)
        while place >= 0:
            fields = self._fields(self._data.rindex(b"\n", 0, place) + 1)
            known = fields[_ID]
            if fields[_DEVICE] == devices[0] and fields[_ROOT] == root and self.devices(known) == devices:
                yield known
            place = self._data.find(word, self._data.index(b"\n", place))

    def is_newest_bind(self, mount: bytes) -> bool:
        """Tell whether a mount is bound on its own directory, and no bind outside of it is newer.

        Where it is private, only private ones count. Else those count on which there is a proc, as on enroot's root
        when it calls hooks. Others come from the node meanwhile, as when root's podman binds its store on itself.
        """
        if not self.is_on_itself(mount):
            return False
        is_private = self.is_private(mount)
        later = self._data[self._data.index(b"\n", self._data.index(b"\n%s " % mount) + 1) + 1 :].split(b"\n")[:-1]
        for known in (line.split(b" ", 1)[0] for line in later):
            is_alike = self.is_private(known) or (not is_private and self._has_proc(known))
            is_counted = self.is_bind_of_parent(known) and is_alike
            if is_counted and mount not in self.ancestors(known):
                return False
        return True

    def is_on_itself(self, mount: bytes) -> bool:
        """Tell whether a mount shows the very directory that it is mounted on."""
        if not self.is_bind_of_parent(mount):
            return False
        own, parent = self.line(mount), self.line(self.parent(mount))
        below = b"/" + own[_PATH][len(parent[_PATH]) :].lstrip(b"/")
        return own[_ROOT].rstrip(b"/") == parent[_ROOT].rstrip(b"/") + below.rstrip(b"/")


class RootMount:
    """A container's root directory.

    Attributes:
        descriptor: the open directory.
        mount: the id of the mount that the runtime has yet to make the root; empty where it has done so.
        above: the id of the mount on which the node's root directory is mounted in the container's namespace. When the
            runtime has pivoted, it is the parent of the container's. That of no mount where nothing can be pivoted.
        mountinfo: the mounts in the container's namespace; None where they were not read.
    """

    def __init__(self, descriptor: int, mount: bytes = b"", above: bytes = b"", mountinfo: bytes | None = None) -> None:
        self.descriptor = descriptor
        self.mount = mount
        self.above = above
        self.mountinfo = mountinfo


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
            raise HookError(ROOT_NOT_A_MOUNT, f"the container's root directory {path} is the host's own")
        mountinfo = read_file("mountinfo", process)
        if not mountinfo:
            raise HookError(
                ROOT_NOT_A_MOUNT,
                "the container's first process cannot reach any mount: its root directory was unmounted",
            )
        table = _Table(mountinfo)
        mount = mount_id(descriptor)
        ancestors = table.ancestors(mount) if mount in table else []
        if not (ancestors and _is_root_of_mount(descriptor, ancestors) and _is_made(mount, table, outside)):
            is_private = mount not in table or table.is_private(mount)
            raise HookError(
                ROOT_NOT_A_MOUNT,
                f"the container's root directory {path} is no longer where its OCI runtime mounted it: a directory "
                "above it was renamed; keep it where only its user and root can rename directories"
                + ("" if is_private else " (or this runtime does not make its mount private, as crun and runc do)"),
            )
    except HookError:
        os.close(descriptor)
        raise
    node = ancestors[-1]
    above = table.parent(node)
    return RootMount(descriptor, mount, _NO_MOUNT if above == node else above, mountinfo)


def _open(path: str, top: int) -> int:
    try:
        return open_in_root(top, path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        reason = "a link of procfs leads there" if error.errno == errno.ELOOP else error.strerror
        raise HookError(ROOT_NOT_A_MOUNT, f"cannot open the container's root directory {path}: {reason}") from None


def _is_root_of_mount(directory: int, ancestors: list[bytes]) -> bool:
    """Tell whether a directory is its mount's root, and none below: then `..` is on a mount above it."""
    with closing(os.open("..", os.O_PATH | os.O_DIRECTORY, dir_fd=directory)) as parent:
        return mount_id(parent) in ancestors


def _is_made(mount: bytes, table: _Table, outside: Outside | None) -> bool:
    """Tell whether the runtime has bound this mount, and none above it: a volume may be bound on itself as well.

    All that is above the root is a copy of what is outside. Only binds are looked at: the root is one itself.
    """
    if outside is None:
        return table.is_newest_bind(mount)
    outer = _Table(outside.mountinfo)
    above = [known for known in table.ancestors(mount) if table.is_bind_of_parent(known)]
    return table.is_own(mount, outer) and all(outer.has_copied(table, known) for known in above)
