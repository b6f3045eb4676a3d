"""Prints how many seconds the daemon on this node outlives the task `sleep 4351`; runs on the node.

Usage: ends.py PROGRAM...    names of the hook's processes that a container has
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

DAEMONS = set(sys.argv[1:])


def names() -> set[str]:
    """Return the names of alice's processes of interest: the task and the hook's."""
    found = set()
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                line = (directory / "cmdline").read_bytes()
                program = (directory / "comm").read_text(encoding="ascii").strip()
            except OSError:
                continue  # it has ended
            if line.endswith(b"\x004351\x00"):
                found.add("task" if b"sleep" in line.split(b"\0")[0] else "other")
            if program in DAEMONS:
                found.add(program)
    return found


def main() -> None:
    """Wait for all, then for the end of the task, then for that of the others."""
    while not {"task", *DAEMONS} <= names():
        time.sleep(0.05)
    while "task" in names():
        time.sleep(0.01)
    ended = time.monotonic()
    while names() & DAEMONS:
        time.sleep(0.01)
    print(f"{time.monotonic() - ended:.2f}")


if __name__ == "__main__":
    main()
