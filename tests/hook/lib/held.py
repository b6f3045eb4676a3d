"""Directories and files whose inode lock alice holds without end: see holder.py."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from containers import ALICE, as_user

_LIFETIME = 60  # seconds; then the lock is free, whatever became of the test
_PROGRAM = Path(__file__).with_name("holder.py")

# What alice does to a path
NO_CHANGES = "list"  # to a directory: what makes or removes a name in it waits
NO_LOOKUPS = "list,queue"  # so does what looks up a name that the kernel has not cached
NO_WRITES = "write"  # to a regular file


@contextmanager
def held(path: Path, how: str) -> Iterator[None]:
    """Meanwhile one of alice's processes holds the lock of the inode of `path`, in the way `how`."""
    program = _PROGRAM.read_text(encoding="utf-8")  # alice need not be able to read the checkout
    command = as_user(ALICE, "/usr/bin/python3", "-ISBc", program, how, str(path), str(_LIFETIME))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"held\n", f"{path} could not be held"
            yield
        finally:
            server.kill()
            server.stdout.read()  # ends with the last process that held the lock or queued for it
