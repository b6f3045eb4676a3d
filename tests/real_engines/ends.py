"""Prints how many seconds the daemon on this node outlives the task `sleep 4351`; runs on the node."""

from __future__ import annotations

import time
from pathlib import Path


def names() -> set[str]:
    """Return the names of alice's processes of interest: task, daemon and watcher."""
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
            if program in ("dropbear", "ssh_hook"):
                found.add(program)
    return found


def main() -> None:
    """Wait for all, then for the end of the task, then for that of the others."""
    while not {"task", "dropbear", "ssh_hook"} <= names():
        time.sleep(0.05)
    while "task" in names():
        time.sleep(0.01)
    ended = time.monotonic()
    while names() & {"dropbear", "ssh_hook"}:
        time.sleep(0.01)
    print(f"{time.monotonic() - ended:.2f}")


if __name__ == "__main__":
    main()
