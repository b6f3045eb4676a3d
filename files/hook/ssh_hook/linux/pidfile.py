# SPDX-License-Identifier: GPL-3.0-or-later
"""Pidfiles named in annotations, on the host or in the container."""

from __future__ import annotations

import errno

from ..fast_stdlib import closing, os, stat
from . import syscalls

MAX_PIDFILE = 32  # bytes: the digits of a pid, and a newline


def open_pidfile(path: str, dir_fd: int | None = None) -> int:
    """Open the file `path` for writing, and truncate it; relative to `dir_fd` if that is given. Raises OSError.

    The annotation that names it may come from the image, since some engines pass on an image's annotations. So this
    follows no link, opens no device or FIFO, and truncates only a file that contains a pid.
    """
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=dir_fd)
    except FileExistsError:
        pass
    with closing(os.open(path, os.O_PATH | os.O_NOFOLLOW, dir_fd=dir_fd)) as handle:
        is_regular = stat.S_ISREG(os.fstat(handle).st_mode)
        if not is_regular or syscalls.filesystem_type(handle) in syscalls.KERNEL_FILE_SYSTEMS:
            raise OSError(errno.EINVAL, "it is not a regular file")
        descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDWR | os.O_NONBLOCK)
    present = os.read(descriptor, MAX_PIDFILE + 1)
    if present and not (len(present) <= MAX_PIDFILE and present[-1:] == b"\n" and present[:-1].isdigit()):
        os.close(descriptor)
        raise OSError(errno.EEXIST, "it contains something that is not a pid")
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, 0)
    return descriptor
