# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on the hook's tmpfs in the container, and bind mounts of them over the image's files."""

from __future__ import annotations

from ..errors import IMAGE_UNFIT, HookError
from ..fast_stdlib import TYPE_CHECKING, closing, create_file, dirname, fsdecode, os, read_all, stat
from ..linux import syscalls
from ..linux.files import rewrite
from ..linux.identity import ActingAs
from ..linux.mounts import MountTable, make_private, make_read_only, mount_bind, mount_id
from ..linux.rootfs import CONTENT, MOUNT

if TYPE_CHECKING:
    from ..linux.identity import Identity
    from ..linux.rootfs import Rootfs

_MAX_REMOVED = 64 << 10  # bytes; a larger removed file is not rewritten


class Covers:
    """Bind mounts over files of one container; each is reported (Rootfs.note), for the rollback of a failed start."""

    def __init__(self, rootfs: Rootfs) -> None:
        """Read the container's mounts; mount nothing yet. Raises HookError."""
        self._rootfs = rootfs
        self._mount_table = MountTable(rootfs.mountinfo)

    def refuse_shared(self, target: int, path: str) -> None:
        """Raise HookError if a mount on `target`, at `path`, would propagate out of the container."""
        self._mount_table.refuse_shared(target, path)

    def cover(self, path: str, source: int) -> None:
        """Bind mount the file `source` on `path` in the container; create `path` if missing. Raises HookError."""
        target = self._rootfs.file(path)
        self.refuse_shared(target, path)
        mount_bind(source, target)
        self._rootfs.note(MOUNT, path, "")

    def cover_with(self, path: str, directory: int, name: str, data: bytes) -> None:
        """Create `name` in `directory` with `data`; mount it on `path` in the container. Raises HookError, OSError."""
        target = self._rootfs.file(path)
        if os.fstat(target).st_nlink:
            self.cover(path, write_file(directory, name, data, 0o644, self._rootfs.owner))
        else:  # ch-run mounts a file that it has removed: nothing can be mounted over that
            self._rewrite(path, target, data)

    def _rewrite(self, path: str, target: int, data: bytes) -> None:
        """Write `data` into a file that belongs to this container alone. Raises HookError and OSError.

        It must be a mount of its own: a file that was just removed is on the mount of its directory.
        """
        with closing(self._rootfs.open(dirname(path), os.O_PATH | os.O_DIRECTORY)) as parent:
            is_mount = mount_id(parent) != mount_id(target)
        if not is_mount or os.fstat(target).st_uid not in (self._rootfs.user.uid, self._rootfs.owner.uid):
            raise HookError(
                IMAGE_UNFIT,
                f"{path} in the container is a deleted file that is not a mount or belongs to another user: nothing "
                "can be mounted on it",
            )
        with closing(os.open(f"/proc/self/fd/{target}", os.O_RDONLY | os.O_NONBLOCK)) as descriptor:
            old = read_all(descriptor, _MAX_REMOVED)
        if len(old) > _MAX_REMOVED or b"\0" in old:
            raise HookError(IMAGE_UNFIT, f"{path} in the container is a deleted file of more than {_MAX_REMOVED} bytes")
        self._rootfs.note(CONTENT, path, f"{mount_id(target).decode()}:{fsdecode(old)}")
        with ActingAs(self._rootfs.user):
            rewrite(target, data)

    def cover_missing(self, path: str, name: str, directory: int) -> None:
        """Bind mount the file `name` of `directory` on `path` in the container, if that is missing and can be created.

        An empty file counts as missing: earlier starts leave one as a mount point.
        """
        try:
            with closing(self._rootfs.open(path, os.O_PATH)) as present:
                status = os.fstat(present)
            if not stat.S_ISREG(status.st_mode) or status.st_size > 0:
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        try:
            self.cover(path, os.open(name, os.O_PATH, dir_fd=directory))
        except (HookError, FileNotFoundError):
            pass


def is_program(descriptor: int) -> bool:
    """Return whether `descriptor` is an executable file, and not empty like a mount point from an earlier start."""
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_mode & 0o111 != 0 and status.st_size > 0


def write_file(parent: int, name: str, data: bytes, mode: int, owner: Identity) -> int:
    """Create a file; return a descriptor of it. Raises OSError."""
    descriptor = create_file(name, data, mode, parent)
    os.fchown(descriptor, owner.uid, owner.gid)
    return descriptor


def protect_mount(name: str, parent: int) -> int:
    """Make the mount on the entry `name` of `parent` private, read-only, nosuid and nodev.

    Return a descriptor of the mount's root. Raises OSError.
    """
    mounted = os.open(name, os.O_PATH, dir_fd=parent)
    make_read_only(mounted, syscalls.MS_NOSUID | syscalls.MS_NODEV)
    make_private(mounted)
    return mounted
