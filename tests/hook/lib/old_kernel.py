"""Kernels that lack the newer system calls: a filter answers ENOSYS to each of them, to the hook alone."""

from __future__ import annotations

from pathlib import Path

from containers import LAUNCHER

# Their numbers are the same on all architectures.
CALLS = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
WRAPPER = f"""#!/usr/bin/python3 -IS
import ctypes, os, struct, sys
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ENOSYS = 0x7FFF0000, 0x00050000 | 38
numbers = {list(CALLS.values())}
program = [(LOAD_NUMBER, 0, 0, 0)]
program += [(JUMP_IF_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ENOSYS)]
code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
buffer = ctypes.create_string_buffer(code)
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, ctypes.byref(filter), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    raise OSError(ctypes.get_errno(), "no filter")
os.execv(sys.argv[2], sys.argv[2:]) if sys.argv[1] == "run" else os.execv({LAUNCHER!r}, sys.argv)
"""


def write_wrapper(path: Path) -> str:
    """Write a launcher that runs the hook as on an old kernel; returns its path."""
    path.write_text(WRAPPER, encoding="utf-8")
    path.chmod(0o755)
    return str(path)
