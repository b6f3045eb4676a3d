"""A sweep ends in time, whatever users hold up."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from ssh_hook.errors import DAEMON_FAILED, HookError
from ssh_hook.linux import disposable_process, syscalls
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.process import Process, pid_namespace
from ssh_hook.node import locks, record, user_child
from ssh_hook.node.record import Record
from ssh_hook.stop import ending, janitor
from ssh_hook.stop import orphans as module

TEMPLATES = Path(__file__).resolve().parents[4] / "roles/ssh_hook/templates"
LIMIT = ending._TIMEOUT


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Records of five containers that are gone, two of uid 1 and three of uid 2."""
    directory = tmp_path / "copies"
    directory.mkdir(mode=0o700)
    init = Process(os.getpid())
    for number, uid in enumerate((1, 1, 2, 2, 2)):
        known = record.record_of(
            (init.pid, number, 2, 3), pid_namespace(), init, Identity(uid, uid), "", str(tmp_path), "", {}
        )
        known.numbers["init_start_time"] = 1
        path = directory / str(number)
        path.write_bytes(known.data())
        path.chmod(0o600)
        os.utime(path, (0, 0))
    init.close()
    return directory


def test_a_daemon_that_does_not_end_costs_one_wait_for_each_user(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def end(known: Record) -> None:
        tried.append(known.numbers["uid"])
        raise HookError(DAEMON_FAILED, "the SSH daemon does not end")

    monkeypatch.setattr(module, "end_recorded", end)
    assert module.sweep(str(copies)) == (0, 2)
    assert sorted(tried) == [1, 2]
    assert len(list(copies.iterdir())) == 5


def test_a_container_that_only_its_own_processes_end_is_left_to_them(
    copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of enroot or an attach: its first process may end long before it. Root's engines all call poststop."""
    ended: list[Record] = []
    monkeypatch.setattr(module, "end_recorded", ended.append)
    for path in copies.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\nbundle=%s\n" % bytes(copies.parent), b"\nbundle=\n"))
        os.utime(path, (0, 0))
    assert module.sweep(str(copies)) == (0, 0)
    assert len(list(copies.iterdir())) == 5 and not ended
    monkeypatch.setattr(module.places, "ROOT_COPIES", str(copies))
    assert module.sweep(str(copies)) == (5, 0)
    assert len(ended) == 5


def test_an_earlier_sweep_ends_no_such_container_either(copies: Path) -> None:
    """It looks at the first process alone, for which the daemon stands."""
    known = record.parse((copies / "0").read_text(encoding="utf-8"))
    assert known is not None and known.container_is_gone()
    daemon = Process(os.getpid())
    known.numbers["start_time"] = daemon.start_time()
    daemon.close()
    kept = record.parse(known.without_container().data().decode())
    assert kept is not None and not kept.container_is_gone()
    assert kept.texts == known.texts


@pytest.mark.parametrize("kind", ["writable", "link", "file"])
def test_another_users_name_in_tmp_is_no_failure(tmp_path: Path, kind: str) -> None:
    """Any user can take it before."""
    place = Path("/tmp") / f"test-sweep-{os.getpid()}-{kind}"
    if kind == "link":
        place.symlink_to(tmp_path)
    elif kind == "file":
        place.touch()
    else:
        place.mkdir(mode=0o777)
        place.chmod(0o777)
    try:
        assert module.sweep(f"{place}/daemons") == (0, 0)
    finally:
        if kind == "writable":
            place.rmdir()
        else:
            place.unlink()


def test_what_is_not_swept_in_time_waits(
    copies: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def end(_known: Record) -> None:
        now[0] += 100

    monkeypatch.setattr(module, "end_recorded", end)
    monkeypatch.setattr(module.user_child, "run", lambda *_arguments: b"")
    assert module.sweep(str(copies)) == (2, 1)
    assert len(list(copies.iterdir())) == 3
    assert f"{copies}: not finished within 180 s: the rest waits for the next sweep" in capfd.readouterr().err


def test_a_record_whose_user_has_left_a_process_waits(
    copies: Path, monkeypatch: pytest.MonkeyPatch, locked: Callable[[int, int], AbstractContextManager[None]]
) -> None:
    """Otherwise each sweep would leave one more. Daemons end, and other users' records go."""
    ended: list[int] = []
    monkeypatch.setattr(module, "end_recorded", lambda known: ended.append(known.numbers["uid"]))
    with locked(1, locks.CHILD):
        assert module.sweep(str(copies)) == (3, 1)
    assert sorted(ended) == [1, 2, 2, 2]
    assert len(list(copies.iterdir())) == 2


@pytest.mark.parametrize(("name", "is_left"), [(user_child.NAME, True), (b"ssh_hook", False)])
def test_a_process_that_is_left_is_known_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: bytes, is_left: bool
) -> None:
    """The provisioner of a start, which may wait too, is none of these."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        syscalls.set_name(name)
        os.write(writer, b"x")
        time.sleep(1000)
    try:
        os.read(reader, 1)
        monkeypatch.setattr(Process, "hangs", lambda process: process.pid == child)
        assert user_child.users_of_left() == ({os.getuid()} if is_left else set())
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


def test_a_sweep_leaves_doors_to_the_janitor(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"uid": 1, "gid": 1, "pid": 1}
    known = Record(numbers, {"pidfile_host": "", "door": "/run/ocihooks-ssh/entries/1/1-2-3"})
    monkeypatch.setattr(known, "process", lambda: None)
    monkeypatch.delattr(disposable_process, "run")
    ending.end_recorded(known)


@pytest.mark.parametrize("unit", ["ssh-hook-sweep.service", "ssh-hook-sweep@.service"])
def test_that_is_before_systemd_ends_it(unit: str) -> None:
    """A minute is left for what it does besides, on a busy node."""
    text = (TEMPLATES / f"{unit}.j2").read_text(encoding="utf-8")
    found = re.search(r"^TimeoutStartSec=(\d+)min$", text, re.MULTILINE)
    assert found is not None
    assert 60 * int(found[1]) >= module._TIMEOUT + janitor._TIMEOUT + 3 * disposable_process.TIMEOUT + LIMIT + 30
