"""Root's sweep of users' directories takes a fixed time at most, whoever of them hangs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.errors import HOME_HANGS, SYSTEM, HookError, LateError
from ssh_hook.log import WARNING
from ssh_hook.stop import users as module

FIRST = 2001
QUICK = 0.01  # seconds of a visit


class Node:
    """A node with users, some of whom hang, and a clock of its own.

    Attributes: visited, the uids in their order; said, the warnings.
    """

    def __init__(self, number: int, hangs: Callable[[int], bool]) -> None:
        self.uids = range(FIRST, FIRST + number)
        self.now = 0.0
        self.visited: list[int] = []
        self.timeouts: list[float] = []
        self.said: list[str] = []
        self._hangs = hangs

    def run(self, _work: object, what: str, user: Any, _kept: object = (), timeout: float = 10.0) -> bytes:
        """Stand in for the disposable process."""
        if user is None:
            return "\n".join(map(str, self.uids)).encode()
        self.visited.append(user.uid)
        self.timeouts.append(timeout)
        if self._hangs(user.uid):
            self.now += timeout
            raise LateError(HOME_HANGS, f"{what}: no answer")
        self.now += QUICK
        return b"0 0"


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Node]:
    """Sweep a node with so many users."""

    def on(number: int, hangs: Callable[[int], bool] = lambda _uid: False) -> Node:
        node = Node(number, hangs)
        entries = [f"u{uid}:x:{uid}:{uid}::/home/u{uid}:/bin/sh\n" for uid in node.uids]
        (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\n" + "".join(entries), encoding="ascii")
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: node.now))
        monkeypatch.setattr(module, "disposable_process", SimpleNamespace(run=node.run))
        monkeypatch.setattr(module, "log", lambda level, text: node.said.append(text) if level == WARNING else None)
        module.sweep_users(str(tmp_path / "passwd"))
        return node

    return on


def test_a_thousand_users_are_visited(sweep: Callable[..., Node]) -> None:
    node = sweep(1000)
    assert sorted(node.visited) == list(node.uids)
    assert node.visited != list(node.uids)  # nor in the reverse order
    assert node.visited != list(reversed(node.uids))
    assert node.said == []


def test_one_who_hangs_costs_ten_seconds(sweep: Callable[..., Node]) -> None:
    node = sweep(1000, lambda uid: uid == FIRST)
    assert sorted(node.visited) == list(node.uids)
    assert node.now < 1000 * QUICK + 10
    (said,) = node.said
    assert said == f"cannot sweep /run/user/{FIRST}/ocihooks-ssh/daemons as its user: no answer"


def test_some_who_hang_leave_time_for_others(sweep: Callable[..., Node]) -> None:
    node = sweep(1000, lambda uid: uid % 50 == 0)
    assert sorted(node.visited) == list(node.uids)
    assert len(node.said) == 20


def test_all_who_hang_cost_a_fixed_time(sweep: Callable[..., Node]) -> None:
    node = sweep(1000, lambda _uid: True)
    assert 60 < node.now < 120
    assert min(node.timeouts) > 0.09
    left = 1000 - len(node.visited)
    assert node.said[-1] == f"the directories of {left} users wait for the next sweep: other users' have not answered"


@pytest.mark.parametrize(
    "answer",
    [b"", b" ", b"1", b"-1 -1", b"x y", b"1" * 5000 + b" 0", b"\xff\xff \xff", "\u0661 \u0661".encode()],
)
def test_what_a_user_may_answer(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    said: list[str] = []
    monkeypatch.setattr(module.disposable_process, "run", lambda *_arguments: answer)
    monkeypatch.setattr(module, "log", lambda level, text: said.append(text) if level == WARNING else None)
    module._visit(module.Identity(FIRST, FIRST), 1.0)
    assert said == []


@pytest.mark.parametrize("names", [b"", b"0", b"gdm\n..\n2002x", b"99999999999999999999", b"1999"])
def test_no_user_who_can_have_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: bytes) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\nu:x:2002:2002::/:/bin/sh\n", encoding="ascii")
    monkeypatch.setattr(module.disposable_process, "run", lambda *_arguments: names)
    assert module._users(str(tmp_path / "passwd")) == []


def test_a_directory_that_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def fail(*_arguments: object) -> bytes:
        raise HookError(SYSTEM, "cannot list /run/user: no answer")

    monkeypatch.setattr(module.disposable_process, "run", fail)
    monkeypatch.setattr(module, "log", lambda _level, text: said.append(text))
    module.sweep_users("/no/such")
    assert said == ["cannot sweep what users' containers left: cannot list /run/user: no answer"]
