# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's home directory in the container, and the keys in its .ssh."""

from __future__ import annotations

from ..errors import IMAGE_UNFIT, MOUNT_REFUSED, HookError, NotCreatedError, kind_of_os
from ..fast_stdlib import TYPE_CHECKING, basename, closing, os, read_all
from ..keys.store import AUTHORIZED_KEYS, PRIVATE_KEY
from ..linux.files import READ, replace_files
from ..linux.identity import ActingAs
from ..linux.mounts import make_private, mount_bind, mount_id, mount_overlay
from ..oci.container_paths import KEYS, OVERLAY

if TYPE_CHECKING:
    from ..linux.identity import Identity
    from ..linux.rootfs import Rootfs
    from ..node.user_keys import Credentials

_MAX_AUTHORIZED_KEYS = 1 << 20  # bytes


class Home:
    """The home directory of the container's user.

    Attributes:
        ssh: its open .ssh directory; -1 if there is none that belongs to the user.
        ssh_path: the path of .ssh.
        problem: why there is no .ssh.
    """

    def __init__(self, rootfs: Rootfs, user: Identity, path: str, known: tuple[str, ...]) -> None:
        """Describe the home at `path`; `user` has the ids of the container's user namespace.

        `known` are the places for homes: directories of homes, ending in a slash, and the user's own on the cluster.
        """
        self._rootfs = rootfs
        self._known = known
        self._user = user
        self._path = path
        self._home = -1
        self._keys = self._work = -1  # opened by `make_keys_directory`
        self._uses_ssh = False  # whether the directory of the keys is .ssh itself
        self.ssh_path = f"{path.rstrip('/')}/.ssh"
        self.ssh = -1
        self.problem = ""

    def open(self) -> None:
        """Open the home and its .ssh, and create them if missing. Raises HookError.

        Sessions get no .ssh if it is a link or belongs to another user, since nothing may be written there, or if
        neither the user nor root may create it or the home. Root creates a home only in `known` places: an image, or a
        variable, may name a directory from which root's programs load code.
        """
        try:
            self._home = self._open_home()
        except NotCreatedError as error:
            self.problem = str(error)
            return
        try:
            self.ssh = self._rootfs.user_directory(self._home, ".ssh", self.ssh_path)
        except HookError as error:
            self.problem = str(error)

    def make_keys_directory(self, base: int, is_covered: bool) -> None:
        """Create the directory of the user's keys, in which Dropbear looks for authorized ones, in the tmpfs `base`.

        It is the upper layer of the overlay on .ssh if there is to be one (`is_covered`). Else it is .ssh itself, by a
        bind mount, unless there is none, or others can write to it or to the home. Raises OSError.
        """
        layers = make_directory(base, basename(OVERLAY), 0o755, self._rootfs.owner)
        self._keys = make_directory(layers, basename(KEYS), 0o700, self._user)
        self._work = make_directory(layers, "work", 0o700, self._user)
        self._uses_ssh = (
            self.ssh >= 0 and not is_covered and self._is_private(self._home) and self._is_private(self.ssh)
        )
        if self._uses_ssh:
            mount_bind(self.ssh, self._keys)
            with closing(os.open(basename(KEYS), os.O_PATH, dir_fd=layers)) as mounted:
                make_private(mounted)

    def provide_keys(self, credentials: Credentials) -> None:
        """Write the key set into its directory, unless that is .ssh itself, for which see `write`. Raises HookError."""
        if not self._uses_ssh:
            self._write_keys(self._keys, credentials, credentials.authorized_keys)

    def cover(self, in_user_namespace: bool) -> None:
        """Mount an overlay on .ssh, with the directory of the keys as its upper layer. Raises HookError."""
        if self._rootfs.has_layer and not os.listdir(f"/proc/self/fd/{self.ssh}"):
            mount_bind(self._keys, self.ssh)  # that layer is already an overlay, and the kernel stacks at most two
            return
        try:
            mount_overlay(self.ssh, self._keys, self._work, self.ssh, self._user, in_user_namespace)
        except OSError as error:
            raise HookError(
                MOUNT_REFUSED,
                f"cannot mount an overlay on {self.ssh_path} in the container: {error.strerror}; "
                "set OVERLAY_MOUNT_HOME_SSH=false in the OCI hook's JSON file to do without",
            ) from None

    def write(self, credentials: Credentials) -> None:
        """Write the user's keys into .ssh itself. Raises HookError."""
        self._write_keys(self.ssh, credentials, self._merged_authorized_keys(credentials))

    def _open_home(self) -> int:
        path = self._path
        if not path.rstrip("/"):
            return self._rootfs.directory("/")
        try:
            return self._rootfs.open(path, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            return self._rootfs.make_user_directory(path.rstrip("/"), self._is_known)
        except OSError as error:
            raise HookError(IMAGE_UNFIT, f"cannot open the home {path} in the container: {error.strerror}") from None

    def _is_known(self, path: str) -> bool:
        directories = tuple(known for known in self._known if known.endswith("/") and known != "/")
        return path in self._known or (path.startswith(directories) and f"{path}/" not in directories)

    def _is_private(self, directory: int) -> bool:
        status = os.fstat(directory)
        return status.st_mode & 0o022 == 0 and status.st_uid in (0, self._user.uid)

    def _write_keys(self, directory: int, credentials: Credentials, authorized_keys: bytes) -> None:
        """Write the key set into a directory as the user, each file by an atomic rename. Raises HookError."""
        files = {
            PRIVATE_KEY: credentials.id_dropbear,
            **credentials.host_keys,
            AUTHORIZED_KEYS: authorized_keys,
        }
        try:
            with ActingAs(self._user):
                replace_files(directory, files)
        except OSError as error:
            raise HookError(
                kind_of_os(error, IMAGE_UNFIT),
                f"cannot write the keys into {self.ssh_path} in the container: {error.strerror}",
            ) from None

    def _merged_authorized_keys(self, credentials: Credentials) -> bytes:
        """Return the user's existing authorized_keys, with missing lines appended. Raises HookError.

        On the root file system that file is the image's and ignored: it would let the image's author in.
        """
        if mount_id(self.ssh) == mount_id(self._rootfs.descriptor):
            return credentials.authorized_keys
        path = f"{self.ssh_path}/{AUTHORIZED_KEYS}"
        try:
            with ActingAs(self._user), closing(os.open(AUTHORIZED_KEYS, READ, dir_fd=self.ssh)) as descriptor:
                present = read_all(descriptor, _MAX_AUTHORIZED_KEYS)
        except FileNotFoundError:
            return credentials.authorized_keys
        except OSError as error:
            raise HookError(IMAGE_UNFIT, f"cannot read {path} in the container: {error.strerror}") from None
        if len(present) > _MAX_AUTHORIZED_KEYS:
            raise HookError(IMAGE_UNFIT, f"{path} in the container is larger than {_MAX_AUTHORIZED_KEYS} bytes")
        lines = present.splitlines()
        lines += [line for line in credentials.authorized_keys.splitlines() if line not in lines]
        return b"".join(line + b"\n" for line in lines)


def make_directory(parent: int, name: str, mode: int, owner: Identity) -> int:
    """Create a directory; return a descriptor of it. Raises OSError."""
    os.mkdir(name, mode, dir_fd=parent)
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    os.fchown(descriptor, owner.uid, owner.gid)
    return descriptor
