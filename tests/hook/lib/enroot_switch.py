"""Does as the program by which enroot switches the root: the last part of enroot_start.sh.

Usage: enroot_switch.py ENVIRONMENT-FILE ROOTFS COMMAND...
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from pathlib import Path

from enroot_filter import load_filter

_LIBC = ctypes.CDLL(None, use_errno=True)
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[platform.machine()]
_MNT_DETACH = 2
_MS_REC, _MS_SLAVE = 0x4000, 0x80000
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_CAPABILITY_VERSION_3 = 0x20080522


def check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def hold(steps: int, step: str) -> None:
    """Say that this step is reached, and wait as long as a test wants."""
    os.close(os.open(f"at-{step}", os.O_CREAT | os.O_WRONLY, dir_fd=steps))
    while f"hold-{step}" in os.listdir(steps):
        time.sleep(0.005)


def switch_root(rootfs: str) -> None:
    old, new = os.open("/", os.O_RDONLY), os.open(rootfs, os.O_RDONLY)
    os.fchdir(new)
    check(_LIBC.syscall(_PIVOT_ROOT, b".", b"."))
    os.fchdir(old)
    check(_LIBC.mount(None, b".", None, _MS_REC | _MS_SLAVE, None))
    check(_LIBC.umount2(b".", _MNT_DETACH))
    os.fchdir(new)
    os.chroot(".")
    os.close(old)
    os.close(new)


def drop_capabilities() -> None:
    if os.geteuid() == 0:
        return
    for number in range(41):
        check(_LIBC.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    check(_LIBC.capset(header, (ctypes.c_uint32 * 6)()))


def main(environment_file: str, rootfs: str, *command: str) -> None:
    lines = Path(environment_file).read_text(encoding="utf-8").splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    steps = os.open(os.environ["STEPS"], os.O_RDONLY)
    hold(steps, "switch")
    switch_root(rootfs)
    check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    hold(steps, "drop")
    drop_capabilities()
    for _filter in range(int(os.environ["FILTERS"])):
        load_filter()
    hold(steps, "exec")
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main(*sys.argv[1:])
