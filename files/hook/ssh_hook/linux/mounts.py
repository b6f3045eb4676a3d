# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts by descriptor: the path ``/proc/self/fd/N`` is the object that was checked, even if it was moved.

That works on every kernel, and needs one system call instead of four with fsopen(2).
"""

from __future__ import annotations

from ..errors import MOUNT_REFUSED, SYSTEM, HookError
from ..fast_stdlib import fsencode, os, read_file
from . import syscalls
from .identity import ActingAs, Identity

SOURCE = b"ocihooks-ssh"  # the source of the hook's file systems in mountinfo
_LOCKED_FLAGS = {  # a remount must repeat these: a user namespace may not clear them on an inherited mount
    os.ST_NOSUID: syscalls.MS_NOSUID,
    os.ST_NODEV: syscalls.MS_NODEV,
    os.ST_NOEXEC: syscalls.MS_NOEXEC,
    os.ST_NOATIME: syscalls.MS_NOATIME,
    os.ST_NODIRATIME: syscalls.MS_NODIRATIME,
    os.ST_RELATIME: syscalls.MS_RELATIME,
}


class MountTable:
    """A snapshot of the mounts in a mount namespace (proc_pid_mountinfo(5))."""

    def __init__(self, data: bytes | None = None) -> None:
        """Parse `data`, the content of a mountinfo; None for the caller's own."""
        data = read_file("/proc/self/mountinfo") if data is None else data
        # In most containers no mount is shared: then none of about a hundred lines has to be parsed.
        self._private = _private_mounts(data) if b" shared:" in data else None

    def refuse_shared(self, target: int, path: str) -> None:
        """Raise HookError if the descriptor `target` is on a shared mount: a mount there would propagate."""
        if self._private is not None and mount_id(target) not in self._private:
            raise HookError(
                MOUNT_REFUSED,
                f"{path} in the container is on a shared mount, so mounts there would appear on the host: mount that "
                "volume private or slave",
            )


def _private_mounts(data: bytes) -> set[bytes]:
    """Return the ids of the mounts in a mountinfo file that are not shared."""
    lines = data.split(b"\n")[:-1]  # splitlines() would split at other characters that a mount point may contain
    fields = [line.partition(b" - ")[0].split(b" ") for line in lines]
    return {line[0] for line in fields if not any(field.startswith(b"shared:") for field in line[6:])}


def unescape(field: str) -> str:
    """Decode a field of mountinfo, in which the kernel escapes blank, tab, newline and backslash as ``\\ooo``."""
    start, *rest = field.split("\\")
    return start + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def mount_id(descriptor: int, proc: int | None = None) -> bytes:
    """Return the mount id, as in mountinfo, of the mount that `descriptor` is on, from /proc or the open `proc`.

    Raises OSError and HookError.

    Before Linux 5.14 a process that is not dumpable may not read its fdinfo, unless it is root in its user namespace.
    """
    try:
        directory = "/proc/self" if proc is None else "self"
        return read_file(f"{directory}/fdinfo/{descriptor}", proc).partition(b"mnt_id:")[2].split(None, 1)[0]
    except PermissionError:
        number = syscalls.mount_id(descriptor)
        if number is None:
            raise HookError(
                SYSTEM,
                "SSH in this container needs Linux 5.8 on the node; an older kernel needs enroot start --root",
            ) from None
        return b"%d" % number


def reachable_mounts(proc: int | None = None) -> set[bytes]:
    """Return the ids of all mounts that the caller can reach from its root directory, from /proc or the open `proc`.

    Raises OSError.
    """
    path = "/proc/self/mountinfo" if proc is None else "self/mountinfo"
    return {line.split(b" ", 1)[0] for line in read_file(path, proc).split(b"\n")[:-1]}


def mount_tmpfs(target: int, size: int, inodes: int, context: str) -> None:
    """Mount a tmpfs, mode 0755, of at most `size` bytes and `inodes` inodes on the directory `target`.

    `context` is its SELinux label, empty for none. Raises OSError, as all functions here.
    """
    data = f"mode=0755,size={size},nr_inodes={inodes}" + (f',context="{context}"' if context else "")
    syscalls.mount(SOURCE, _path(target), b"tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, fsencode(data))


def mount_users_tmpfs(target: int, size: int, inodes: int, uid: int) -> None:
    """Mount a tmpfs for only the user `uid` on the directory `target`, limited as in `mount_tmpfs`."""
    data = f"mode=0700,uid={uid},gid=0,size={size},nr_inodes={inodes}"
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount(SOURCE, _path(target), b"tmpfs", flags, data.encode())


def mount_bind(source: int, target: int) -> None:
    """Bind mount the file or directory `source` on `target`."""
    syscalls.mount(_path(source), _path(target), b"", syscalls.MS_BIND)


def clone_tree(mounted: int) -> int:
    """Return a copy of the mount whose root is open as `mounted`, with all mounts below it, as `clone_mount` does."""
    flags = syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE | syscalls.AT_EMPTY_PATH
    return syscalls.open_tree(mounted, b"", flags)


def clone_mount(path: str) -> int:
    """Return a mount of the directory `path` that is not in a namespace yet: syscalls.move_mount may put it into any.

    It does not include mounts below `path`. Since Linux 5.2.
    """
    return syscalls.open_tree(syscalls.AT_FDCWD, fsencode(path), syscalls.OPEN_TREE_CLONE)


def make_read_only(mounted: int, flags: int = 0) -> None:
    """Remount the bind mount whose root is open as `mounted` read-only, with `flags` (MS_NOSUID and the like) too."""
    flags |= syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
    syscalls.mount(b"", _path(mounted), b"", flags | _locked_flags(mounted))


def unmount(mounted: int) -> None:
    """Detach the mount whose root is open as `mounted`, with all that is mounted below it."""
    syscalls.umount(_path(mounted), syscalls.MNT_DETACH)


def change_root(directory: int) -> None:
    """Make an open directory the root and current directory. Raises OSError."""
    os.fchdir(directory)
    os.chroot(".")
    os.chdir("/")


def make_private(mounted: int, flags: int = 0) -> None:
    """Make the mount private, with MS_REC in `flags` also all mounts below it.

    A bind mount of a shared mount is shared too, and would propagate mounts below it.
    """
    syscalls.mount(b"", _path(mounted), b"", syscalls.MS_PRIVATE | flags)


def mount_overlay(lower: int, upper: int, work: int, target: int, user: Identity, in_user_namespace: bool) -> None:
    """Mount an overlay on the directory `target`.

    The kernel accesses the layers with the mounter's credentials. These are the user's ids, so that a home on NFS with
    root_squash works, and all capabilities, which mount(2) requires.
    """
    data = f"lowerdir=/proc/self/fd/{lower},upperdir=/proc/self/fd/{upper},workdir=/proc/self/fd/{work}"
    if in_user_namespace:
        data += ",userxattr"
    with ActingAs(user, privileged=True):
        syscalls.mount(SOURCE, _path(target), b"overlay", syscalls.MS_NOSUID | syscalls.MS_NODEV, data.encode())


def mount_layers(layers: list[int], target: int) -> None:
    """Mount a read-only overlay of the directories `layers`, the upper one first, on the directory `target`."""
    data = "lowerdir=" + ":".join(f"/proc/self/fd/{layer}" for layer in layers) + ",userxattr"
    flags = syscalls.MS_RDONLY | _locked_flags(layers[-1])
    syscalls.mount(SOURCE, _path(target), b"overlay", flags, data.encode())


def _locked_flags(descriptor: int) -> int:
    present = os.fstatvfs(descriptor).f_flag
    return sum(flag for status, flag in _LOCKED_FLAGS.items() if present & status)


def _path(descriptor: int) -> bytes:
    return b"/proc/self/fd/%d" % descriptor
