# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls that Python 3.9 lacks, each a thin wrapper with the kernel's name.

Every function raises ``OSError`` with the kernel's errno. Constants are those of Linux's uapi headers.

They use the C part of ``ctypes`` directly: it is part of every ``ctypes``, and imports in a third of the time.
"""

from __future__ import annotations

import errno
import sys
import time
from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, CFuncPtr, _SimpleCData, addressof, dlopen, dlsym, get_errno

from ..fast_stdlib import TYPE_CHECKING, os

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
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

OPEN_TREE_CLONE = 1
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2

RLIM_INFINITY = 2**64 - 1
AT_FDCWD = -100

AF_UNIX = 1
AF_INET = 2
AF_INET6 = 10
SOCK_STREAM = 1
SOCK_DGRAM = 2
SOCK_NONBLOCK = 0o4000
SOCK_CLOEXEC = 0o2000000
SOL_SOCKET = 1
SO_REUSEADDR = 2
IPPROTO_IPV6 = 41
IPV6_V6ONLY = 26
_MSG_NOSIGNAL = 0x4000

_POLLIN = 0x1

PROC_SUPER_MAGIC = 0x9FA0
TMPFS_MAGIC = 0x01021994
# Pseudo file systems (magic.h): a write to one of their files changes the kernel's state.
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

_PR_SET_NAME = 15
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_SECCOMP_SET_MODE_FILTER = 1
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277, "loongarch64": 277, "ppc64le": 358, "s390x": 348}
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219, "ppc64le": 271, "s390x": 280}
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SYS_STATX = {"x86_64": 332, "aarch64": 291, "riscv64": 291, "loongarch64": 291, "ppc64le": 383, "s390x": 379}
_AT_STATX_DONT_SYNC, _STATX_MNT_ID = 0x4000, 0x1000
_STATX_SIZE, _STATX_MOUNT = 256, slice(144, 152)  # struct statx, and stx_mnt_id in it
_SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "loongarch64": 274, "ppc64le": 355, "s390x": 345}
_SYS_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "loongarch64": 30, "ppc64le": 273, "s390x": 282}
_IOPRIO_WHO_PROCESS = 1
_SYS_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "riscv64": 237, "loongarch64": 237, "ppc64le": 261, "s390x": 270}

_MACHINE = os.uname().machine  # read now: the personality LINUX32 hides it
_SO_SNDTIMEO = 19 if _MACHINE.startswith("ppc") else 21
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_CLONE3 = 435  # system calls from 424 have the same number on all architectures
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442
_SIGCHLD = 17


if TYPE_CHECKING:  # the type stubs and the module differ in these three
    _LongBase = _SimpleCData[int]
    _CharBase = _SimpleCData[bytes]
    _PROGRAM = ""
else:
    _LongBase = _CharBase = _SimpleCData
    _PROGRAM = None  # dlopen(NULL): the interpreter and its libraries


class _Long(_LongBase):
    _type_ = "l"


class _Int(_LongBase):
    _type_ = "i"


class _Char(_CharBase):
    _type_ = "c"


class _IntFunction(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = _Int  # the upper half of the register is undefined for a function that returns an int


class _PointerFunction(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL
    _restype_ = _Long


_LIBC = dlopen(_PROGRAM, 0)
_functions: dict[str, _IntFunction] = {}


def _c_arguments(arguments: tuple[int | bytes, ...]) -> list[_Long | bytes]:
    """Convert arguments for a C function: integers to pointer width; bytes are passed by address."""
    return [_Long(argument) if isinstance(argument, int) else argument for argument in arguments]


def _call(name: str, *arguments: int | bytes) -> int:
    """Call a libc function with integers, addresses, and bytes that it reads. Raises OSError if it returns -1."""
    function = _functions.get(name)
    if function is None:
        function = _functions[name] = _IntFunction(dlsym(_LIBC, name))
    result: int = function(*_c_arguments(arguments))
    if result == -1:
        number = get_errno()
        raise OSError(number, os.strerror(number))
    return result


class _Buffer:
    """A NUL-terminated memory area at a fixed `address`, valid for the lifetime of the object."""

    def __init__(self, content: bytes) -> None:
        self.memory = bytearray(content + b"\0")
        self._first = _Char.from_buffer(self.memory)  # for an array, ctypes would have to create a type
        self.address = addressof(self._first)


def integers(*fields: tuple[int, int]) -> bytes:
    """Pack (value, size in bytes) pairs, in the machine's byte order."""
    return b"".join(value.to_bytes(size, sys.byteorder) for value, size in fields)


class Library:
    """A shared library whose functions take integers, pointers and bytes."""

    def __init__(self, name: str) -> None:
        """Load the library `name`. Raises OSError, whose text says why it cannot be loaded."""
        self._handle = dlopen(name, 0)

    def call(self, name: str, *arguments: int | bytes) -> int:
        """Call a function that returns int or void; return its result, which is undefined for void."""
        return self._call(_IntFunction, name, arguments)

    def pointer(self, name: str, *arguments: int | bytes) -> int:
        """Call a function that returns a pointer; return the address."""
        return self._call(_PointerFunction, name, arguments)

    def _call(
        self, kind: type[_IntFunction] | type[_PointerFunction], name: str, arguments: tuple[int | bytes, ...]
    ) -> int:
        result: int = kind(dlsym(self._handle, name))(*_c_arguments(arguments))
        return result


def openat2(directory: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """Open `path` relative to `directory`, restricted by `resolve` (RESOLVE_*); the descriptor is close-on-exec."""
    if b"\0" in path:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    how = integers((flags | os.O_CLOEXEC, 8), (mode, 8), (resolve, 8))
    return _call("syscall", _SYS_OPENAT2, directory, path, how, len(how))


def fork() -> int:
    """Call fork(2), from a process with one thread; os.fork() needs 0.2 ms more for its handling of threads."""
    return _call("fork")


def clone3_into_cgroup(cgroup: int) -> int:
    """Fork a child into the cgroup (version 2) whose directory is open as `cgroup`; return as fork() does."""
    fields = [(CLONE_INTO_CGROUP, 8), (0, 8), (0, 8), (0, 8), (_SIGCHLD, 8), *[(0, 8)] * 5, (cgroup, 8)]
    arguments = integers(*fields)
    return _call("syscall", _SYS_CLONE3, arguments, len(arguments))


def poll(descriptors: list[int], deadline: float) -> list[int]:
    """Wait until some of `descriptors` are readable or at EOF; return these, or none at `deadline` (monotonic)."""
    data = _Buffer(b"".join(integers((descriptor, 4), (_POLLIN, 2), (0, 2)) for descriptor in descriptors))
    while True:
        left = deadline - time.monotonic()
        try:
            ready = _call("poll", data.address, len(descriptors), max(0, int(left * 1000)))
        except InterruptedError:
            ready = 0
        if ready or left <= 0:
            break
    return [
        descriptor for number, descriptor in enumerate(descriptors) if any(data.memory[8 * number + 6 : 8 * number + 8])
    ]


def setns(descriptor: int, kind: int) -> None:
    """Join the namespace behind `descriptor`; `kind` is its CLONE_NEW* constant."""
    _call("setns", descriptor, kind)


def unshare(kind: int) -> None:
    """Move the caller into a new namespace; `kind` is its CLONE_NEW* constant."""
    _call("unshare", kind)


def mount(source: bytes, target: bytes, kind: bytes, flags: int, data: bytes = b"") -> None:
    """Call mount(2)."""
    _call("mount", source, target, kind, flags, data)


def umount(target: bytes, flags: int) -> None:
    """Call umount2(2)."""
    _call("umount2", target, flags)


def open_tree(directory: int, path: bytes, flags: int) -> int:
    """Call open_tree(2), since Linux 5.2; the descriptor is close-on-exec."""
    return _call("syscall", _SYS_OPEN_TREE, directory, path, flags | os.O_CLOEXEC)


def set_mount_attributes(mounted: int, attributes: int) -> None:
    """Call mount_setattr(2), since Linux 5.12: set `attributes` (MOUNT_ATTR_*) of the mount open as `mounted`."""
    changes = integers((attributes, 8), (0, 8), (0, 8), (0, 8))
    _call("syscall", _SYS_MOUNT_SETATTR, mounted, b"", AT_EMPTY_PATH, changes, len(changes))


def move_mount(source: int, target: int) -> None:
    """Call move_mount(2), since Linux 5.2, for the mount open as `source` and the file or directory `target`."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _call("syscall", _SYS_MOVE_MOUNT, source, b"", target, b"", flags)


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    """Call prctl(2) with the first two arguments of `option`."""
    return _call("prctl", option, first, second, 0, 0)


def set_name(name: bytes) -> None:
    """Set the process's name in proc_pid_comm(5), at most 15 bytes; processes that it forks inherit it."""
    _call("prctl", _PR_SET_NAME, name, 0, 0, 0)


def getrlimit(number: int) -> tuple[int, int]:
    """Return the (soft, hard) rlimit of the calling process; RLIM_INFINITY if unlimited."""
    data = _Buffer(bytes(16))
    _call("prlimit", 0, number, 0, data.address)
    return int.from_bytes(data.memory[:8], sys.byteorder), int.from_bytes(data.memory[8:16], sys.byteorder)


def setrlimit(number: int, soft: int, hard: int) -> None:
    """Set an rlimit of the calling process."""
    _call("prlimit", 0, number, integers((soft, 8), (hard, 8)), 0)


def socket(family: int, kind: int) -> int:
    """Call socket(2)."""
    return _call("socket", family, kind, 0)


def setsockopt(descriptor: int, level: int, name: int, value: int) -> None:
    """Call setsockopt(2) for an option of type int."""
    _call("setsockopt", descriptor, level, name, integers((value, 4)), 4)


def bind(descriptor: int, address: bytes) -> None:
    """Call bind(2); `address` is a struct sockaddr."""
    _call("bind", descriptor, address, len(address))


def listen(descriptor: int, backlog: int) -> None:
    """Call listen(2)."""
    _call("listen", descriptor, backlog)


def unix_address(path: str) -> bytes:
    """Return a struct sockaddr_un for the name `path` in the file system."""
    return integers((AF_UNIX, 2)) + path.encode() + b"\0"


def set_send_timeout(descriptor: int, microseconds: int) -> None:
    """Set the timeout of send(2) on a socket, less than a second."""
    timeout = integers((0, 8), (microseconds, 8))
    _call("setsockopt", descriptor, SOL_SOCKET, _SO_SNDTIMEO, timeout, len(timeout))


def connect_to_path(path: str, kind: int) -> int:
    """Return a socket of type `kind` (SOCK_*) that is connected to the Unix socket `path`. Raises OSError."""
    address = unix_address(path)
    descriptor = socket(AF_UNIX, kind | SOCK_CLOEXEC)
    try:
        _call("connect", descriptor, address, len(address))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def send_to_path(path: str, kind: int, data: bytes) -> None:
    """Send `data` to the Unix socket `path` of type `kind` (SOCK_*), without waiting. Raises OSError."""
    descriptor = connect_to_path(path, kind | SOCK_NONBLOCK)
    try:
        _call("send", descriptor, data, len(data), _MSG_NOSIGNAL)
    finally:
        os.close(descriptor)


def address_family(address: str) -> int:
    """Return the address family of the IP address `address`: AF_INET6 or AF_INET."""
    return AF_INET6 if ":" in address else AF_INET


def is_address(text: str) -> bool:
    """Return whether `text` is an IPv4 or IPv6 address."""
    try:
        socket_address(address_family(text), text, 0)
    except OSError:
        return False
    return True


def socket_address(family: int, address: str, port: int) -> bytes:
    """Return a struct sockaddr_in or sockaddr_in6. Raises OSError if `address` is not an IP address."""
    packed = _Buffer(bytes(16))
    if "\0" in address or _call("inet_pton", family, address.encode("utf-8", "surrogateescape"), packed.address) != 1:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    start = integers((family, 2)) + port.to_bytes(2, "big")
    if family == AF_INET6:
        return start + bytes(4) + bytes(packed.memory[:16]) + bytes(4)
    return start + bytes(packed.memory[:4]) + bytes(8)


def capget() -> tuple[int, int, int]:
    """Return the (effective, permitted, inheritable) capabilities of the calling thread as bit masks."""
    header = integers((_LINUX_CAPABILITY_VERSION_3, 4), (0, 4))
    data = _Buffer(bytes(24))
    _call("capget", header, data.address)
    words = [int.from_bytes(data.memory[i : i + 4], sys.byteorder) for i in range(0, 24, 4)]
    return words[0] | words[3] << 32, words[1] | words[4] << 32, words[2] | words[5] << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the capabilities of the calling thread, given as bit masks."""
    header = integers((_LINUX_CAPABILITY_VERSION_3, 4), (0, 4))
    words = [mask >> shift & 0xFFFFFFFF for shift in (0, 32) for mask in (effective, permitted, inheritable)]
    _call("capset", header, integers(*((word, 4) for word in words)))


def raise_capabilities() -> None:
    """Make the permitted capabilities of the calling thread effective."""
    _effective, permitted, inheritable = capget()
    capset(permitted, permitted, inheritable)


def set_filter(program: bytes, flags: int) -> None:
    """Install a seccomp filter, BPF instructions of eight bytes each; `flags` are those of seccomp(2)."""
    code = _Buffer(program)
    header = integers((len(program) // 8, 2), (0, 6), (code.address, 8))
    if flags == 0:
        _call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)
    else:
        _call("syscall", _syscall_number(_SYS_SECCOMP), _SECCOMP_SET_MODE_FILTER, flags, header)


def join_new_session_keyring() -> None:
    """Replace the session keyring of the calling process by a new, empty one."""
    _call("syscall", _syscall_number(_SYS_KEYCTL), _KEYCTL_JOIN_SESSION_KEYRING, 0)


def sched_setattr(attributes: bytes) -> None:
    """Set scheduling policy and attributes of the calling process; `attributes` is a struct sched_attr."""
    _call("syscall", _syscall_number(_SYS_SCHED_SETATTR), 0, attributes, 0)


def ioprio_set(priority: int) -> None:
    """Set the I/O priority of the calling process; `priority` has the class too (IOPRIO_PRIO_VALUE)."""
    _call("syscall", _syscall_number(_SYS_IOPRIO_SET), _IOPRIO_WHO_PROCESS, 0, priority)


def ioprio_get(pid: int) -> int:
    """Return the I/O priority of the process `pid`, with its class."""
    number = _syscall_number(_SYS_IOPRIO_SET) + 1  # ioprio_get(2) follows ioprio_set(2) on each architecture
    return _call("syscall", number, _IOPRIO_WHO_PROCESS, pid)


def set_mempolicy(mode: int, nodes: int) -> None:
    """Set the NUMA memory policy of the calling process; `nodes` is a mask of at most 1024 nodes, 0 for none."""
    mask = integers(*((nodes >> shift & 2**64 - 1, 8) for shift in range(0, 1024, 64)))
    arguments = (mask, 8 * len(mask) + 1) if nodes else (0, 0)  # the kernel uses one bit less than this number
    _call("syscall", _syscall_number(_SYS_SET_MEMPOLICY), mode, *arguments)


def personality(persona: int) -> None:
    """Set the execution domain of the calling process."""
    _call("personality", persona)


def _syscall_number(numbers: dict[str, int]) -> int:
    if _MACHINE not in numbers:
        raise OSError(errno.ENOEXEC, f"this hook does not support the architecture {_MACHINE}")
    return numbers[_MACHINE]


def mount_id(descriptor: int) -> int | None:
    """Return the id of the mount that `descriptor` is on, by statx(2); None before Linux 5.8. Raises OSError."""
    found = _Buffer(bytes(_STATX_SIZE))
    flags = AT_EMPTY_PATH | _AT_STATX_DONT_SYNC
    _call("syscall", _syscall_number(_SYS_STATX), descriptor, b"", flags, _STATX_MNT_ID, found.address)
    if not int.from_bytes(found.memory[:4], sys.byteorder) & _STATX_MNT_ID:
        return None
    return int.from_bytes(found.memory[_STATX_MOUNT], sys.byteorder)


def filesystem_type(descriptor: int) -> int:
    """Return the magic number of the file system that `descriptor` is on (f_type of fstatfs(2))."""
    buffer = _Buffer(bytes(256))  # struct statfs is 120 bytes or less; f_type, a long, is its first field
    _call("fstatfs", descriptor, buffer.address)
    return int.from_bytes(buffer.memory[:8], sys.byteorder) & 0xFFFFFFFF
