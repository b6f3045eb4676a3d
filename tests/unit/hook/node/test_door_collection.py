"""What is left of the doors of daemons that have ended."""

from __future__ import annotations

import os
import posix
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_hook.linux import process_search
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.process import MAX_PID, Process, pid_namespace
from ssh_hook.node import door, door_collection, places, record

START = 88231
NAMESPACE = pid_namespace()


@pytest.fixture
def own() -> Iterator[Process]:
    process = Process(os.getpid())
    yield process
    process.close()


def test_what_daemons_that_have_ended_leave_is_collected(tmp_path: Path, own: Process) -> None:
    alive = door.name_of(own.pid, own.start_time(), NAMESPACE)
    left = [
        door.name_of(own.pid, own.start_time() + 1, NAMESPACE),
        door.name_of(MAX_PID, START, NAMESPACE),
        f"{2**70}-1-{NAMESPACE}",
        f"²-1-{NAMESPACE}",
        *("1-", "1-2-", "1-2"),
    ]
    for name in (alive, "daemons", *left):
        (tmp_path / name).touch()
    assert door_collection.collect(str(tmp_path)) == len(left)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([alive, "daemons"])
    assert door_collection.collect(str(tmp_path / "missing")) == 0


def test_the_door_of_a_daemon_of_another_pid_namespace_stays(tmp_path: Path) -> None:
    """As of a container in a job that has one: the caller's /proc shows other processes with its pids."""
    (tmp_path / f"{MAX_PID}-1-{NAMESPACE + 1}").touch()
    assert door_collection.collect(str(tmp_path)) == 0


def test_the_door_of_a_daemon_that_the_caller_may_not_see_stays(
    tmp_path: Path, own: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with hidepid, where another container of the user's has another user namespace."""
    for error in (FileNotFoundError(), PermissionError()):

        def refuse(_pid: int, error: OSError = error) -> Process:
            raise error

        monkeypatch.setattr(process_search, "Process", refuse)
        (tmp_path / f"{own.pid}-1-{NAMESPACE}").touch()
        (tmp_path / f"{MAX_PID}-1-{NAMESPACE}").touch()
        assert door_collection.collect(str(tmp_path)) == 1
        assert [path.name for path in tmp_path.iterdir()] == [f"{own.pid}-1-{NAMESPACE}"]


@pytest.fixture(name="doors")
def fixture_doors(node: Path, own: Process) -> Path:
    """Root's doors for a user: of an entry, a young one, one whose daemon lives, and two that are left."""
    directory = node / "entries/2001"
    path = str(directory / "1-1-1")
    known = record.record_of((own.pid, 1, 2, 3), NAMESPACE, own, Identity(1, 1), "", "", path, {"owner": "2001"})
    places.add(2001, known.data())
    places.write(2001, "error", b"x\n")
    alive = f"{own.pid}-{own.start_time()}"
    for name in ("1-1-1", "2-2-2", f"{alive}-{NAMESPACE}", f"{alive}-{NAMESPACE + 1}", f"4-4-{NAMESPACE}"):
        (directory / name).touch()
        os.utime(directory / name, (0, 0))
    os.utime(directory / "2-2-2")
    return directory


def test_a_door_of_roots_that_no_entry_names_is_left(doors: Path, own: Process) -> None:
    """Unless its daemon lives, which /proc does not tell where the engine has a pid namespace of its own."""
    left = {Path(path).name for path in door_collection.left_by_root(2001)}
    assert left == {f"4-4-{NAMESPACE}", f"{own.pid}-{own.start_time()}-{NAMESPACE + 1}"}
    assert left < {path.name for path in doors.iterdir()}
    assert door_collection.left_by_root(2002) == []


def test_what_cannot_be_removed_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "1-").mkdir()
    assert door_collection.collect(str(tmp_path)) == 0


def test_a_directory_of_roots_has_no_door_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a Prolog's mount for the user is in another mount namespace."""

    def refuse(_path: str) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(posix, "listdir", refuse)
    assert door_collection.collect("/run/ocihooks-ssh/users/1000") == 0
