# SPDX-License-Identifier: GPL-3.0-or-later
"""A running container that the tasks of a job step join (pyxis, ``--container-name``).

pyxis starts a second container in the same root file system for the later step, for its hooks and variables alone; the
tasks join the namespaces of the first container, whose SSH daemon serves them too. It ends with the step that started
it, since Slurm kills all processes of that step. Nothing starts it again by itself: all processes of the later step are
in a sibling of the container's user namespace, in which the image's programs run as well, so one that leads back to the
node must not be left there.

The container is recognized by what the kernel shows to all users: the device and directory of its root file system, the
id of its root mount, and the uid of its processes.

Format: proc_pid_mountinfo(5).
"""

from __future__ import annotations

from ..linux.fast_stdlib import closing, fsdecode, os, read_file
from ..linux.mounts import mount_id
from ..linux.process import Process, all_processes
from ..oci.container_paths import SERVER_NAME


class JoinedContainer:
    """A running container of the caller in the root file system of the one that starts.

    Attributes:
        mount: the id of its root mount.
    """

    def __init__(self, root: bytes, mount: bytes) -> None:
        """`root` is the part of a line in mountinfo that shows a mount of the root file system at /."""
        self._root = root
        self.mount = mount

    def has_daemon(self, port: int) -> bool:
        """Return whether an SSH daemon in the container was started for `port`."""
        for process in all_processes():
            try:
                if (
                    _root_mount(process, self._root) != self.mount
                    or process.read("comm") != f"{SERVER_NAME}\n".encode()
                ):
                    continue
                words = fsdecode(process.read("cmdline")).split("\0")
            except OSError:
                continue  # it has exited
            if any(word == "-p" and place.rpartition(":")[2] == str(port) for word, place in zip(words, words[1:])):
                return True
        return False


def find_joined(rootfs: str) -> JoinedContainer | None:
    """Return the caller's container that runs in the root file system `rootfs`; None if there is none. Raises OSError.

    If there are several, it is that of the lowest pid, as for pyxis.
    """
    with closing(os.open(rootfs, os.O_PATH | os.O_DIRECTORY)) as directory:
        mount = mount_id(directory)
    lines = [line.split(b" ", 4) for line in read_file("/proc/self/mountinfo").split(b"\n")]
    root = next((b" %s %s / " % (fields[2], fields[3]) for fields in lines if fields[0] == mount), b"")
    if not root:
        return None
    for process in all_processes():
        try:
            found = _root_mount(process, root)
        except OSError:
            continue  # it has exited
        if found:
            return JoinedContainer(root, found)
    return None


def _root_mount(process: Process, root: bytes) -> bytes:
    """Return the id of the mount at / of the caller's `process`, if it is of that root file system; otherwise empty.

    Another user's process is not read: its table of mounts may be long. Raises OSError.
    """
    if process.uid() != os.geteuid():
        return b""
    data = process.read("mountinfo")
    position = data.find(root)
    if position < 0:
        return b""
    return data[data.rfind(b"\n", 0, position) + 1 :].split(b" ", 1)[0]
