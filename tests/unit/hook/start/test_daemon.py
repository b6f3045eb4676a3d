"""The process that becomes Dropbear: what it lets go of, and that the programs are the node's own."""

from __future__ import annotations

import os
import posix
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ssh_hook.errors import HookError
from ssh_hook.keys.passwd import Entry
from ssh_hook.start import daemon, enter, server
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


InNamespaces = Callable[[Callable[[], object]], Any]


def test_it_keeps_only_what_it_needs_and_passes_none_of_that_on(in_namespaces: InNamespaces) -> None:
    def work() -> list[object]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.set_inheritable(writer, True)
            daemon._detach(os.open("/dev/null", os.O_RDWR), {writer})
            left = {int(name) for name in os.listdir("/proc/self/fd")} - {writer}
            links = {os.readlink(f"/proc/self/fd/{number}") for number in left if number < 3}
            os.write(writer, repr([os.get_inheritable(writer), os.getsid(0) == os.getpid(), len(left), links]).encode())
            os._exit(0)
        os.waitpid(child, 0)
        return os.read(reader, 4096)

    assert in_namespaces(work) == b"[False, True, 4, {'/dev/null'}]"  # one is that of /proc/self/fd


def test_the_oom_score_is_the_containers(in_namespaces: InNamespaces) -> None:
    file = Path("/proc/self/oom_score_adj")

    def work() -> list[int]:
        found = []
        for score in (700, None, 0, 300):
            daemon._adjust_oom_score(score)
            found.append(int(file.read_text(encoding="ascii")))
        lowest = int(file.read_text(encoding="ascii"))
        daemon._adjust_oom_score(-1000)  # without the right to lower it so far
        return [*found, int(file.read_text(encoding="ascii")) == lowest]

    assert in_namespaces(work) == [700, 700, 0, 300, True]


@pytest.mark.parametrize(("dumpable", "is_refused"), [("0\n", False), ("1\n", True), ("2\n", False)])
def test_a_node_where_users_could_trace_it(monkeypatch: pytest.MonkeyPatch, dumpable: str, is_refused: bool) -> None:
    monkeypatch.setattr(server, "read_file", {"/proc/sys/fs/suid_dumpable": dumpable.encode()}.__getitem__)
    with pytest.raises(HookError, match=r"^the node's fs\.suid_dumpable is 1") if is_refused else nullcontext():
        server.require_undumpable()


@pytest.mark.parametrize("place", ["/dev/null", "/dev/zero", "/etc/passwd", "/no/such/file"])
def test_the_null_device_is_one(place: str) -> None:
    root: Any = SimpleNamespace(open=lambda _path, flags: os.open(place, flags))
    is_right = place == "/dev/null"
    with nullcontext() if is_right else pytest.raises(HookError, match=r"^(cannot open )?/dev/null in the container"):
        os.close(enter._open_null(root))
