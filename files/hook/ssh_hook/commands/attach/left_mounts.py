# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts that an attach has left in a container whose supervisor was killed, found in the container's mountinfo."""

from __future__ import annotations

from ...errors import SYSTEM, HookError
from ...fast_stdlib import TYPE_CHECKING, closing, os
from ...linux import disposable_process, syscalls
from ...linux.mounts import change_root, mount_id, unmount
from ...linux.rootfs import open_in_root
from ...node.running_process import MountInfo

if TYPE_CHECKING:
    from ...node.running_process import RunningProcess


def unmount_left(target: RunningProcess) -> list[str]:
    """Unmount the hook's mounts in the container of `target`; return the mount points of those that are left.

    Files and directories that were created as mount points stay, since they are no longer known. Raises HookError.
    """
    mounts = target.mounts.left_by_hook()
    if not mounts:
        return []
    directory = target.process.directory
    kept = (directory, target.root, target.user_namespaces[-1])
    disposable_process.run(
        lambda: _enter_and_unmount(target, mounts),
        f"cannot enter the container of process {target.process.pid}",
        None,
        kept,
    )
    try:
        return [path for _id, path in MountInfo(directory).left_by_hook()]
    except OSError:
        return []  # the container has ended


def _enter_and_unmount(target: RunningProcess, mounts: list[tuple[bytes, str]]) -> bytes:
    """Unmount `mounts`, last first, since later ones are on earlier ones. The caller is undumpable: see attach.py."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    try:
        with closing(os.open("/", os.O_PATH | os.O_DIRECTORY)) as node:
            namespace = os.open("ns/mnt", os.O_RDONLY, dir_fd=target.process.directory)
            syscalls.setns(target.user_namespaces[-1], syscalls.CLONE_NEWUSER)  # gives all capabilities over the mounts
            syscalls.setns(namespace, syscalls.CLONE_NEWNS)
            change_root(node)  # so that /proc is the node's again
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # joining has reset it
    except OSError as error:
        raise HookError(
            SYSTEM, f"cannot enter the container of process {target.process.pid}: {error.strerror}"
        ) from None
    for identity, path in reversed(mounts):
        try:
            with closing(open_in_root(target.root, path, os.O_PATH)) as mounted:
                if mount_id(mounted) == identity:
                    unmount(mounted)
        except OSError:
            continue  # it is gone, with the mount below it
    return b""
