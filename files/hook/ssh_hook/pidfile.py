# SPDX-License-Identifier: GPL-3.0-or-later
"""Pidfiles that annotations name, on the host or in the container."""

from __future__ import annotations

import _stat as stat
import errno
import posix

from . import linux

_MAX_SIZE = 32  # bytes: the digits of a pid, and a newline


def open_pidfile(path: str, directory: int | None = None) -> int:
    """A descriptor to write to of the file `path`, empty; relative to `directory` if that is given.

    The annotation that names it may be the image's own, which some engines pass on: so no file is overwritten that
    holds anything but a pid, no link followed, no device or pipe opened. Raises OSError.
    """
    flags = posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        return posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | flags, 0o644, dir_fd=directory)
    except FileExistsError:
        pass
    handle = posix.open(path, posix.O_PATH | flags, dir_fd=directory)
    try:
        is_regular = stat.S_ISREG(posix.fstat(handle).st_mode)
        if not is_regular or linux.filesystem_type(handle) in linux.KERNEL_FILE_SYSTEMS:
            raise OSError(errno.EINVAL, "it is not a regular file")
        descriptor = posix.open(f"/proc/self/fd/{handle}", posix.O_RDWR | posix.O_NONBLOCK | posix.O_CLOEXEC)
    finally:
        posix.close(handle)
    present = posix.read(descriptor, _MAX_SIZE + 1)
    if present and not (len(present) <= _MAX_SIZE and present[-1:] == b"\n" and present[:-1].isdigit()):
        posix.close(descriptor)
        raise OSError(errno.EEXIST, "it holds something that is not a pid")
    posix.ftruncate(descriptor, 0)
    posix.lseek(descriptor, 0, 0)
    return descriptor
