"""Mounts a container's root file system by fuse-overlayfs, as parallax's mount program does, and watches its /etc.

All files of the image belong to PARALLAX_MP_UID, a number in the container, as squashfuse has it with `uid=`.

The watcher of parallax takes the first file that is deleted there for the container's end, and unmounts the image. This
one appends the names of all to the log.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

FUSE_OVERLAYFS = "/usr/bin/fuse-overlayfs"
IN_DELETE, IN_IGNORED = 0x200, 0x8000
EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name


def watch(directory: str) -> None:
    """Write the names of files that are deleted in a directory to the log, until its file system is unmounted."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init()
    if libc.inotify_add_watch(queue, os.fsencode(directory), IN_DELETE) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
    while True:
        events = os.read(queue, 4096)
        while events:
            _watch, mask, _cookie, length = EVENT.unpack_from(events)
            if mask & IN_IGNORED:
                return
            name = events[EVENT.size : EVENT.size + length].rstrip(b"\0").decode()
            events = events[EVENT.size + length :]
            if mask & IN_DELETE:
                with Path(os.environ["PARALLAX_MP_LOGFILE"]).open("a", encoding="utf-8") as log:
                    log.write(f"{name}\n")


def mount_image(layers: re.Match[str]) -> str:
    """Mount an image's layers below /tmp, with one owner; return the option that has this directory in their place."""
    directory = tempfile.mkdtemp(prefix="lowerdir.")
    owner = f"squash_to_uid={os.environ['PARALLAX_MP_UID']},squash_to_gid={os.environ['PARALLAX_MP_GID']}"
    subprocess.run([FUSE_OVERLAYFS, "-o", f"{layers[0]},{owner}", directory], check=True)
    return f"lowerdir={directory}"


def main() -> int:
    """Return the exit status of fuse-overlayfs; leave the watcher behind."""
    options = [re.sub("lowerdir=[^,]*", mount_image, option) for option in sys.argv[1:]]
    status = subprocess.run([FUSE_OVERLAYFS, *options], check=False).returncode
    etc = f"{sys.argv[-1]}/etc"
    if status == 0 and Path(etc).is_dir() and os.fork() == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        watch(etc)
    return status


if __name__ == "__main__":
    sys.exit(main())
