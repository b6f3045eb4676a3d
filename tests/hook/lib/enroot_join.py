"""Does as a task of pyxis: joins a container of enroot, and executes a program late.

Usage: enroot_join.py PID COMMAND...

It loads a seccomp filter as pyxis does, says "joined", and waits for the end of its standard input, as a task waits for
Slurm's TaskProlog. Until it executes COMMAND it has all capabilities over the container's user namespace.
"""

from __future__ import annotations

import ctypes
import os
import sys

from enroot_filter import load_filter

_LIBC = ctypes.CDLL(None, use_errno=True)


def main(pid: int, *command: str) -> None:
    """Join, wait, execute."""
    for descriptor in [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in ("user", "mnt")]:
        if _LIBC.setns(descriptor, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    load_filter()
    os.write(1, b"joined\n")
    while os.read(0, 1):
        pass
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
