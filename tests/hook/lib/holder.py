"""Holds a lock of the kernel's without end, as an unprivileged user: a program for `held.py`, run from its text.

    holder.py ACTION[,ACTION...] PATH SECONDS

Actions: list, a directory; write, a regular file; queue, after list: wait for the directory's lock as a writer; read:
the page of a file on the FUSE mount below; map, after read: hold the lock of the memory of a process called dropbear;
exec: execute a program with an open file of the FUSE mount, close-on-exec, whose server never answers that it is
closed: readers of some files of this process in /proc wait; mount: a file system of FUSE's on a directory or file, in a
mount namespace of the user's own, for which whoever lets go of it last waits; request: the same for a mounted one whose
/dev/fuse is open as the descriptor PATH.

The kernel copies to and from a caller's buffer while it holds the lock of an inode. Here the buffer is a page of a file
on a FUSE mount of the caller's own, whose server never answers the read that the copy waits for.

The kernel closes such a file during execve(2), while it holds the process's exec_update_lock.

To map a file for direct I/O, the kernel drops the file's cached pages while it holds the lock of the process's memory
(mmap_lock), and waits for those that are still being read. Who reads the process's cmdline or environ waits, too.

Whoever lets go of a FUSE file system last waits until its server has let go of requests that it reads at this moment:
here it reads the first one into such a page.

The program prints one line when the lock is held. When it ends, by SIGKILL or after SECONDS, the kernel aborts the
FUSE connection, the copy fails, and the lock is free again. Its standard output ends with the last of its processes.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import struct
import sys
import time

PAGE = mmap.PAGESIZE
MOUNT_POINT = "/etc/passwd"  # any file: it is covered in the mount namespace of this program alone
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_NOSUID, MS_NODEV = 2, 4

# include/uapi/linux/fuse.h
GETATTR, OPEN, READ, FLUSH, INIT = 3, 14, 15, 25, 26
REQUEST = struct.Struct("=IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, padding
REPLY = struct.Struct("=IiQ")  # length, error, unique
INIT_REPLY = struct.Struct("=IIIIHHI")  # of protocol 7.22, which is the last one with so short a reply
ATTRIBUTES = struct.Struct("=QII6Q10I")
OPEN_REPLY = struct.Struct("=QII")
FOPEN_DIRECT_IO = 1
ENOSYS = 38
MOST_READ = 1 << 17  # bytes of a request

PR_SET_DUMPABLE, PR_SET_NAME = 4, 15

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> int:
    """Return the result of a C function. Raises OSError where it failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def unshare() -> None:
    """Be in a new user and mount namespace, with all capabilities there."""
    uid, gid = os.getuid(), os.getgid()
    check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def mount(path: str) -> int:
    """Mount a FUSE file system on a directory or file; return the descriptor of its server."""
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    mode = "40700" if os.path.isdir(path) else "100600"
    options = f"fd={server},rootmode={mode},user_id={os.getuid()},group_id={os.getgid()}"
    check(libc.mount(b"fuse", path.encode(), b"fuse", MS_NOSUID | MS_NODEV, options.encode()))
    return server


def serve(server: int, asked: int, last: int, deadline: float) -> None:
    """Answer requests until one has the opcode `last`; tell that to `asked`, and answer nothing from then on."""
    uid, gid = os.getuid(), os.getgid()
    attributes = ATTRIBUTES.pack(3600, 0, 0, 1, PAGE, 8, 0, 0, 0, 0, 0, 0, 0o100600, 1, uid, gid, 0, PAGE, 0)
    answers = {
        INIT: INIT_REPLY.pack(7, 22, 0, 0, 1, 1, PAGE),
        GETATTR: attributes,
    }
    opened = 0
    while (left := deadline - time.monotonic()) > 0 and select.select([server], [], [], left)[0]:
        _length, opcode, unique, *_rest = REQUEST.unpack_from(os.read(server, MOST_READ))
        if opcode == last:
            os.write(asked, b"r")
            time.sleep(max(0.0, deadline - time.monotonic()))
            return
        data = answers.get(opcode, b"")
        if opcode == OPEN:
            opened += 1
            data = OPEN_REPLY.pack(1, FOPEN_DIRECT_IO if opened == 2 else 0, 0)
        os.write(server, REPLY.pack(REPLY.size + len(data), 0 if data else -ENOSYS, unique) + data)


def unanswered_page() -> int:
    """Return the address of a page whose content the kernel waits for as long as the server lives."""
    descriptor = os.open(MOUNT_POINT, os.O_RDONLY | os.O_CLOEXEC)
    os.fstat(descriptor)  # the kernel asks for the size only then
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    address: int = libc.mmap(None, PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, descriptor, 0)
    return address


def list_directory(path: str) -> None:
    """Hold a directory's lock, shared: nobody can make, rename or remove anything in it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    libc.getdents64(descriptor, ctypes.c_void_p(unanswered_page()), PAGE)


def write_file(path: str) -> None:
    """Hold a regular file's lock: nobody can write to it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    libc.write(descriptor, ctypes.c_void_p(unanswered_page()), PAGE)


def read_page(_path: str) -> None:
    """Read the file on the FUSE mount, whose page the kernel locks until it has been read."""
    os.read(CACHED, PAGE)


def hold_memory(_path: str) -> None:
    """Hold the lock of the memory of this process, which is called dropbear from then on."""
    libc.prctl(PR_SET_NAME, b"dropbear", 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # else its environ would be refused at once
    libc.mmap(None, ctypes.c_size_t(PAGE), mmap.PROT_READ, mmap.MAP_PRIVATE, DIRECT, ctypes.c_long(0))


def read_request(descriptor: str) -> None:
    """Read the first request of a file system, INIT, without end."""
    libc.read(int(descriptor), ctypes.c_void_p(unanswered_page()), MOST_READ)


def mount_and_read(path: str) -> None:
    """Mount a file system on `path`, and read its first request without end."""
    read_request(str(mount(path)))


def execute(path: str) -> None:
    """Execute the program `path` with an open file on the FUSE mount. This process is called silent from now on."""
    os.open(MOUNT_POINT, os.O_RDONLY | os.O_CLOEXEC)
    libc.prctl(PR_SET_NAME, b"silent", 0, 0, 0)
    os.execv(path, [path])


def make_and_remove(path: str) -> None:
    """Queue for a directory's lock as a writer, behind whom readers queue too."""
    os.mkdir(f"{path}/queued")
    os.rmdir(f"{path}/queued")


def start(action: str, path: str) -> int:
    """Run ACTIONS[action] in a child; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            ACTIONS[action](path)
        finally:
            os._exit(0)
    return pid


def wait_until_queued(pid: int) -> None:
    """Return when the process sleeps for longer than any disk takes, and no signal could wake it."""
    waits = 0
    while waits < 20:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            waits = waits + 1 if file.read().rpartition(")")[2].split()[0] == "D" else 0
        time.sleep(0.001)


ACTIONS = {
    "list": list_directory,
    "write": write_file,
    "queue": make_and_remove,
    "exec": execute,
    "read": read_page,
    "map": hold_memory,
    "mount": mount_and_read,
    "request": read_request,
}
CACHED, DIRECT = 100, 101  # descriptors of the file on the FUSE mount, after `open_both`


def open_both() -> None:
    """Open the file on the FUSE mount through the page cache, and for direct I/O (see `serve`)."""
    for descriptor in (CACHED, DIRECT):
        opened = os.open(MOUNT_POINT, os.O_RDONLY | os.O_CLOEXEC)
        os.fstat(opened)  # the kernel asks for the size only then
        os.dup2(opened, descriptor)


def main() -> int:
    actions, path, seconds = sys.argv[1:]
    holder, *queued = actions.split(",")
    unshare()
    server = mount(MOUNT_POINT)
    reader, asked = os.pipe()
    if os.fork() == 0:
        os.close(server)  # of the process that serves alone: its end is the connection's
        os.close(asked)
        try:
            if holder == "read":
                open_both()
            start(holder, path)
            if os.read(reader, 1):
                for action in queued:
                    wait_until_queued(start(action, path))
                print("held", flush=True)
        finally:
            os._exit(0)
    serve(server, asked, FLUSH if holder == "exec" else READ, time.monotonic() + float(seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
