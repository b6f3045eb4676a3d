"""Paths below a container's root directory, which others may rename."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ssh_hook.errors import HookError
from ssh_hook.linux import fast_stdlib
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.rootfs import Rootfs


def before_read(number: int, do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something right before a link of /proc is read for the nth time."""
    read, reads = fast_stdlib.os.readlink, 0

    def readlink(path: str) -> str:
        nonlocal reads
        reads += 1
        if reads == number:
            do()
        return read(path)

    monkeypatch.setattr(fast_stdlib.os, "readlink", readlink)


@pytest.mark.parametrize("link", [False, True])
def test_renamed_root_does_not_change_the_place_of_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    """By its place it is decided whether root may make a home there: not among an image's programs."""
    root, other = tmp_path / "image/rootfs", tmp_path / "other"
    (root / "usr/lib").mkdir(parents=True)
    if link:
        (root / "home").mkdir()
        (root / "home/x").symlink_to("..")

    def rename() -> None:
        (tmp_path / "image").rename(other)
        (root / "home").mkdir(parents=True)
        (other / "rootfs").rename(root / "home/x")

    rootfs = Rootfs(os.open(root, os.O_PATH), Identity(os.getuid(), os.getgid()))
    directory = os.open(root / "usr/lib", os.O_PATH)
    try:
        assert rootfs._place(directory) == "/usr/lib"
        assert rootfs._place(rootfs.descriptor) == ""
        before_read(2, rename, monkeypatch)
        with pytest.raises(HookError, match=r"^/home/x/usr/lib in the container was moved"):
            rootfs._place(directory)
    finally:
        os.close(directory)
        os.close(rootfs.descriptor)
