# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount that an OCI runtime makes for a container's root directory, before it pivots to it.

The runtime bind mounts the directory on itself in the container's mount namespace, a clone of its own. So that mount
exists only there, while its parent also exists in the runtime's namespace. Users can rename mount points and
directories above them from outside the namespace: so a path only shows whether a mount is on its own directory. But
only a process with rights over the namespace can change a mount's device, its parent, or the order of mounts in the
table.
"""

from __future__ import annotations

import errno

from ..errors import ROOT_NOT_A_MOUNT, HookError
from ..fast_stdlib import TYPE_CHECKING, closing, os, read_file
from .files import is_same
from .mounts import mount_id
from .rootfs import open_in_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .process import Process

_NO_MOUNT = b"4294967295"  # ids are below 2**31
_ID, _PARENT, _DEVICE, _ROOT, _PATH, _REST = range(6)  # fields of a line


class _Table:
    """A mountinfo (proc_pid_mountinfo(5)). It may have a thousand lines, and only needed ones are parsed."""

    def __init__(self, data: bytes) -> None:
        self._data = b"\n" + data
        self._known: dict[bytes, list[bytes] | None] = {}

    def __contains__(self, mount: bytes) -> bool:
        return self._find(mount) is not None

    def _find(self, mount: bytes) -> list[bytes] | None:
        """Return the fields of a mount's line; None if there is no such mount."""
        if mount not in self._known:
            start = self._data.find(b"\n%s " % mount)
            self._known[mount] = None if start < 0 else self._fields(start + 1)
        return self._known[mount]

    def _fields(self, start: int) -> list[bytes]:
        return self._data[start : self._data.index(b"\n", start)].split(b" ", _REST)

    def line(self, mount: bytes) -> list[bytes]:
        """Return the fields of the line of a mount in the table."""
        fields = self._find(mount)
        assert fields is not None
        return fields

    def parent(self, mount: bytes) -> bytes:
        """Return the id of the mount's parent, which may not be in the table."""
        return self.line(mount)[_PARENT]

    def ancestors(self, mount: bytes) -> list[bytes]:
        """Return the mount's parent, the parent's parent, and so on.

        A namespace's first mount is its own parent. It is visible on nodes that run from their initramfs.
        """
        found: list[bytes] = []
        while (parent := self.parent(mount)) in self and parent != mount:
            found.append(parent)
            mount = parent
        return found

    def is_bind_of_parent(self, mount: bytes) -> bool:
        """Return whether a mount shows the file system that it is mounted on."""
        parent = self.parent(mount)
        return parent in self and self.line(parent)[_DEVICE] == self.line(mount)[_DEVICE]

    def devices(self, mount: bytes) -> list[bytes]:
        """Return the mount's device, its parent's, and so on."""
        return [self.line(known)[_DEVICE] for known in (mount, *self.ancestors(mount))]

    def is_private(self, mount: bytes) -> bool:
        """Return whether the mount is private: no mounts propagate to it, and it was not propagated itself."""
        return b" " not in self.line(mount)[_REST].partition(b" - ")[0]  # only options, no tags

    def _has_proc(self, mount: bytes) -> bool:
        """Return whether a proc file system is mounted on the directory proc of a mount."""
        path = self.line(mount)[_PATH].rstrip(b"/") + b"/proc"
        word = b" %s " % path
        lines = (line.split(b" ", _REST) for line in self._data.split(b"\n") if word in line)
        return any(
            fields[_PARENT] == mount and fields[_PATH] == path and b" - proc " in fields[_REST] for fields in lines
        )

    def is_own(self, mount: bytes, outer: _Table) -> bool:
        """Return whether a mount was made for a root after this namespace was cloned from that of the table `outer`.

        It is private, bound on its own directory, and no such bind is newer except those on it. A mount propagated from
        another namespace is never private. A copy of a bind in `outer` shows the same directory below the same devices.
        """
        return self.is_private(mount) and self.is_newest_bind(mount) and not outer.has_bind(self, mount)

    def has_bind(self, other: _Table, mount: bytes) -> bool:
        """Return whether the directory that a mount of the table `other` shows is bound on itself here too."""
        return any(self.is_on_itself(known) for known in self._counterparts(other, mount))

    def has_copied(self, other: _Table, mount: bytes) -> bool:
        """Return whether a mount of the table `other` is here too, at the same path."""
        path = other.line(mount)[_PATH]
        return any(self.line(known)[_PATH] == path for known in self._counterparts(other, mount))

    def _counterparts(self, other: _Table, mount: bytes) -> Iterator[bytes]:
        """Yield the mounts that show the same directory as a mount of the table `other`, below the same devices."""
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
        """Return whether a mount is bound on its own directory, and no such bind outside it is newer.

        If it is private, only private binds count. Otherwise only those with a proc mount count, like enroot's root
        when it calls hooks. Others may have propagated from the node, for example when root's podman binds its storage
        on itself.
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
        """Return whether a mount shows the directory that it is mounted on."""
        if not self.is_bind_of_parent(mount):
            return False
        own, parent = self.line(mount), self.line(self.parent(mount))
        below = b"/" + own[_PATH][len(parent[_PATH]) :].lstrip(b"/")
        return own[_ROOT].rstrip(b"/") == parent[_ROOT].rstrip(b"/") + below.rstrip(b"/")


class RootMount:
    """A container's root directory.

    Attributes:
        descriptor: the open directory.
        mount: the id of the mount that the runtime will make the root; empty if it has done so.
        above: the id of the mount on which the node's root directory is mounted in the container's namespace. After the
            pivot it is the parent of the container's root mount. An id that no mount has if pivoting is impossible.
        mountinfo: the mounts in the container's namespace; None if they were not read.
    """

    def __init__(self, descriptor: int, mount: bytes = b"", above: bytes = b"", mountinfo: bytes | None = None) -> None:
        self.descriptor = descriptor
        self.mount = mount
        self.above = above
        self.mountinfo = mountinfo


class OuterMounts:
    """The mount namespace from which a container's was cloned.

    Attributes:
        root: the status of its root directory.
        mountinfo: its mounts.
    """

    def __init__(self, process: Process | None = None) -> None:
        """Read the namespace of `process`, or else the caller's. Raises OSError."""
        directory = None if process is None else process.directory
        self.root = os.stat("/") if directory is None else os.stat("root", dir_fd=directory)
        self.mountinfo = read_file("/proc/self/mountinfo" if directory is None else "mountinfo", directory)


def open_root_mount(path: str, process: int, outside: OuterMounts | None) -> RootMount:
    """Open the root directory `path` of the container in whose mount namespace `process` is.

    `process` is an open directory in /proc. `outside` is None if it is unknown; then only the mounts' paths are
    checked. Raises HookError if the path does not lead to the mount that the runtime has made.
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
    """Return whether a directory is its mount's root: then `..` is on a mount above it."""
    with closing(os.open("..", os.O_PATH | os.O_DIRECTORY, dir_fd=directory)) as parent:
        return mount_id(parent) in ancestors


def _is_made(mount: bytes, table: _Table, outside: OuterMounts | None) -> bool:
    """Return whether the runtime has bound this mount, and none above it: a volume may also be bound on itself.

    All mounts above the root are copies of outer ones. Only binds are checked, since the root is one.
    """
    if outside is None:
        return table.is_newest_bind(mount)
    outer = _Table(outside.mountinfo)
    above = [known for known in table.ancestors(mount) if table.is_bind_of_parent(known)]
    return table.is_own(mount, outer) and all(outer.has_copied(table, known) for known in above)
