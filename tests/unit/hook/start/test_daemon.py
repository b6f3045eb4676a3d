"""Dropbear's programs are the node's own, wherever a path in the container leads."""

from __future__ import annotations

import os
import posix
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from ssh_hook.errors import HookError
from ssh_hook.keys.passwd import Entry
from ssh_hook.start import daemon
from ssh_hook.start.server import Programs


class There:
    """Stands in for the container, in which the path of the programs leads to `directory`."""

    def __init__(self, directory: Path) -> None:
        self.rootfs = self
        self._directory = directory

    def open(self, _path: str, flags: int) -> int:
        return os.open(self._directory, flags)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The directory of the node's."""
    directory = tmp_path / "node"
    directory.mkdir()
    (directory / "dropbearmulti").write_bytes(b"")
    (directory / "dropbearmulti").chmod(0o111)
    (directory / "dropbear").symlink_to("dropbearmulti")
    return directory


def the_same_file_elsewhere(node: Path, other: Path) -> None:
    os.link(node / "dropbearmulti", other / "dropbearmulti")


def a_link_to_it(node: Path, other: Path) -> None:
    (other / "dropbearmulti").symlink_to(node / "dropbearmulti")


def another_file(_node: Path, other: Path) -> None:
    (other / "dropbearmulti").write_bytes(b"")


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is looked at is on a read-only mount."""
    monkeypatch.setattr(posix, "fstatvfs", lambda _descriptor: SimpleNamespace(f_flag=os.ST_RDONLY))


def test_the_nodes_own_directory(node: Path, read_only: None) -> None:
    os.close(daemon._open_programs(cast(Entry, There(node)), Programs(str(node))))


@pytest.mark.parametrize("make", [the_same_file_elsewhere, a_link_to_it, another_file])
def test_another_directory(tmp_path: Path, node: Path, read_only: None, make: Callable[[Path, Path], None]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make(node, other)
    with pytest.raises((HookError, OSError), match=r"was moved during setup|symbolic links"):
        daemon._open_programs(cast(Entry, There(other)), Programs(str(node)))


def test_a_mount_that_can_be_written(node: Path) -> None:
    with pytest.raises(HookError, match="was moved during setup"):
        daemon._open_programs(cast(Entry, There(node)), Programs(str(node)))


def test_a_link_out_of_the_directory(tmp_path: Path, node: Path) -> None:
    (node / "dropbear").unlink()
    (node / "dropbear").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(b"")
    with pytest.raises(HookError, match="is a link out of its directory"):
        Programs(str(node))


def test_another_release_is_installed_meanwhile(tmp_path: Path, node: Path) -> None:
    (tmp_path / "installed").symlink_to(node)
    programs = Programs(str(tmp_path / "installed"))
    (tmp_path / "installed").unlink()
    (tmp_path / "installed").symlink_to(tmp_path)
    assert os.path.samestat(os.stat(programs.path), programs.directory)


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o511, 0o155])
def test_a_program_that_can_be_read(node: Path, mode: int) -> None:
    (node / "dropbearmulti").chmod(mode)
    with pytest.raises(HookError, match=r"^users can read"):
        Programs(str(node))
