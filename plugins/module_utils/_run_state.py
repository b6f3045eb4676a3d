# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hook keeps in /run/ocihooks-ssh: entries, doors, messages, locks, and a tmpfs for each user with jobs.

A user can hold up whoever removes a name there or unmounts a tmpfs, without end. So a child does that.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import signal
import time

PLACE = "/run/ocihooks-ssh"
_MOUNTS = "/proc/self/mountinfo"  # proc_pid_mountinfo(5)
_TIMEOUT = 10.0  # seconds
_POLL = 0.01  # seconds
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8


class HeldUp(Exception):
    """It cannot be removed: one line with what to do."""


def remove(check: bool) -> list[str]:
    """Remove all of it. Return the removed path, if it was there.

    Raises:
        HeldUp: it cannot be removed.
        OSError: no process can be started.
    """
    if not os.path.lexists(PLACE):
        return []
    if not check:
        _wait_for(_start_removal())
    return [PLACE]


def _start_removal() -> int:
    """Start a child that unmounts and removes everything; its exit status is an errno, or 0."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)  # who reads the module's output waits until all have closed it
        os.closerange(3, 1024)
        _unmount()
        shutil.rmtree(PLACE)
        status = 0
    except OSError as error:
        status = error.errno or status
    finally:
        os._exit(status)


def _unmount() -> None:
    """Unmount all that is mounted below it. Raises OSError."""
    with open(_MOUNTS, "rb") as file:
        points = [_unescape(line.split(b" ", 5)[4]) for line in file]
    umount = ctypes.CDLL(None, use_errno=True).umount2
    for point in sorted((point for point in points if point.startswith(os.fsencode(PLACE) + b"/")), key=len):
        # What is mounted below another mount goes with that: no path leads through a user's file system.
        if umount(point, _MNT_DETACH | _UMOUNT_NOFOLLOW):
            if ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
                raise OSError(ctypes.get_errno(), "cannot unmount")


def _unescape(point: bytes) -> bytes:
    return re.sub(rb"\\(\d{3})", lambda found: bytes([int(found.group(1), 8)]), point)


def _wait_for(child: int) -> None:
    """Wait until the child has removed it. Raises HeldUp."""
    deadline = time.monotonic() + _TIMEOUT
    ended, status = 0, 0
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0 if ended else _POLL)
    if not ended:
        os.kill(child, signal.SIGKILL)
        raise HeldUp(
            f"{PLACE} is not removed within {_TIMEOUT:.0f} s: a user's file system is mounted on a name there, in "
            "another mount namespace perhaps, and does not respond. Everything else is removed. End that user's "
            "processes, or reboot the node"
        )
    if status:
        reason = os.strerror(os.WEXITSTATUS(status)) if os.WIFEXITED(status) else "the process was killed"
        raise HeldUp(f"{PLACE} cannot be removed: {reason}. Run the playbook again")
