# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts on descriptors: ``/proc/self/fd/N`` as the path means just the object that was checked, whatever its name
leads to by now. That works on every kernel, and takes one system call where fsopen(2) takes four.
"""

from __future__ import annotations

from ..errors import HookError
from . import syscalls
from .identity import ActingAs, Identity
from .lean import fsencode, os, read_file

_LOCKED = {  # what a user namespace may not take off a mount that it inherited, and so has to repeat
    os.ST_NOSUID: syscalls.MS_NOSUID,
    os.ST_NODEV: syscalls.MS_NODEV,
    os.ST_NOEXEC: syscalls.MS_NOEXEC,
    os.ST_NOATIME: syscalls.MS_NOATIME,
    os.ST_NODIRATIME: syscalls.MS_NODIRATIME,
    os.ST_RELATIME: syscalls.MS_RELATIME,
}


class MountTable:
    """/proc/self/mountinfo (proc_pid_mountinfo(5)) as it was when the object was made."""

    def __init__(self) -> None:
        data = read_file("/proc/self/mountinfo")
        # On most nodes nothing in a container is shared, which is known without a look at each of a hundred mounts.
        self._private = _private_mounts(data) if b" shared:" in data else None

    def refuse_shared(self, target: int, path: str) -> None:
        """Raises HookError where something mounted on the descriptor `target` would appear elsewhere too."""
        if self._private is not None and mount_id(target) not in self._private:
            raise HookError(
                f"{path} in the container lies on a shared mount, so that what is mounted there would appear on the "
                "host: mount that volume private or slave"
            )


def _private_mounts(data: bytes) -> set[bytes]:
    """The numbers of the mounts of a mountinfo that are not shared."""
    lines = data.split(b"\n")[:-1]  # mount points may hold what else Python takes for a line's end
    fields = [line.partition(b" - ")[0].split(b" ") for line in lines]
    return {line[0] for line in fields if not any(field.startswith(b"shared:") for field in line[6:])}


def unescape(field: str) -> str:
    """A field of mountinfo as it was before the kernel wrote blank, tab, newline and backslash as "\\" and octal digits."""
    start, *rest = field.split("\\")
    return start + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def mount_id(descriptor: int) -> bytes:
    """The number, as in mountinfo, of the mount that `descriptor` lies on."""
    return read_file(f"/proc/self/fdinfo/{descriptor}").partition(b"mnt_id:")[2].split(None, 1)[0]


def mount_tmpfs(target: int, size: int, inodes: int, context: str) -> None:
    """Mount a tmpfs of at most `size` bytes and so many `inodes`, mode 0755, on the directory `target`; `context` is its SELinux
    label, empty where it has none.
    """
    data = f"mode=0755,size={size},nr_inodes={inodes}" + _context(context)
    syscalls.mount(b"ocihooks-ssh", _path(target), b"tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, fsencode(data))


def mount_bind(source: int, target: int) -> None:
    """Mount the file or directory `source` on `target`."""
    syscalls.mount(_path(source), _path(target), b"", syscalls.MS_BIND)


def make_read_only(mounted: int, flags: int = 0) -> None:
    """Make the bind mount whose root is open as `mounted` read-only, with more `flags` (MS_NOSUID and the like)."""
    flags |= syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
    present = os.fstatvfs(mounted).f_flag
    for status, flag in _LOCKED.items():
        if present & status:
            flags |= flag
    syscalls.mount(b"", _path(mounted), b"", flags)


def make_private(mounted: int) -> None:
    """Let nothing that is mounted below `mounted` appear elsewhere, as it would in the copy of a shared mount."""
    syscalls.mount(b"", _path(mounted), b"", syscalls.MS_PRIVATE)


def mount_overlay(lower: int, upper: int, work: int, target: int, user: Identity, in_user_namespace: bool) -> None:
    """Mount an overlay on the directory `target`.

    The kernel reaches into the layers with the credentials of the mounter: the user's ids, so that a home that squashes
    root is served, and capabilities, which mounting takes.
    """
    data = f"lowerdir=/proc/self/fd/{lower},upperdir=/proc/self/fd/{upper},workdir=/proc/self/fd/{work}"
    if in_user_namespace:
        data += ",userxattr"
    with ActingAs(user, privileged=True):
        syscalls.mount(
            b"ocihooks-ssh", _path(target), b"overlay", syscalls.MS_NOSUID | syscalls.MS_NODEV, data.encode()
        )


def _context(label: str) -> str:
    return f',context="{label}"' if label else ""


def _path(descriptor: int) -> bytes:
    return b"/proc/self/fd/%d" % descriptor
