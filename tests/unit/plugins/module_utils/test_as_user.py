from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _as_user as as_user
from ansible_collections.ocihooks.ssh.plugins.module_utils._as_user import AsUserError, look_as_users, run_as_users
from ansible_collections.ocihooks.ssh.plugins.module_utils._keys.passwd import Entry
from ansible_collections.ocihooks.ssh.plugins.module_utils._linux import ids
from patience import within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def user(name: str, uid: int | None = None) -> Entry:
    return Entry(name, os.geteuid() if uid is None else uid, os.getegid(), "", "/", "/bin/sh")


def outcomes(names: list[str], work: as_user.Work) -> dict[str, Any]:
    return {who.name: outcome for who, outcome in run_as_users([user(name) for name in names], work)}


@pytest.fixture(autouse=True)
def no_child_and_no_descriptor_is_left() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_each_result_comes_with_its_user_however_many_there_are() -> None:
    names = [f"user{number}" for number in range(3 * as_user.CHILDREN + 1)]
    results = outcomes(names, lambda who: {"name": who.name, "pid": os.getpid()})
    assert {name: result["name"] for name, result in results.items()} == {name: name for name in names}
    pids = {result["pid"] for result in results.values()}
    assert len(pids) == len(names)
    assert os.getpid() not in pids


def test_no_users() -> None:
    assert outcomes([], lambda who: {}) == {}


def test_one_failure_does_not_stop_the_others() -> None:
    def work(who: Entry) -> dict[str, Any]:
        if who.name == "bad":
            raise ValueError("no luck")
        return {}

    results = outcomes(["good", "bad", "last"], work)
    assert results["good"] == results["last"] == {}
    assert isinstance(results["bad"], AsUserError)
    assert str(results["bad"]) == "no luck"


@pytest.mark.parametrize(
    ("end", "status"), [(lambda: os._exit(3), "status 768"), (lambda: os.kill(os.getpid(), signal.SIGKILL), "status 9")]
)
def test_a_child_that_dies_is_told(end: Any, status: str) -> None:
    results = outcomes(["bad", "good"], lambda who: end() if who.name == "bad" else {"well": True})
    assert f"the process that acted as bad ended unexpectedly, with {status}" in str(results["bad"])
    assert results["good"] == {"well": True}


def test_a_child_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_user, "TIMEOUT", 0.3)

    def work(who: Entry) -> dict[str, Any]:
        if who.name == "bad":
            signal.pause()
        return {}

    start = time.monotonic()
    results = outcomes(["bad", "good"], work)
    assert "a file system does not answer" in str(results["bad"])
    assert time.monotonic() - start < within(10)


def test_a_large_result_comes_whole() -> None:
    assert outcomes(["alice"], lambda who: {"text": "x" * 300_000})["alice"] == {"text": "x" * 300_000}


def test_an_endless_result_is_cut_off() -> None:
    results = outcomes(["alice"], lambda who: {"text": "x" * 3_000_000})
    assert isinstance(results["alice"], AsUserError)


def test_one_child_looks_at_many_users_and_tells_of_those_who_have_a_result() -> None:
    users = [user(f"user{number}") for number in range(as_user.CHILDREN * as_user.BATCH + 1)]

    def look(who: Entry) -> dict[str, Any] | None:
        if who.name.endswith("7"):
            raise ValueError("no luck")
        return None if who.name.endswith("5") else {"name": who.name, "pid": os.getpid(), "mask": os.umask(0o077)}

    seen = {who.name: result for who, result in look_as_users(users, look)}
    assert set(seen) == {who.name for who in users if who.name[-1] not in "57"}
    assert all((result["name"], result["mask"]) == (name, 0o077) for name, result in seen.items())
    pids = {result["pid"] for result in seen.values()}
    assert len(pids) == as_user.CHILDREN + 1
    assert os.getpid() not in pids


@pytest.mark.parametrize("end", [lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL), signal.pause])
def test_a_look_that_does_not_end_well_is_no_result(end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_user, "LOOK_TIMEOUT", 15.0 if end is signal.pause else 60.0)
    monkeypatch.setattr(as_user, "CHILDREN", 2)
    users = [user(name) for name in ("good", "bad", "third")]
    assert [who.name for who, _result in look_as_users(users, lambda who: end() if who.name == "bad" else {})] == [
        "third"
    ]


def test_a_slow_look_leaves_out_who_would_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_user, "CHILDREN", 1)

    def look(who: Entry) -> dict[str, Any]:
        if who.name == "slow":  # half of its time passes, in this child
            now = time.monotonic() + as_user.LOOK_TIMEOUT / 2
            monkeypatch.setattr(time, "monotonic", lambda: now)
        return {}

    assert [who.name for who, _result in look_as_users([user("first"), user("slow"), user("last")], look)] == [
        "first",
        "slow",
    ]


def test_looks_with_more_results_than_fit_lose_nobody_else() -> None:
    users = [user(f"user{number}") for number in range(2 * as_user.BATCH)]
    text = "x" * (as_user._RESULT_LIMIT // as_user.BATCH * 2)
    seen = dict(look_as_users(users, lambda who: {"text": text if who in users[: as_user.BATCH // 2] else ""}))
    assert set(users[as_user.BATCH :]) <= set(seen)


def test_a_look_has_the_users_identity_and_the_next_one_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getgroups", lambda: [0, 4])
    for name in ("setgroups", "setegid", "seteuid"):
        monkeypatch.setattr(ids.os, name, lambda value, name=name: calls.append((name, value)))
    with as_user._acting_as(Entry("daemon", 1235, 77, "", "/", "/bin/sh")):
        assert calls == [("setgroups", []), ("setegid", 77), ("seteuid", 1235)]
        calls.clear()
    assert calls == [("seteuid", 0), ("setegid", 0), ("setgroups", [0, 4])]


def test_only_root_can_look_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)

    assert as_user._look_as(user("alice", 1235), lambda who: {}) is None


def test_20000_users_are_looked_at_once_in_a_minute_if_automount_needs_15_ms_for_each(tmp_path: Path) -> None:
    """A fifth of them, in a fifth of the time. That is ample: a busy processor does not make the waiting longer."""
    users = [user(f"user{number}") for number in range(4_000)]
    record = os.open(tmp_path / "looks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def look(who: Entry) -> dict[str, Any]:
        os.write(record, f"{who.name}\n".encode())
        time.sleep(0.015)
        return {}

    start = time.monotonic()
    seen = [who.name for who, _result in look_as_users(users, look)]
    seconds = time.monotonic() - start
    os.close(record)
    assert seconds < 12
    assert sorted(seen) == sorted((tmp_path / "looks").read_text().splitlines()) == sorted(who.name for who in users)


@pytest.fixture
def no_child_can_be_killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An imitation of processes that hang in the kernel: SIGKILL reaches the children only after the test."""
    killed: list[int] = []
    monkeypatch.setattr(as_user.os, "kill", lambda pid, _signal: killed.append(pid))
    monkeypatch.setattr(as_user, "_EXIT_TIMEOUT", 0.1)
    yield
    monkeypatch.undo()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    as_user._hung.clear()


@pytest.mark.usefixtures("no_child_can_be_killed")
def test_hung_children_are_never_more_than_all_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has looked in vain has a process that hangs. It leaves one for the work."""
    monkeypatch.setattr(as_user, "CHILDREN", 3)
    monkeypatch.setattr(as_user, "LOOK_TIMEOUT", 0.2)
    monkeypatch.setattr(as_user, "TIMEOUT", 3.0)  # ample for those that do not hang
    hung = [user("first"), user("second")]
    assert list(look_as_users(hung, lambda who: signal.pause())) == []
    results = [
        (who.name, str(result))
        for who, result in run_as_users(
            [user("good"), user("bad"), user("third"), user("last")], lambda who: who.name == "bad" and signal.pause()
        )
    ]
    not_tried = "not tried: 3 processes wait for file systems that do not answer"
    assert results == [
        ("good", "False"),
        ("bad", "gave up after 3 s: a file system does not answer"),
        ("third", not_tried),
        ("last", not_tried),
    ]
    assert len(as_user._hung) == 3


def test_a_place_of_a_hung_child_is_free_when_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_user, "CHILDREN", 1)
    monkeypatch.setattr(as_user, "TIMEOUT", 3.0)  # ample for those that do not hang
    results = outcomes(["bad", "good"], lambda who: signal.pause() if who.name == "bad" else {"well": True})
    assert "a file system does not answer" in str(results["bad"])
    assert results["good"] == {"well": True}


def test_leaving_early_ends_the_children() -> None:
    def work(who: Entry) -> dict[str, Any]:
        if who.name != "first":
            signal.pause()
        return {}

    running = run_as_users([user("first"), user("second"), user("third")], work)
    assert next(iter(running))[0].name == "first"
    running.close()


def test_the_mask_keeps_what_is_made_private() -> None:
    def work(_who: Entry) -> dict[str, Any]:
        return {"mask": os.umask(0), "directory": os.getcwd()}

    assert outcomes(["alice"], work)["alice"] == {"mask": 0o077, "directory": "/"}


def test_only_root_can_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    with pytest.raises(AsUserError, match="only root can act as alice: run the task with become"):
        as_user.become(user("alice", 1235))


def test_an_identity_is_given_up_in_the_order_that_leaves_no_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(ids.os, "setgroups", lambda groups: calls.append(("groups", *groups)))
    monkeypatch.setattr(ids.os, "setresgid", lambda *values: calls.append(("gid", *values)))

    def setresuid(*values: int) -> None:
        calls.append(("uid", *values))
        if values == (0, 0, 0):
            raise PermissionError

    for module in (os, ids.os):
        monkeypatch.setattr(module, "setresuid", setresuid)
    as_user.become(Entry("daemon", 1235, 77, "", "/", "/bin/sh"))
    assert calls == [("groups",), ("gid", 77, 77, 77), ("uid", 1235, 1235, 1235), ("uid", 0, 0, 0)]
    monkeypatch.setattr(os, "setresuid", lambda *values: None)
    with pytest.raises(AsUserError, match="cannot give up root's rights"):
        as_user.become(Entry("alice", 1235, 77, "", "/", "/bin/sh"))
