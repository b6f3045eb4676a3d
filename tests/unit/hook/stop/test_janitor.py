"""What root's janitor frees and removes, and that one user who holds it up delays no other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from ssh_hook.errors import SYSTEM, LateError
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.process import Process, pid_namespace
from ssh_hook.node import door_collection, job_place, job_record, locks, places, record
from ssh_hook.node.job_record import JobRecord
from ssh_hook.stop import janitor

NOW = int(time.time())
OLD = NOW - janitor._AGE - 100
Locked = Callable[[int, int], AbstractContextManager[None]]


@pytest.fixture(name="mounted", autouse=True)
def fixture_mounted(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Users on whose directory a tmpfs is mounted."""
    mounted: set[int] = set()
    monkeypatch.setattr(job_place, "users", lambda: mounted)
    return mounted


def age(path: str | Path) -> None:
    os.utime(path, (0, 0))


def job(name: str, uid: int = 2001, start: int = NOW) -> str:
    job_record.write(name, JobRecord(uid, "alps", {"a": 1}, start, 1))
    (path,) = [path for path, text in places.entries(uid, False, places.JOBS) if job_record.name_in(text) == name]
    age(path)
    return path


def daemon(is_gone: bool, uid: int = 2001, namespace: int = 0) -> str:
    own = Process(os.getpid())
    known = record.record_of(
        (own.pid, own.start_time(), 2, 3),
        namespace or pid_namespace(),
        own,
        Identity(1, 1),
        "",
        "/b",
        "",
        {"owner": str(uid)},
    )
    own.close()
    if is_gone:
        known.numbers["init_start_time"] = 1
    if namespace:
        known.texts["boot_id"] = "of another system"  # in a container that shares /run
    path = places.add(uid, known.data())
    age(path)
    return path


def test_entries_that_nobody_needs_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Young ones, jobs that may go on, and those of later versions stay."""
    monkeypatch.setattr(janitor, "_running", lambda: {"", "8"})
    young = daemon(is_gone=True)
    os.utime(young)
    unfinished = places.add(2002, b"ssh_hook 1\npid=")
    age(unfinished)
    later = places.add(2002, b"ssh_hook job 2\njob=9\n")
    age(later)
    paths = {
        daemon(is_gone=True): True,
        daemon(is_gone=False): False,
        daemon(is_gone=True, namespace=7): False,
        job("7", start=OLD): True,
        job("8", start=OLD): False,
        job("10"): False,
        young: False,
        unfinished: True,
        later: False,
    }
    assert janitor.clean_up() == 0
    assert {path: Path(path).read_bytes()[:1] == b"\0" for path in paths} == paths


def test_a_process_that_does_not_answer_keeps_no_other_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be another user's, with the pid of an ended container's first process."""
    silent, gone = daemon(is_gone=False), daemon(is_gone=True)

    def ask(known: record.Record) -> bool:
        if known.numbers["init_start_time"] != 1:
            raise LateError(SYSTEM, "it does not answer")
        return True

    monkeypatch.setattr(record.Record, "container_is_gone", ask)
    monkeypatch.setattr(places, "entries", lambda *_: [(path, Path(path).read_text()) for path in (silent, gone)])
    assert janitor.clean_up() == 0
    assert [Path(path).read_bytes()[:1] == b"\0" for path in (silent, gone)] == [False, True]


def test_a_tmpfs_goes_when_its_user_has_no_job(monkeypatch: pytest.MonkeyPatch, mounted: set[int], node: Path) -> None:
    mounted.update((2001, 2002, 2003))
    monkeypatch.setattr(job_place, "remove", lambda uid: (node / f"removed-{uid}").touch())
    job("7", 2001)
    job("8", 2002)
    job_record.remove("8", 2002)
    assert janitor.clean_up() == 0
    assert sorted(path.name for path in node.glob("removed-*")) == ["removed-2002", "removed-2003"]


def test_a_user_who_holds_it_up_delays_no_other(
    monkeypatch: pytest.MonkeyPatch,
    mounted: set[int],
    node: Path,
    hang: Callable[..., None],
    locked: Locked,
    capfd: pytest.CaptureFixture[str],
) -> None:
    mounted.update((2001, 2002, 2003))
    own = os.getpid()

    def remove(uid: int) -> None:
        assert os.getpid() != own
        (node / f"removed-{uid}").touch()
        if uid == 2002:
            hang()

    monkeypatch.setattr(job_place, "remove", remove)
    with locked(2003, locks.CHILD):
        assert janitor.clean_up() == 2
        os.close(locks.lock(2003))  # whoever hangs has no lock that anybody waits for
        os.close(locks.lock(2002))
    assert sorted(path.name for path in node.glob("removed-*")) == ["removed-2001", "removed-2002"]
    said = capfd.readouterr().err
    assert "for uid 2002: cannot remove what uid 2002 does not need any more: no answer" in said
    assert "for uid 2003: cannot remove what uid 2003 does not need any more: an earlier process" in said


def test_a_prolog_of_the_same_user_waits_until_the_tmpfs_is_gone(
    monkeypatch: pytest.MonkeyPatch, mounted: set[int], locked: Locked, capfd: pytest.CaptureFixture[str]
) -> None:
    mounted.add(2001)
    monkeypatch.setattr(locks, "_TIMEOUT", 0.01)
    monkeypatch.delattr(job_place, "remove")
    with locked(2001, locks.CHANGES):
        assert janitor.clean_up() == 1
    assert "another process has the lock of uid 2001" in capfd.readouterr().err


def test_what_is_not_done_in_time_waits(monkeypatch: pytest.MonkeyPatch, mounted: set[int]) -> None:
    mounted.update((2001, 2002))
    now = [0.0]
    monkeypatch.setattr(janitor.time, "monotonic", lambda: now[0])

    def take_long(_uid: int, _running: set[str]) -> None:
        now[0] += janitor._TIMEOUT + 1

    monkeypatch.setattr(janitor, "_free_entries", take_long)
    monkeypatch.setattr(janitor, "_remove", lambda *_arguments: None)
    assert janitor.clean_up() == 2


def test_doors_and_what_earlier_versions_have_left_go(node: Path) -> None:
    os.close(places.open_directory(2001))
    for name in ("entries/2001/1-2-3", "doors/4194304-1-1", "removed/x", "last/2001"):
        (node / name).parent.mkdir(exist_ok=True)
        (node / name).touch()
        age(node / name)
    for _again in range(2):
        assert janitor.clean_up() == 0
    left = {str(path.relative_to(node)) for path in node.rglob("*")}
    assert left == {"locks", "entries", "entries/2001", "doors", "doors/4194304-1-1", "removed", "last"}
    assert door_collection.left_by_root(2001) == []
