"""The login shells that sessions are tried with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from containers import ALICE


class Shell(NamedTuple):
    """A login shell, the image that has it, and what a distribution's zsh reads at login."""

    image: str
    path: str
    zprofile: str = ""


SHELLS = {
    "bash": Shell("debian", "/bin/bash"),
    "dash": Shell("debian", "/bin/dash"),
    "zsh": Shell("debian", "/bin/zsh"),
    "zsh-profile": Shell("debian", "/bin/zsh", "emulate sh -c 'source /etc/profile'\n"),
    "busybox": Shell("busybox", "/bin/sh"),
}


def with_shell(shell: Shell) -> object:
    def prepare(root: Path) -> None:
        (root / "etc").mkdir(exist_ok=True)
        with (root / "etc/passwd").open("a", encoding="utf-8") as file:
            file.write(f"alice:x:{ALICE}:{ALICE}::/home/alice:{shell.path}\n")
        if shell.zprofile:
            (root / "etc/zsh/zprofile").write_text(shell.zprofile, encoding="utf-8")

    return prepare
