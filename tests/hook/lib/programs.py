"""Programs of this machine for images of the same distribution."""

from __future__ import annotations

import shutil
from pathlib import Path

from containers import run


def add_programs(root: Path, *programs: str) -> None:
    """Put programs, by their paths on this machine, into an image, with the libraries that it lacks."""
    for program in programs:
        (root / program.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(program, root / program.lstrip("/"))
        for line in run(["ldd", program]).checked().text.splitlines():
            library = next((field for field in line.split() if field.startswith("/")), "")
            if library and not (root / library.lstrip("/")).exists():
                shutil.copy(library, root / "usr/lib")


def with_openssh(root: Path) -> None:
    """Put this machine's OpenSSH client into an image."""
    add_programs(root, "/usr/bin/ssh")
