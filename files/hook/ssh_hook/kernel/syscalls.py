# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls that Python 3.9 does not offer, each a thin function with the kernel's own name.

Every function raises ``OSError`` with the kernel's errno. Constants are those of Linux's uapi headers.

The C half of ``ctypes`` is used directly: it is always there where ``ctypes`` is, and costs a third of the time
to import, in the start of every container.
"""

from __future__ import annotations

import errno
import sys
from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, CFuncPtr, _SimpleCData, addressof, dlopen, dlsym, get_errno

from .lean import TYPE_CHECKING, os

CLONE_NEWTIME = 0x00000080
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
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_RELATIME = 0x200000

PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2

RLIM_INFINITY = 2**64 - 1
AT_FDCWD = -100

AF_INET = 2
AF_INET6 = 10
SOCK_STREAM = 1
SOCK_CLOEXEC = 0o2000000
SOL_SOCKET = 1
SO_REUSEADDR = 2
IPPROTO_IPV6 = 41
IPV6_V6ONLY = 26

_POLLIN = 0x1

PROC_SUPER_MAGIC = 0x9FA0
TMPFS_MAGIC = 0x01021994
# The kernel's own (magic.h): what is written to one of their files is not kept but done.
KERNEL_FILE_SYSTEMS = (
    PROC_SUPER_MAGIC,
    0x62656572,  # SYSFS
    0x0027E0EB,  # CGROUP
    0x63677270,  # CGROUP2
    0x62656570,  # CONFIGFS
    0x64626720,  # DEBUGFS
    0x74726163,  # TRACEFS
    0x73636673,  # SECURITYFS
    0xF97CFF8C,  # SELINUX
    0x42494E4D,  # BINFMTFS
    0xCAFE4A11,  # BPF
    0xDE5E81E4,  # EFIVARFS
)

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_SECCOMP_SET_MODE_FILTER = 1
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277, "loongarch64": 277, "ppc64le": 358, "s390x": 348}
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219, "ppc64le": 271, "s390x": 280}
_KEYCTL_JOIN_SESSION_KEYRING = 1

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_SYS_CLONE3 = 435  # system calls from 424 on have one number on all architectures
_SYS_OPENAT2 = 437
_SIGCHLD = 17


if TYPE_CHECKING:  # the type stub and the module differ in these three
    _LongBase = _SimpleCData[int]
    _CharBase = _SimpleCData[bytes]
    _PROGRAM = ""
else:
    _LongBase = _CharBase = _SimpleCData
    _PROGRAM = None  # dlopen(NULL): what the interpreter itself is linked with


class _Long(_LongBase):
    _type_ = "l"


class _Int(_LongBase):
    _type_ = "i"


class _Char(_CharBase):
    _type_ = "c"


class _IntFunction(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = _Int  # of a function that returns an int, only these bits are defined


class _PointerFunction(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL
    _restype_ = _Long


_LIBC = dlopen(_PROGRAM, 0)
_functions: dict[str, _IntFunction] = {}


def _converted(arguments: tuple[int | bytes, ...]) -> list[_Long | bytes]:
    """Arguments as a C function takes them: integers as wide as pointers, and bytes by their address."""
    return [_Long(argument) if isinstance(argument, int) else argument for argument in arguments]


def _call(name: str, *arguments: int | bytes) -> int:
    """Call a libc function with integers, addresses, and bytes that it reads; raise OSError when it returns -1."""
    function = _functions.get(name)
    if function is None:
        function = _functions[name] = _IntFunction(dlsym(_LIBC, name))
    result: int = function(*_converted(arguments))
    if result == -1:
        number = get_errno()
        raise OSError(number, os.strerror(number))
    return result


class _Buffer:
    """Bytes at a fixed address, NUL-terminated, for as long as the object lives."""

    def __init__(self, content: bytes) -> None:
        self.memory = bytearray(content + b"\0")
        self._first = _Char.from_buffer(self.memory)  # an array of all would be a type to make
        self.address = addressof(self._first)


def integers(*fields: tuple[int, int]) -> bytes:
    """(value, size in bytes) pairs, one after the other, in the machine's byte order."""
    return b"".join(value.to_bytes(size, sys.byteorder) for value, size in fields)


class Library:
    """A shared library whose functions take integers, pointers and bytes."""

    def __init__(self, name: str) -> None:
        """Raises OSError, whose text says why, where the library cannot be loaded."""
        self._handle = dlopen(name, 0)

    def call(self, name: str, *arguments: int | bytes) -> int:
        """The result of a function that returns an int, or nothing (then any number)."""
        return self._call(_IntFunction, name, arguments)

    def pointer(self, name: str, *arguments: int | bytes) -> int:
        """The result of a function that returns a pointer."""
        return self._call(_PointerFunction, name, arguments)

    def _call(
        self, kind: type[_IntFunction] | type[_PointerFunction], name: str, arguments: tuple[int | bytes, ...]
    ) -> int:
        result: int = kind(dlsym(self._handle, name))(*_converted(arguments))
        return result


def openat2(directory: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """Open `path` below `directory` under the limits of `resolve` (RESOLVE_*); the descriptor is close-on-exec."""
    if b"\0" in path:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    how = integers((flags | os.O_CLOEXEC, 8), (mode, 8), (resolve, 8))
    return _call("syscall", _SYS_OPENAT2, directory, path, how, len(how))


def fork() -> int:
    """fork(2) of a process of one thread; os.fork() takes 0.2 ms more, to count threads and to forget the others."""
    return _call("fork")


def clone3_into_cgroup(cgroup: int) -> int:
    """Fork into the cgroup (version 2) whose directory `cgroup` is open; returns as fork() does."""
    fields = [(CLONE_INTO_CGROUP, 8), (0, 8), (0, 8), (0, 8), (_SIGCHLD, 8), *[(0, 8)] * 5, (cgroup, 8)]
    arguments = integers(*fields)
    return _call("syscall", _SYS_CLONE3, arguments, len(arguments))


def poll(descriptors: list[int], seconds: float) -> list[int]:
    """Wait until one of `descriptors` has something to read, or its other end is closed; return those, or none after `seconds`."""
    data = _Buffer(b"".join(integers((descriptor, 4), (_POLLIN, 2), (0, 2)) for descriptor in descriptors))
    try:
        _call("poll", data.address, len(descriptors), max(0, int(seconds * 1000)))
    except InterruptedError:
        return []  # the caller looks at its deadline, and waits again
    return [
        descriptor for number, descriptor in enumerate(descriptors) if any(data.memory[8 * number + 6 : 8 * number + 8])
    ]


def setns(descriptor: int, kind: int) -> None:
    """Join the namespace behind `descriptor`; `kind` is its CLONE_NEW* constant."""
    _call("setns", descriptor, kind)


def mount(source: bytes, target: bytes, kind: bytes, flags: int, data: bytes = b"") -> None:
    """mount(2)."""
    _call("mount", source, target, kind, flags, data)


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    """prctl(2) with the option's first two arguments."""
    return _call("prctl", option, first, second, 0, 0)


def getrlimit(number: int) -> tuple[int, int]:
    """The calling process's (soft, hard) limit; RLIM_INFINITY where there is none."""
    data = _Buffer(bytes(16))
    _call("prlimit", 0, number, 0, data.address)
    return int.from_bytes(data.memory[:8], sys.byteorder), int.from_bytes(data.memory[8:16], sys.byteorder)


def setrlimit(number: int, soft: int, hard: int) -> None:
    """Set the calling process's limit."""
    _call("prlimit", 0, number, integers((soft, 8), (hard, 8)), 0)


def socket(family: int, kind: int) -> int:
    """socket(2)."""
    return _call("socket", family, kind, 0)


def setsockopt(descriptor: int, level: int, name: int, value: int) -> None:
    """setsockopt(2) of an option that is an int."""
    _call("setsockopt", descriptor, level, name, integers((value, 4)), 4)


def bind(descriptor: int, address: bytes) -> None:
    """bind(2); `address` is a struct sockaddr."""
    _call("bind", descriptor, address, len(address))


def address_family(address: str) -> int:
    """Return AF_INET6 or AF_INET, whichever `address`, an IP address, is of."""
    return AF_INET6 if ":" in address else AF_INET


def is_address(text: str) -> bool:
    """Tell whether `text` is an IPv4 or IPv6 address."""
    try:
        socket_address(address_family(text), text, 0)
    except OSError:
        return False
    return True


def socket_address(family: int, address: str, port: int) -> bytes:
    """struct sockaddr_in or sockaddr_in6 of an IP address and a port. Raises OSError where `address` is none."""
    packed = _Buffer(bytes(16))
    if "\0" in address or _call("inet_pton", family, address.encode("utf-8", "surrogateescape"), packed.address) != 1:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    start = integers((family, 2)) + port.to_bytes(2, "big")
    if family == AF_INET6:
        return start + bytes(4) + bytes(packed.memory[:16]) + bytes(4)
    return start + bytes(packed.memory[:4]) + bytes(8)


def capget() -> tuple[int, int, int]:
    """The calling thread's (effective, permitted, inheritable) capabilities as bit masks."""
    header = integers((_LINUX_CAPABILITY_VERSION_3, 4), (0, 4))
    data = _Buffer(bytes(24))
    _call("capget", header, data.address)
    words = [int.from_bytes(data.memory[i : i + 4], sys.byteorder) for i in range(0, 24, 4)]
    return words[0] | words[3] << 32, words[1] | words[4] << 32, words[2] | words[5] << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the calling thread's capabilities from bit masks."""
    header = integers((_LINUX_CAPABILITY_VERSION_3, 4), (0, 4))
    low, high = 0xFFFFFFFF, 32
    data = integers(
        (effective & low, 4),
        (permitted & low, 4),
        (inheritable & low, 4),
        (effective >> high, 4),
        (permitted >> high, 4),
        (inheritable >> high, 4),
    )
    _call("capset", header, data)


def set_filter(program: bytes, flags: int) -> None:
    """Put the calling process and all that it starts under a seccomp filter, BPF instructions of eight bytes each."""
    code = _Buffer(program)
    header = integers((len(program) // 8, 2), (0, 6), (code.address, 8))
    if flags == 0:
        _call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)
    else:
        _call("syscall", _number(_SYS_SECCOMP), _SECCOMP_SET_MODE_FILTER, flags, header)


def join_new_session_keyring() -> None:
    """Give up the session keyring, with all keys in it, for an empty one."""
    _call("syscall", _number(_SYS_KEYCTL), _KEYCTL_JOIN_SESSION_KEYRING, 0)


def _number(numbers: dict[str, int]) -> int:
    machine = os.uname().machine
    if machine not in numbers:
        raise OSError(errno.ENOEXEC, f"this hook does not know the architecture {machine}")
    return numbers[machine]


def filesystem_type(descriptor: int) -> int:
    """The magic number of the file system that `descriptor` lies on (f_type of fstatfs(2))."""
    buffer = _Buffer(bytes(256))  # struct statfs is 120 bytes or less; f_type, a long, is its first field
    _call("fstatfs", descriptor, buffer.address)
    return int.from_bytes(buffer.memory[:8], sys.byteorder) & 0xFFFFFFFF
