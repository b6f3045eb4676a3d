"""What the tests of both security modules ask of a container."""

from __future__ import annotations

from pathlib import Path

from containers import Container

RUNTIMES = ("crun", "runc")


def label(pid: int) -> str:
    """The label of a process, as the kernel writes it."""
    return Path(f"/proc/{pid}/attr/current").read_text(encoding="ascii").rstrip("\0\n")


def session_label(container: Container) -> str:
    """The label that a session sees as its own."""
    return container.ssh("cat /proc/self/attr/current").checked().text.rstrip("\0")


def assert_all_labelled(container: Container, expected: str) -> None:
    """The container's first process, its SSH daemon and a session have this label."""
    labels = [label(container.init()), label(container.daemon()), session_label(container)]
    assert labels == [expected] * 3, labels
