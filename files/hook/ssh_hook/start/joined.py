# SPDX-License-Identifier: GPL-3.0-or-later
"""A running container that the tasks of a job step join (pyxis, ``--container-name``).

pyxis starts a second container in the same root file system for the later step, for its hooks and variables alone; the
tasks join the namespaces of the first container, whose SSH daemon serves them too. It ends with the step that started
it, since Slurm kills all processes of that step. Nothing starts it again by itself: all processes of the later step are
in a sibling of the container's user namespace, in which the image's programs run as well, so one that leads back to the
node must not be left there.

The container is one of the user's with an entry (node/inventory.py). The kernel shows all users the device and
directory of its root file system.

Format: proc_pid_mountinfo(5).
"""

from __future__ import annotations

from ..fast_stdlib import closing, os, read_file
from ..linux.mounts import mount_id
from ..node.inventory import find_daemons


def is_served(rootfs: str, port: int) -> bool:
    """Return whether a container of the caller in the root file system `rootfs` has an SSH daemon at `port`.

    Raises OSError and HookError.
    """
    with closing(os.open(rootfs, os.O_PATH | os.O_DIRECTORY)) as directory:
        mount = mount_id(directory)
    lines = [line.split(b" ", 4) for line in read_file("/proc/self/mountinfo").split(b"\n")]
    root = next((b" %s %s / " % (fields[2], fields[3]) for fields in lines if fields[0] == mount), None)
    pids = [daemon.pid for daemon in find_daemons() if port in (number for _address, number in daemon.places)]
    return root is not None and any(_has_root(pid, root) for pid in pids)


def _has_root(pid: int, root: bytes) -> bool:
    """Return whether `root`, the part of a line in mountinfo that shows a mount at /, is in that of the process."""
    try:
        return root in read_file(f"/proc/{pid}/mountinfo")
    except OSError:
        return False  # it has exited
