# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs ssh, scp and sftp in the container, and the new place of the image's own client."""

from __future__ import annotations

from ..errors import INSTALL_DAMAGED, HookError
from ..fast_stdlib import TYPE_CHECKING, basename, os
from ..linux.identity import ActingAs
from ..linux.mounts import mount_bind
from ..oci import container_paths as paths
from .covers import is_program, protect_mount, write_file

if TYPE_CHECKING:
    from ..linux.rootfs import Rootfs
    from .covers import Covers


def provide_ssh(rootfs: Rootfs, covers: Covers, programs: int, binaries: int) -> str:
    """Mount ssh, scp and sftp on their usual paths. Return a warning, or an empty string. Raises HookError, OSError.

    `programs` is the directory of the hook's programs in the container, `binaries` the one that is first in PATH.
    """
    os.symlink(f"{paths.PROGRAMS}/ssh", "ssh", dir_fd=binaries)
    warning = _cover_ssh(rootfs, covers, programs, binaries)
    for name in paths.COPIERS:
        covers.cover_missing(f"{paths.USER_PROGRAMS}/{name}", name, programs)
    return warning


def _cover_ssh(rootfs: Rootfs, covers: Covers, programs: int, binaries: int) -> str:
    """Bind mount ssh on /usr/bin/ssh, and the image's client, if it has one, in `binaries`. May return a warning.

    A link to a multi-call program (busybox, toybox) is not changed, since the mount would cover all its commands.
    """
    try:
        target = rootfs.open(paths.SSH, os.O_PATH)
    except OSError:
        covers.cover(paths.SSH, _open_ssh(programs))  # creates it, or raises the reason
        return ""
    name = basename(os.readlink(f"/proc/self/fd/{target}"))
    if "ssh" not in name:
        return f"{paths.SSH} in the container is a link to {name}: use {paths.BASE}/bin/ssh instead"
    covers.refuse_shared(target, paths.SSH)
    _show_image_client(rootfs, binaries)
    covers.cover(paths.SSH, _open_ssh(programs))
    return ""


def _open_ssh(programs: int) -> int:
    """Return a descriptor of the hook's ssh, in its read-only mount. Raises HookError."""
    try:
        return os.open("ssh", os.O_PATH, dir_fd=programs)
    except OSError as error:
        raise HookError(
            INSTALL_DAMAGED, f"cannot open ssh in DROPBEAR_DIR of the OCI hook's JSON file: {error.strerror}"
        ) from None


def _show_image_client(rootfs: Rootfs, binaries: int) -> None:
    """Bind mount the image's client in `binaries`.

    It is opened as the user: a link may lead to a file that only root may read, and the mount is accessible to all.
    """
    try:
        with ActingAs(rootfs.user):
            client = rootfs.open(paths.SSH, os.O_PATH)
            if not (is_program(client) and os.access(f"/proc/self/fd/{client}", os.X_OK, effective_ids=True)):
                return
    except OSError:
        return
    name = basename(paths.IMAGE_CLIENT)
    mount_bind(client, write_file(binaries, name, b"", 0o755, rootfs.owner))
    protect_mount(name, binaries)
