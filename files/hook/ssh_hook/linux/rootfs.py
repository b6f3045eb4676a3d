# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve paths in the container so that none can lead out of its root file system.

The image, its links and its volumes are untrusted. The kernel resolves the paths (openat2 with RESOLVE_IN_ROOT and
RESOLVE_NO_MAGICLINKS); before Linux 5.6 `_walk` does, component by component. All work is then done on descriptors. A
chroot is not enough: the container's /proc is already mounted, and its magic links lead out of a chroot.
"""

from __future__ import annotations

import errno

from ..errors import IMAGE_UNFIT, HookError, NotCreatedError, kind_of_os
from ..fast_stdlib import MAX_LINKS, TYPE_CHECKING, closing, create_file, fsencode, os, read_all, split, stat
from . import syscalls
from .files import is_same, open_without_links
from .identity import ROOT, ActingAs, Identity
from .mounts import mount_id
from .pidfile import open_pidfile

if TYPE_CHECKING:
    from collections.abc import Callable

_RUNTIME_DIRECTORIES = ("/run/", "/var/run/", "/tmp/", "/var/tmp/")
ENTRY, MOUNT, CONTENT = "entry", "mount", "content"  # kinds of changes
_ATTEMPTS = 100  # openat2 fails with EAGAIN if something is renamed during the call


class Rootfs:
    """The root directory of a container.

    Attributes:
        descriptor: the open directory.
        user: the container's user, with ids of the caller's user namespace.
        owner: the owner of files that the hook creates: root, or the user if the user namespace has no root.
        has_layer: whether it is the hook's overlay over a read-only root directory.
        mountinfo: the content of /proc/PID/mountinfo of a process in the container; None for the caller's own.
        note: called with the kind and the path of a change: ENTRY, after a file or directory was created; MOUNT, after
            something was mounted; CONTENT, before a file is rewritten. The third argument for CONTENT is the mount's
            id, a colon, and the old content.
    """

    def __init__(self, descriptor: int, user: Identity, owner: Identity = ROOT) -> None:
        self.descriptor = descriptor
        self.user = user
        self.owner = owner
        self.has_layer = False
        self.mountinfo: bytes | None = None
        self.note: Callable[[str, str, str], None] = lambda _kind, _path, _detail: None
        self._mount = mount_id(descriptor)

    def open(self, path: str, flags: int) -> int:
        """Open `path`, following links within the container. Raises OSError."""
        return open_in_root(self.descriptor, path, flags)

    def read(self, path: str, limit: int, as_root: bool = False) -> bytes | None:
        """Return the content of a regular file of at most `limit` bytes; None if there is no such path.

        The file is opened as the user, since a link may lead to a file in a volume that only root may read, and the
        user may see the content. Raises PermissionError if the user may not read it, unless `as_root`; HookError.
        """
        try:
            with ActingAs(self.owner if as_root else self.user):
                return self._read(path, limit)
        except FileNotFoundError:
            return None
        except PermissionError:
            raise
        except OSError as error:
            raise unfit_error("read", path, error) from None

    def _read(self, path: str, limit: int) -> bytes:
        with closing(self.open(path, os.O_PATH)) as handle:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise HookError(IMAGE_UNFIT, f"{path} in the container is not a regular file")
            # Through the O_PATH descriptor: no one can replace the file that was just checked.
            with closing(os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK)) as descriptor:
                data = read_all(descriptor, limit)
        if len(data) > limit:
            raise HookError(IMAGE_UNFIT, f"{path} in the container is larger than {limit} bytes")
        return data

    def pidfile(self, path: str) -> int:
        """Open or create the pidfile `path` as the user; return a descriptor for writing. Raises OSError and HookError.

        A missing directory is created for the user, by root only below the directories for such files: root's programs
        may load code from many other directories of an image.
        """
        try:
            return self._open_pidfile(path)
        except FileNotFoundError:
            os.close(self.make_user_directory(split(path)[0], lambda place: place.startswith(_RUNTIME_DIRECTORIES)))
        return self._open_pidfile(path)

    def make_user_directory(self, path: str, is_allowed: Callable[[str], bool]) -> int:
        """Open the directory `path` as O_PATH; create it for the user if missing. Raises HookError.

        Root creates it and missing parents only if `is_allowed` returns True for its path, and for each path that links
        lead to.
        """
        parent_path, name = split(path)
        may_root = is_allowed(path)

        def by_root(parent: int, path: str) -> bool:
            place = f"{self._place(parent)}/{split(path)[1]}"
            return may_root and (place == path or is_allowed(place))

        with closing(self._directory(parent_path, by_root)) as parent:
            as_root = by_root(parent, path) and is_allowed(f"{self._place(parent)}/{name}")
            return self.user_directory(parent, name, path, as_root)

    def _place(self, directory: int) -> str:
        """Return the path, in the container, of an open directory below its root, without a trailing slash.

        Raises HookError if it is not there: the root, or a directory above it, was renamed between two reads. Needed
        because a volume may show a directory of the image elsewhere, such as its programs at /home/x.
        """
        root = os.readlink(f"/proc/self/fd/{self.descriptor}").rstrip("/")
        path = os.readlink(f"/proc/self/fd/{directory}").removeprefix(root).rstrip("/")
        try:
            with closing(open_without_links(self.descriptor, path)) as found:
                if is_same(os.fstat(found), os.fstat(directory)) and mount_id(found) == mount_id(directory):
                    return path
        except OSError:
            pass  # it is missing, or a link
        raise HookError(IMAGE_UNFIT, f"{path or '/'} in the container was moved during setup")

    def _open_pidfile(self, path: str) -> int:
        parent_path, name = split(path)
        with ActingAs(self.user), closing(self.open(parent_path, os.O_PATH | os.O_DIRECTORY)) as parent:
            return open_pidfile(name, parent)

    def directory(self, path: str) -> int:
        """Open the directory `path` as O_PATH; create it and its parents (mode 0755) if missing. Raises HookError."""
        return self._directory(path, lambda _parent, _path: True)

    def _directory(self, path: str, by_root: Callable[[int, str], bool]) -> int:
        """Like `directory`, but root creates a directory only if `by_root` returns True for its parent and its path."""
        try:
            return self.open(path, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise unfit_error("open the directory", path, error) from None
        parent_path, name = split(path.rstrip("/"))
        with closing(self._directory(parent_path, by_root)) as parent:
            self._create(parent, path, lambda: os.mkdir(name, 0o755, dir_fd=parent), by_root(parent, path))
            return _open_created(parent, name, path, os.O_DIRECTORY)

    def user_directory(self, parent: int, name: str, path: str, as_root: bool = True) -> int:
        """Open the directory `name` in `parent` as O_PATH; create it for the user (mode 0700) if missing.

        `path` is for messages. Without `as_root` only the user may create it. Raises HookError, also if it is a link or
        belongs to another user.
        """
        made_by_root = False
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            made_by_root = self._create(parent, path, lambda: os.mkdir(name, 0o700, dir_fd=parent), as_root)
        except OSError as error:
            raise unfit_error("open", path, error) from None
        descriptor = _open_created(parent, name, path, os.O_DIRECTORY)
        if made_by_root:
            os.chown(f"/proc/self/fd/{descriptor}", self.user.uid, self.user.gid)
        if os.fstat(descriptor).st_uid != self.user.uid:
            os.close(descriptor)
            raise HookError(
                IMAGE_UNFIT, f"{path} in the container is not a directory of its user (uid {self.user.uid})"
            )
        return descriptor

    def file(self, path: str) -> int:
        """Open the regular file `path` as O_PATH; create it (empty) and its parents if missing. Raises HookError."""
        try:
            descriptor = self.open(path, os.O_PATH)
        except FileNotFoundError:
            parent_path, name = split(path)
            with closing(self.directory(parent_path)) as parent:
                self._create(parent, path, lambda: os.close(create_file(name, b"", 0o644, parent)))
                descriptor = _open_created(parent, name, path, 0)
        except OSError as error:
            raise unfit_error("open", path, error) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise HookError(IMAGE_UNFIT, f"{path} in the container is not a regular file")
        return descriptor

    def _create(self, parent: int, path: str, create: Callable[[], None], as_root: bool = True) -> bool:
        """Call `create` as the user, or else, with `as_root`, as root; return whether root did. `path` is for messages.

        Root creates nothing in a volume or in the user's directories, where the user could replace it before it is
        opened. A volume is recognized by its mount id, since its device may be that of the root file system. Raises
        HookError, and NotCreatedError if neither may create it.
        """
        if split(path)[1] in ("", ".", ".."):  # `_open_created` opens the name without RESOLVE_IN_ROOT
            raise HookError(
                IMAGE_UNFIT, f"cannot create {path} in the container: the last part of the path is not a name"
            )
        if syscalls.filesystem_type(parent) in syscalls.KERNEL_FILE_SYSTEMS:  # a directory there may be a cgroup
            raise HookError(
                IMAGE_UNFIT, f"cannot create {path} in the container: its file system belongs to the kernel"
            )
        try:
            with ActingAs(self.user):
                create()
            self.note(ENTRY, path, "")
            return False
        except FileExistsError:
            return False  # another process created it, or it is a dangling link, which O_NOFOLLOW then refuses
        except OSError as error:
            refused = error
        try:
            if not as_root or mount_id(parent) != self._mount or os.fstat(parent).st_uid == self.user.uid:
                raise refused
            create()
            self.note(ENTRY, path, "")
            return True
        except OSError as error:
            raise NotCreatedError(
                kind_of_os(error, IMAGE_UNFIT), f"cannot create {path} in the container: {error.strerror}"
            ) from None


def unfit_error(action: str, path: str, error: OSError) -> HookError:
    """Return the error for a file of the container with which the kernel refuses an `action`, such as "open"."""
    return HookError(kind_of_os(error, IMAGE_UNFIT), f"cannot {action} {path} in the container: {error.strerror}")


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open `path` as if the open directory `root` were the root directory, refusing magic links. Raises OSError."""
    flags |= os.O_CLOEXEC
    for _attempt in range(_ATTEMPTS):
        try:
            return syscalls.openat2(
                root, fsencode(path), flags, 0, syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
            )
        except OSError as error:
            if error.errno == errno.ENOSYS:
                return _walk(root, path, flags)
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def open_without_magic_links(path: str, flags: int) -> int:
    """Open the absolute `path` in the caller's root, following all links except procfs's. Raises OSError."""
    try:
        return syscalls.openat2(syscalls.AT_FDCWD, fsencode(path), flags, 0, syscalls.RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    with closing(os.open("/", os.O_PATH | os.O_DIRECTORY)) as root:
        return _walk(root, path, flags)


def _open_created(parent: int, name: str, path: str, flags: int) -> int:
    if name in ("", ".", ".."):
        raise HookError(IMAGE_UNFIT, f"cannot open {path} in the container: the last part of the path is not a name")
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | flags, dir_fd=parent)
    except OSError as error:
        raise HookError(
            kind_of_os(error, IMAGE_UNFIT),
            f"cannot open {path} in the container without following a link: {error.strerror}",
        ) from None


def _walk(root: int, path: str, flags: int) -> int:
    """Open `path` like openat2 with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS, for kernels before 5.6.

    `stack` holds a descriptor of every directory from the root down, so that ".." returns to where the walk came from,
    even if a directory is moved in the meantime.
    """
    stack = [os.dup(root)]
    pending = [name for name in reversed(path.split("/")) if name not in ("", ".")]
    links = 0
    try:
        while pending:
            name = pending.pop()
            if name == "..":
                if len(stack) > 1:
                    os.close(stack.pop())
                continue
            handle = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=stack[-1])
            stack.append(handle)
            if not stat.S_ISLNK(os.fstat(handle).st_mode):
                continue  # if this is not a directory, the next open fails with ENOTDIR
            stack.pop()
            try:
                if not pending and flags & os.O_NOFOLLOW:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = _read_link(handle)
            finally:
                os.close(handle)
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if target.startswith("/"):
                while len(stack) > 1:
                    os.close(stack.pop())
            pending.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        return os.open(f"/proc/self/fd/{stack[-1]}", flags & ~os.O_NOFOLLOW)
    finally:
        for descriptor in stack:
            os.close(descriptor)


def _read_link(handle: int) -> str:
    if syscalls.filesystem_type(handle) == syscalls.PROC_SUPER_MAGIC:
        raise OSError(errno.ELOOP, "a link of procfs may lead anywhere")
    return os.readlink("", dir_fd=handle)
