"""Whom the end of a daemon kills: its sessions, and nobody who has come to the inode of its namespace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ssh_hook.stop import rules

NAMESPACE = (4, 4026532316)


class Fake:
    """A process with a mount namespace, which ends when it is killed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.is_killed = False

    def is_alive(self) -> bool:
        return not self.is_killed

    def mount_namespace(self) -> tuple[int, int] | None:
        return None if self.is_killed else NAMESPACE

    def kill(self) -> None:
        self.is_killed = True


Look = Callable[[], list[Fake]]
Ends = Callable[[Fake, Look], bool]


@pytest.fixture(name="ends")
def fixture_ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    """Ends a daemon among the processes that a look at /proc shows."""

    def end(daemon: Any, look: Look) -> bool:
        monkeypatch.setattr(rules, "all_processes", lambda _proc: look())
        return rules.end_daemon(daemon, NAMESPACE)

    return end


def test_sessions_end_before_the_daemon(ends: Ends) -> None:
    daemon, session = Fake(1000), Fake(1001)
    alive_with_session = []

    def look() -> list[Fake]:
        alive_with_session.append((daemon.is_alive(), session.is_alive()))
        return [daemon, session]

    assert ends(daemon, look)
    assert alive_with_session == [(True, True), (True, False)]


def test_a_process_in_a_later_namespace_of_the_same_inode_is_spared(ends: Ends) -> None:
    """The daemon ends while /proc is read, by its scheduler or by the kill before, and a container starts just then."""
    daemon, other = Fake(1000), Fake(1001)

    def look() -> list[Fake]:
        daemon.kill()
        return [other]

    assert ends(daemon, look)
    assert not other.is_killed, "the first process of another container was killed"
