"""Which running container a step of pyxis joins: one of the same user, in the same root file system."""

from __future__ import annotations

import os

import pytest
from ssh_hook.node.inventory import Daemon
from ssh_hook.start import joined

ANY, ONE = "", "::1"


@pytest.mark.parametrize(
    ("rootfs", "port", "pid", "address", "expected"),
    [
        ("/", 15263, os.getpid(), ANY, True),
        ("/", 15263, os.getpid(), ONE, True),
        ("/", 1526, os.getpid(), ANY, False),
        ("/", 15263, 2**22, ANY, False),
        ("/proc", 15263, os.getpid(), ANY, False),
    ],
    ids=["same", "one address", "port", "ended", "root"],
)
def test_who_is_served(
    monkeypatch: pytest.MonkeyPatch, rootfs: str, port: int, pid: int, address: str, expected: bool
) -> None:
    """This process has / as its root directory."""
    daemon = Daemon(pid, os.geteuid(), [(address, 15263)], 0)
    monkeypatch.setattr(joined, "find_daemons", lambda: [daemon])
    assert joined.is_served(rootfs, port) is expected


def test_without_an_entry_nobody_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries are the user's own, and those that root keeps for the user."""
    monkeypatch.setattr(joined, "find_daemons", list)
    assert not joined.is_served("/", 15263)
