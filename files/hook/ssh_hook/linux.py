# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls that Python 3.9 does not offer, each a thin function with the kernel's own name.

Every function raises ``OSError`` with the kernel's errno. Constants are those of Linux's uapi headers.

The C half of ``ctypes`` is used directly: it is always there where ``ctypes`` is, and costs a third of the time
to import, in the start of every container.
"""

from __future__ import annotations

import os
import sys
from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, CFuncPtr, _SimpleCData, addressof, dlopen, dlsym, get_errno

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_PRIVATE = 0x40000
MS_RELATIME = 0x200000

PR_SET_DUMPABLE = 4
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38

PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_SYS_CLONE3 = 435  # system calls from 424 on have one number on all architectures
_SYS_OPENAT2 = 437
_SIGCHLD = 17


TYPE_CHECKING = False
if TYPE_CHECKING:  # the type stub and the module differ in these three
    _LongBase = _SimpleCData[int]
    _CharBase = _SimpleCData[bytes]
    _PROGRAM = ""
else:
    _LongBase = _CharBase = _SimpleCData
    _PROGRAM = None  # dlopen(NULL): what the interpreter itself is linked with


class _Long(_LongBase):
    _type_ = "l"


class _Char(_CharBase):
    _type_ = "c"


class _Function(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = _Long


_LIBC = dlopen(_PROGRAM, 0)


def _call(name: str, *arguments: int) -> int:
    """Call a libc function whose arguments are all integers or addresses; raise OSError when it returns -1."""
    function = _Function(dlsym(_LIBC, name))
    result: int = function(*[_Long(argument) for argument in arguments])
    if result == -1:
        number = get_errno()
        raise OSError(number, os.strerror(number))
    return result


class _Buffer:
    """Bytes at a fixed address, NUL-terminated, for as long as the object lives."""

    def __init__(self, content: bytes) -> None:
        self.memory = bytearray(content + b"\0")
        self._array = (_Char * len(self.memory)).from_buffer(self.memory)
        self.address = addressof(self._array)


def _integers(*fields: tuple[int, int]) -> bytes:
    """Pack (value, size in bytes) pairs in the machine's byte order."""
    return b"".join(value.to_bytes(size, sys.byteorder) for value, size in fields)


def openat2(directory: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """Open `path` below `directory` under the limits of `resolve` (RESOLVE_*); the descriptor is close-on-exec."""
    name = _Buffer(path)
    how = _Buffer(_integers((flags | os.O_CLOEXEC, 8), (mode, 8), (resolve, 8)))
    return _call("syscall", _SYS_OPENAT2, directory, name.address, how.address, 24)


def clone3_into_cgroup(cgroup: int) -> int:
    """Fork into the cgroup (version 2) whose directory `cgroup` is open; returns as os.fork() does."""
    fields = [(CLONE_INTO_CGROUP, 8), (0, 8), (0, 8), (0, 8), (_SIGCHLD, 8), *[(0, 8)] * 5, (cgroup, 8)]
    arguments = _Buffer(_integers(*fields))
    return _call("syscall", _SYS_CLONE3, arguments.address, 88)


def setns(descriptor: int, kind: int) -> None:
    """Join the namespace behind `descriptor`; `kind` is its CLONE_NEW* constant."""
    _call("setns", descriptor, kind)


def mount(source: bytes, target: bytes, kind: bytes, flags: int, data: bytes = b"") -> None:
    """mount(2)."""
    buffers = [_Buffer(value) for value in (source, target, kind, data)]
    _call("mount", buffers[0].address, buffers[1].address, buffers[2].address, flags, buffers[3].address)


def prctl(option: int, argument: int = 0) -> int:
    """prctl(2) with the option's first argument."""
    return _call("prctl", option, argument, 0, 0, 0)


def capget() -> tuple[int, int, int]:
    """The calling thread's (effective, permitted, inheritable) capabilities as bit masks."""
    header = _Buffer(_integers((_LINUX_CAPABILITY_VERSION_3, 4), (0, 4)))
    data = _Buffer(bytes(24))
    _call("capget", header.address, data.address)
    words = [int.from_bytes(data.memory[i : i + 4], sys.byteorder) for i in range(0, 24, 4)]
    return words[0] | words[3] << 32, words[1] | words[4] << 32, words[2] | words[5] << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the calling thread's capabilities from bit masks."""
    header = _Buffer(_integers((_LINUX_CAPABILITY_VERSION_3, 4), (0, 4)))
    low, high = 0xFFFFFFFF, 32
    data = _Buffer(
        _integers(
            (effective & low, 4),
            (permitted & low, 4),
            (inheritable & low, 4),
            (effective >> high, 4),
            (permitted >> high, 4),
            (inheritable >> high, 4),
        )
    )
    _call("capset", header.address, data.address)


def filesystem_type(descriptor: int) -> int:
    """The magic number of the file system that `descriptor` lies on (f_type of fstatfs(2))."""
    buffer = _Buffer(bytes(256))  # struct statfs is 120 bytes or less; f_type, a long, is its first field
    _call("fstatfs", descriptor, buffer.address)
    return int.from_bytes(buffer.memory[:8], sys.byteorder) & 0xFFFFFFFF
