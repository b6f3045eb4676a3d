"""Which running container a step of pyxis joins: one of the same user, in the same root file system."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ssh_hook.start import joined
from ssh_hook.start.joined import find_joined

MINE = os.geteuid()
SERVER = "/opt/oci-hooks/ssh/dropbear/bin/dropbear"


class OneProcess:
    """A process as others see it in /proc."""

    def __init__(self, pid: int, root: str, uid: int = MINE, name: str = "sh", arguments: str = "") -> None:
        self.pid = pid
        self._uid = uid
        self._files = {
            "mountinfo": f"{pid // 10}0 7 {root} / rw - ext4 x rw\n{pid // 10}1 7 0:5 / /proc rw - proc x rw\n",
            "comm": f"{name}\n",
            "cmdline": arguments.replace(" ", "\0") + "\0",
        }

    def read(self, name: str) -> bytes:
        return self._files[name].encode()

    def uid(self) -> int:
        return self._uid

    def start_time(self) -> int:
        return self.pid


@pytest.fixture
def rootfs(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory, and the device and path of its mount as in mountinfo."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    directory = os.open(tmp_path, os.O_PATH)
    number = joined.mount_id(directory).decode()
    os.close(directory)
    (fields,) = (fields for fields in lines if fields[0] == number)
    yield tmp_path, f"{fields[2]} {fields[3]}"


def show(monkeypatch: pytest.MonkeyPatch, processes: Sequence[OneProcess]) -> None:
    monkeypatch.setattr(joined, "all_processes", lambda: iter(processes))


def test_the_same_user_in_the_same_root(monkeypatch: pytest.MonkeyPatch, rootfs: tuple[Path, str]) -> None:
    path, root = rootfs
    daemon = OneProcess(52, root, name="dropbear", arguments=f"{SERVER} -F -p 15263 -P pid")
    show(monkeypatch, [OneProcess(31, "9:9 /elsewhere"), OneProcess(51, root), daemon])
    found = find_joined(str(path))
    assert found is not None and found.mount == b"50"
    assert found.has_daemon(15263)
    assert not found.has_daemon(1526) and not found.has_daemon(5263)


def test_a_daemon_for_one_address(monkeypatch: pytest.MonkeyPatch, rootfs: tuple[Path, str]) -> None:
    path, root = rootfs
    show(monkeypatch, [OneProcess(52, root, name="dropbear", arguments=f"{SERVER} -p [::1]:15263")])
    found = find_joined(str(path))
    assert found is not None and found.has_daemon(15263)


@pytest.mark.parametrize(("uid", "suffix"), [(MINE + 1, ""), (MINE, "/deeper")], ids=["user", "directory"])
def test_another(monkeypatch: pytest.MonkeyPatch, rootfs: tuple[Path, str], uid: int, suffix: str) -> None:
    """Whatever its processes are called."""
    path, root = rootfs
    show(monkeypatch, [OneProcess(52, root + suffix, uid, "dropbear", f"{SERVER} -p 15263")])
    assert find_joined(str(path)) is None


def test_a_daemon_of_another_container(monkeypatch: pytest.MonkeyPatch, rootfs: tuple[Path, str]) -> None:
    """A third container in the root file system, whose daemon serves nobody in the first."""
    path, root = rootfs
    other = OneProcess(62, root, name="dropbear", arguments=f"{SERVER} -p 15263")
    show(monkeypatch, [OneProcess(51, root), other])
    found = find_joined(str(path))
    assert found is not None and not found.has_daemon(15263)
