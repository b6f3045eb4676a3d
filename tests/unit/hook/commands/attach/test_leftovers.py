"""Which daemons detach takes for those of a container whose supervisor was killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.commands.attach import leftovers
from ssh_hook.node.inventory import Daemon

TARGET = {"mnt": (4, 1)}  # device and inode of the container's mount namespace
OTHERS = (4, 2)
DAEMON = 7


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, tuple[int, int]]], bool]:
    """Whether the daemon is in the container, by the mount namespaces of the processes that share its pids."""
    (tmp_path / "ns").mkdir()
    (tmp_path / "ns/pid").touch()
    status = os.stat(tmp_path / "ns/pid")
    names: dict[str, Any] = {**TARGET, "pid": (status.st_dev, status.st_ino)}
    target: Any = SimpleNamespace(namespace=names.__getitem__)

    def answer(namespaces: dict[int, tuple[int, int]]) -> bool:
        def process(pid: int) -> Any:
            directory = os.open(tmp_path, os.O_RDONLY)
            return SimpleNamespace(
                pid=pid,
                directory=directory,
                mount_namespace=lambda: namespaces[pid],
                close=lambda: os.close(directory),
            )

        monkeypatch.setattr(leftovers, "Process", process)
        monkeypatch.setattr(leftovers, "all_processes", lambda: map(process, namespaces), raising=False)
        monkeypatch.setattr(leftovers, "descendants", lambda pid: {pid, pid + 1}, raising=False)
        return leftovers._is_in(Daemon(DAEMON, 1000, [("", 15263)], 0), target)

    return answer


def test_daemon_in_the_mount_namespace_is_the_containers(shared: Callable[[dict[int, tuple[int, int]]], bool]) -> None:
    assert shared({1: TARGET["mnt"], DAEMON: TARGET["mnt"]})


def test_daemon_in_a_mount_namespace_of_its_own_is_the_containers(
    shared: Callable[[dict[int, tuple[int, int]]], bool],
) -> None:
    """As in a container with a read-only image. The next process is its session."""
    assert shared({1: TARGET["mnt"], DAEMON: OTHERS, DAEMON + 1: OTHERS})


def test_daemon_of_another_container_with_the_same_pids_is_not(
    shared: Callable[[dict[int, tuple[int, int]]], bool],
) -> None:
    """As in a pod: detach must not end that one's sessions."""
    assert not shared({1: TARGET["mnt"], 5: OTHERS, DAEMON: OTHERS, DAEMON + 1: OTHERS})
