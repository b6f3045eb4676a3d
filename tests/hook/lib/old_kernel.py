"""Kernels that lack the newer system calls and flags: a filter answers as they do, to the hook and its daemon alone.

What a filter cannot see stays as this machine's kernel has it: files in /proc, what a pointer leads to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from containers import LAUNCHER

_MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}[os.uname().machine]  # from 424 on, numbers are the same everywhere
_MEMFD_FLAGS = (_MEMFD_CREATE, 1, 0x18)  # MFD_NOEXEC_SEAL, MFD_EXEC: since 6.3


class Kernel(NamedTuple):
    """A kernel of a distribution.

    Attributes:
        beyond: the lowest number of a system call that it lacks: it answers ENOSYS
        flags: numbers of system calls, of their arguments, and flags that it does not know: it answers EINVAL
    """

    beyond: int
    flags: tuple[tuple[int, int, int], ...]


KERNELS = {
    "4.18": Kernel(424, (_MEMFD_FLAGS,)),  # EL 8
    "5.14": Kernel(  # EL 9
        448,
        (
            _MEMFD_FLAGS,
            (424, 3, 0xFFFFFFFF),  # pidfd_send_signal: none, until 6.9
            (429, 4, 0x300),  # move_mount: MOVE_MOUNT_SET_GROUP since 5.15, MOVE_MOUNT_BENEATH since 6.5
            (434, 1, 0o200),  # pidfd_open: PIDFD_THREAD since 6.9
        ),
    ),
}
WRAPPER = """#!/usr/bin/python3 -IS
import ctypes, os, struct, sys
LOAD, JUMP_IF_EQUAL, JUMP_IF_GREATER_OR_EQUAL, JUMP_IF_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000
EINVAL, ENOSYS = 22, 38
beyond, flags = {kernel}
program = [(LOAD, 0, 0, 0), (JUMP_IF_GREATER_OR_EQUAL, 0, 1, beyond), (RETURN, 0, 0, ERROR | ENOSYS)]
for number, argument, mask in flags:
    program += [(JUMP_IF_EQUAL, 0, 4, number), (LOAD, 0, 0, 16 + 8 * argument), (JUMP_IF_SET, 0, 1, mask)]
    program += [(RETURN, 0, 0, ERROR | EINVAL), (LOAD, 0, 0, 0)]
program += [(RETURN, 0, 0, ALLOW)]
code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
buffer = ctypes.create_string_buffer(code)
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, ctypes.byref(filter), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    raise OSError(ctypes.get_errno(), "no filter")
os.execv(sys.argv[2], sys.argv[2:]) if sys.argv[1] == "run" else os.execv({launcher!r}, sys.argv)
"""


def write_wrapper(path: Path, kernel: str = "4.18") -> str:
    """Write a launcher that runs the hook as on an old kernel; returns its path."""
    path.write_text(WRAPPER.format(kernel=tuple(KERNELS[kernel]), launcher=LAUNCHER), encoding="utf-8")
    path.chmod(0o755)
    return str(path)
