# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount points in a running container whose root directory is read-only.

Every mount needs a file or directory to mount on. If the image lacks some and cannot be written, a read-only overlay
adds them to the image's files: its layers are a tmpfs with the mount points, and the root directory. It is mounted in a
separate mount namespace for sessions, together with all other mounts of the container. So the container's own processes
do not see it, and the image need not belong to the user.
"""

from __future__ import annotations

from ..errors import IMAGE_UNFIT, MOUNT_REFUSED, HookError, printable
from ..fast_stdlib import MAX_LINKS, TYPE_CHECKING, closing, create_file, os, read_all, stat
from ..linux import syscalls
from ..linux.mounts import clone_tree, mount_bind, mount_id, mount_layers, mount_tmpfs
from ..linux.rootfs import Rootfs, unfit_error

if TYPE_CHECKING:
    from ..linux.identity import Identity

_STAGE = "/dev"  # every container has it; mounts over it are only temporary here
_SIZE = 1 << 20  # bytes
_INODES = 256


class MountPoint:
    """A path in the container to mount something on.

    Attributes:
        path: an absolute path.
        is_directory: whether it must be a directory, not a file.
        owner: its owner, if it is created.
    """

    def __init__(self, path: str, is_directory: bool, owner: Identity) -> None:
        self.path = path
        self.is_directory = is_directory
        self.owner = owner


def missing(rootfs: Rootfs, points: list[MountPoint]) -> list[MountPoint]:
    """Return those of `points` that neither exist nor are in a volume. Raises HookError."""
    return [point for point in points if _is_missing(rootfs, point.path)]


def mount_layer(rootfs: Rootfs, points: list[MountPoint], mounted: list[str]) -> Rootfs:
    """Return a root directory with the files of `rootfs` and `points`.

    The caller must be in a mount namespace of its own. `mounted` are the mount points directly on `rootfs`. Raises
    HookError.
    """
    try:
        volumes = {path: _clone(rootfs, path) for path in mounted}
        with closing(rootfs.open(_STAGE, os.O_PATH | os.O_DIRECTORY)) as stage:
            mount_tmpfs(stage, _SIZE, _INODES, "")
        top = rootfs.open(_STAGE, os.O_RDONLY | os.O_DIRECTORY)
        os.mkdir("points", 0o755, dir_fd=top)
        os.mkdir("root", 0o755, dir_fd=top)
        with closing(os.open("points", os.O_RDONLY | os.O_DIRECTORY, dir_fd=top)) as below:
            _copy_attributes(below, os.fstat(rootfs.descriptor))
            for point in points:
                _make(rootfs, below, point)
            with closing(os.open("root", os.O_PATH | os.O_DIRECTORY, dir_fd=top)) as target:
                mount_layers([below, rootfs.descriptor], target)
        layer = Rootfs(os.open("root", os.O_PATH | os.O_DIRECTORY, dir_fd=top), rootfs.user, rootfs.owner)
        for number, (path, volume) in enumerate(volumes.items()):
            with closing(volume), closing(layer.open(path, os.O_PATH)) as target:
                _mount_volume(volume, target, top, str(number))
        os.close(top)
    except OSError as error:
        raise HookError(
            MOUNT_REFUSED,
            "the container's root directory is read-only and lacks mount points, and no overlay can show them to "
            f"sessions: {error.strerror}; start it with a writable one (ch-run --write-fake)",
        ) from None
    layer.has_layer = True
    return layer


def _clone(rootfs: Rootfs, path: str) -> int:
    with closing(rootfs.open(path, os.O_PATH)) as mounted:
        return clone_tree(mounted)


def _mount_volume(volume: int, target: int, directory: int, name: str) -> None:
    """Mount `volume` on `target`; for a removed file, over which nothing can be mounted, a copy in `directory`."""
    status = os.fstat(volume)
    if status.st_nlink or not stat.S_ISREG(status.st_mode) or status.st_size > _SIZE // 4:
        syscalls.move_mount(volume, target)
        return
    with closing(os.open(f"/proc/self/fd/{volume}", os.O_RDONLY | os.O_NONBLOCK)) as descriptor:
        data = read_all(descriptor, _SIZE // 4)
    with closing(create_file(name, data, 0o644, directory)) as copy:
        os.fchmod(copy, stat.S_IMODE(status.st_mode))
        mount_bind(copy, target)


def _is_missing(rootfs: Rootfs, path: str) -> bool:
    names, found = _resolve(rootfs, path)
    if found == len(names):
        return False
    with closing(rootfs.open("/" + "/".join(names[:found]), os.O_PATH)) as parent:
        return mount_id(parent) == mount_id(rootfs.descriptor)


def _make(rootfs: Rootfs, below: int, point: MountPoint) -> None:
    """Create `point` in the directory `below`, with parents that match those of `rootfs`. Raises OSError."""
    names, found = _resolve(rootfs, point.path)
    directory = os.dup(below)
    for depth, name in enumerate(names, 1):
        if depth == len(names) and not point.is_directory:
            with closing(create_file(name, b"", 0o644, directory)):
                break
        try:
            os.mkdir(name, 0o755, dir_fd=directory)
            is_new = True
        except FileExistsError:  # created as another point's parent
            is_new = False
        parent, directory = directory, os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.close(parent)
        if is_new and depth <= found:
            with closing(rootfs.open("/" + "/".join(names[:depth]), os.O_PATH)) as original:
                _copy_attributes(directory, os.fstat(original))
        elif is_new:
            os.fchown(directory, point.owner.uid, point.owner.gid)
            os.fchmod(directory, 0o755 if depth < len(names) else 0o700 if point.owner is not rootfs.owner else 0o755)
    os.close(directory)


def _copy_attributes(directory: int, original: os.stat_result) -> None:
    try:
        os.fchown(directory, original.st_uid, original.st_gid)
    except OSError:
        pass  # the user namespace does not map its owner
    os.fchmod(directory, stat.S_IMODE(original.st_mode))


def _resolve(rootfs: Rootfs, path: str) -> tuple[list[str], int]:
    """Return the components of `path` with all links resolved, and how many of them exist. Raises HookError."""
    names: list[str] = []
    pending = [name for name in reversed(path.split("/")) if name not in ("", ".")]
    links = 0
    try:
        while pending:
            name = pending.pop()
            if name == "..":
                del names[-1:]
                continue
            try:
                handle = rootfs.open("/" + "/".join([*names, name]), os.O_PATH | os.O_NOFOLLOW)
            except FileNotFoundError:
                return [*names, name, *(left for left in reversed(pending) if left != "..")], len(names)
            with closing(handle):
                if not stat.S_ISLNK(os.fstat(handle).st_mode):
                    names.append(name)
                    continue
                links += 1
                if links > MAX_LINKS or syscalls.filesystem_type(handle) == syscalls.PROC_SUPER_MAGIC:
                    raise HookError(
                        IMAGE_UNFIT,
                        f"cannot open {printable(path)} in the container: too many links, or a link of procfs",
                    )
                target = os.readlink("", dir_fd=handle)
            if target.startswith("/"):
                names = []
            pending += [part for part in reversed(target.split("/")) if part not in ("", ".")]
    except OSError as error:
        raise unfit_error("open", printable(path), error) from None
    return names, len(names)
