"""The SELinux types of the engine's processes and of the hook's, the domains, while they run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from containers import LAUNCHER
from labels import label

_PAUSE = 0.01  # seconds; the hook runs for ten times as long
PROGRAMS = ("conmon", "crun", "podman", "runc")


class Domains:
    """What was seen: each program's labels. The hook's are those of `hook`."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, str], str] = {}
        self._end = threading.Event()
        self._before = set(os.listdir("/proc"))

    def watch(self) -> None:
        """Look until `end` at the processes that have begun since this object was made."""
        while not self._end.wait(_PAUSE):
            for name in set(os.listdir("/proc")) - self._before:
                try:
                    program = _program(name)
                    found = label(int(name)) if program else ""
                    if program and _program(name) == program:  # exec(2) changes both
                        self._last[int(name), program] = found
                except OSError:
                    continue  # it ended meanwhile

    def __repr__(self) -> str:
        return repr(sorted((program, pid, text) for (pid, program), text in self._last.items()))

    def end(self) -> None:
        self._end.set()

    def of(self, program: str) -> set[str]:
        return {found for (_pid, name), found in self._last.items() if name == program}


def _program(pid: str) -> str:
    """The program that the process runs, if it is one of the engine's or the hook; empty otherwise.

    By its command line: crun runs a copy of itself, which has another name.
    """
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    if LAUNCHER.encode() in words[:3]:  # Python, its options
        return "hook"
    name = os.path.basename(os.fsdecode(words[0]))
    return name if name in PROGRAMS else ""


@contextmanager
def watched() -> Iterator[Domains]:
    """Watch what runs meanwhile."""
    domains = Domains()
    thread = threading.Thread(target=domains.watch)
    thread.start()
    try:
        yield domains
    finally:
        domains.end()
        thread.join()
