"""File systems that do not answer: alice holds the lock of an inode (see holder.py), or a FUSE server is mute."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from containers import ALICE, SILENT, as_user, run

_LIFETIME = 60  # seconds; then the lock is free, whatever became of the test
_PROGRAM = Path(__file__).with_name("holder.py")

# What alice does to a path
NO_CHANGES = "list"  # to a directory: what makes or removes a name in it waits
NO_LOOKUPS = "list,queue"  # so does what looks up a name that the kernel has not cached
NO_WRITES = "write"  # to a regular file
NO_MEMORY = "read,map,map,map"  # of three processes called dropbear, whatever the path is: their cmdline
NO_END = "mount"  # mounts a file system on a name, in a mount namespace of her own: who removes the name waits
NO_ANSWERS = "exec"  # executes the program without end: readers of some of its files in /proc wait (`silent_pid`)
_NO_UNMOUNT = "request"
_MNT_DETACH = 2  # of umount(2)


@contextmanager
def held(
    path: Path | str, how: str, uid: int = ALICE, pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Meanwhile one of the user's processes holds the lock of the inode of `path`, in the way `how`: the yielded one.

    It has ended where somebody has waited for it.
    """
    program = _PROGRAM.read_text(encoding="utf-8")  # the user need not be able to read the checkout
    command = as_user(uid, "/usr/bin/python3", "-ISBc", program, how, str(path), str(_LIFETIME))
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=pass_fds) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"held\n", f"{path} could not be held"
            yield server
        finally:
            server.kill()
            server.stdout.read()  # ends with the last process that held the lock or queued for it


def silent_pid() -> int:
    """The process that NO_ANSWERS has made: its comm can be read."""
    (pid,) = (
        path.parent.name for path in Path("/proc").glob("[0-9]*/comm") if path.read_text("utf-8") == f"{SILENT}\n"
    )
    return int(pid)


@contextmanager
def never_let_go(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Meanwhile a file system of alice's is on the directory `path`, as by fusermount: who unmounts it waits."""
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40700,user_id={ALICE},group_id={ALICE},allow_other"
    run(["mount", "-i", "-t", "fuse", "-o", options, "none", path], pass_fds=[server]).checked()
    with held(str(server), _NO_UNMOUNT, pass_fds=[server]) as process:
        os.close(server)
        yield process


@contextmanager
def private_fuse(path: Path) -> Iterator[None]:
    """Meanwhile a file system of alice's is mounted on the directory `path` that, as by default, only she may use.

    mount(8) would look at it, which root may not.
    """
    libc = ctypes.CDLL(None)
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40700,user_id={ALICE},group_id={ALICE}"
    try:
        assert libc.mount(b"none", bytes(path), b"fuse", 0, options.encode()) == 0
        yield
    finally:
        os.close(server)
        assert libc.umount2(bytes(path), _MNT_DETACH) == 0


@contextmanager
def unanswered(path: Path) -> Iterator[None]:
    """Meanwhile a file system of alice's is mounted on the directory `path` whose server never answers."""
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40700,user_id={ALICE},group_id={ALICE},allow_other"
    try:
        run(["mount", "-i", "-t", "fuse", "-o", options, "none", path], pass_fds=[server]).checked()
        yield
    finally:
        os.close(server)  # what waits for it fails
        run(["umount", path]).checked()
