"""Paths below a container's root directory, which others may rename."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ssh_hook.errors import HookError
from ssh_hook.linux import fast_stdlib, rootfs
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

    container = Rootfs(os.open(root, os.O_PATH), Identity(os.getuid(), os.getgid()))
    directory = os.open(root / "usr/lib", os.O_PATH)
    try:
        assert container._place(directory) == "/usr/lib"
        assert container._place(container.descriptor) == ""
        before_read(2, rename, monkeypatch)
        with pytest.raises(HookError, match=r"^/home/x/usr/lib in the container was moved"):
            container._place(directory)
    finally:
        os.close(directory)
        os.close(container.descriptor)


def test_volume_that_shows_a_directory_is_not_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After such a rename it may be found in a volume that shows the image itself."""
    (tmp_path / "usr").mkdir()
    container = Rootfs(os.open(tmp_path, os.O_PATH), Identity(os.getuid(), os.getgid()))
    directory = os.open(tmp_path / "usr", os.O_PATH)
    monkeypatch.setattr(rootfs, "mount_id", lambda descriptor: b"1" if descriptor == directory else b"2")
    try:
        with pytest.raises(HookError, match=r"^/usr in the container was moved"):
            container._place(directory)
    finally:
        os.close(directory)
        os.close(container.descriptor)
