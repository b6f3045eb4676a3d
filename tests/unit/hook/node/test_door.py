"""Doors: their names, and whom the kernel must name at them."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from ssh_hook.errors import HookError
from ssh_hook.linux import syscalls
from ssh_hook.linux.id_maps import IdMap
from ssh_hook.linux.process import MAX_ID, MAX_PID, pid_namespace
from ssh_hook.node import door, own_places, places
from ssh_hook.node.door import Door

PID, START = 4711, 88231
NAMESPACE = pid_namespace()


@pytest.mark.parametrize(("is_roots", "mode"), [(True, "srw-rw----"), (False, "srw-------")])
def test_a_door_is_its_users_alone_and_serves(node: Path, tmp_path: Path, is_roots: bool, mode: str) -> None:
    """Root's needs no owner: in its directory only the user can look it up."""
    place = f"{node}/entries/1000" if is_roots else f"{tmp_path}/ocihooks-ssh/doors"
    mask = os.umask(0)
    try:
        made = Door([place], 1000, 0o660 if is_roots else 0o600)
        server = socket.socket(fileno=os.dup(made.descriptors()[0]))
        made.open(PID, START)
        assert os.umask(0) == 0
    finally:
        os.umask(mask)
    path = Path(place) / f"{PID}-{START}-{NAMESPACE}"
    assert stat.filemode(path.stat().st_mode) == mode
    assert path.stat().st_uid == os.geteuid()
    assert made.arguments() == ["-O", f"{made.descriptors()[0]},1000"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(made.descriptors()[0])  # the caller's, who may stay
    with server, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        server.accept()[0].close()
    made.remove()
    assert path.exists() == is_roots  # a sweep removes it
    if is_roots:
        assert path.parent == node / "entries/1000"
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o710


def test_what_a_start_asks_of_the_kernel(monkeypatch: pytest.MonkeyPatch, system_calls: list[str]) -> None:
    places.write(1000, "error", b"x\n")  # the directory is there
    system_calls.clear()
    made = door.make_door(0, 1000, None, in_user_namespace=False, in_job=False)
    assert system_calls == ["stat", "socket"]  # before the fork
    system_calls.clear()
    made.open(PID, START)
    made.arguments()
    assert system_calls == ["open", "listxattr", "listdir", "close", "umask", "bind", "umask", "listen", "close"]


def test_a_door_whose_directory_another_start_makes_meanwhile_admits_its_user(node: Path) -> None:
    (node / "entries/1000").mkdir(mode=0o700, parents=True)
    made = door.make_door(0, 1000, None, in_user_namespace=False, in_job=False)
    made.open(PID, START)
    assert "system.posix_acl_access" in os.listxattr(node / f"entries/1000/{PID}-{START}-{NAMESPACE}")


def test_a_user_who_holds_them_has_a_bounded_number(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_MOST", 6)
    os.close(places.open_directory(1000))
    for number in range(5):
        (node / "entries/1000" / f"1-{number}-{NAMESPACE}").touch()
    door.make_door(0, 1000, None, in_user_namespace=False, in_job=False).open(PID, START)
    made = door.make_door(0, 1000, None, in_user_namespace=False, in_job=False)
    with pytest.raises(HookError, match=r"make one in .*/1000: there are 6 names, until a sweep removes doors of"):
        made.open(PID, START + 1)
    os.close(made.descriptors()[0])
    assert len(list((node / "entries/1000").iterdir())) == 6


def test_a_start_makes_room_where_daemons_have_ended(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user whose containers end every second, with a sweep every 15 minutes."""
    monkeypatch.setattr(door, "_MOST", 6)
    os.close(places.open_directory(1000))
    for number in range(6):
        path = node / "entries/1000" / f"1-{number}-{NAMESPACE}"
        path.touch()
        os.utime(path, (0, 0))
    door.make_door(0, 1000, None, in_user_namespace=False, in_job=False).open(PID, START)
    assert [path.name for path in (node / "entries/1000").iterdir()] == [f"{PID}-{START}-{NAMESPACE}"]


@pytest.fixture(name="users")
def fixture_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (door, own_places):
        monkeypatch.setattr(module, "JOBS_PLACE", str(tmp_path / "users"))
    return tmp_path / "users"


def test_the_first_directory_that_there_is(tmp_path: Path, users: Path) -> None:
    preferred, last = users / "1000", tmp_path / "ocihooks-ssh" / "doors"
    last.parent.mkdir(mode=0o700)
    Door([str(preferred), str(last)], 1000, 0o600).open(PID, START)
    assert [path.name for path in last.iterdir()] == [f"{PID}-{START}-{NAMESPACE}"]
    preferred.mkdir(parents=True)
    Door([str(preferred), str(last)], 1000, 0o600).open(PID, START + 1)
    assert [path.name for path in preferred.iterdir()] == [f"{PID}-{START + 1}-{NAMESPACE}"]


@pytest.mark.parametrize("is_full", [False, True])
def test_a_full_directory_of_a_job_is_collected(
    tmp_path: Path, users: Path, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    """Its names are few, and those of daemons that were killed are there until the user's last job ends."""
    of_job, last = users / "1000", tmp_path / "doors"
    of_job.mkdir(parents=True)
    last.mkdir()
    (of_job / f"{MAX_PID}-1-{NAMESPACE + is_full}").touch()
    bind = syscalls.bind

    def bind_in_few(descriptor: int, address: bytes) -> None:
        if address == syscalls.unix_address(f"{of_job}/{PID}-{START}-{NAMESPACE}") and list(of_job.iterdir()):
            raise OSError(28, "No space left on device")
        bind(descriptor, address)

    monkeypatch.setattr(syscalls, "bind", bind_in_few)
    Door([str(of_job), str(last)], 1000, 0o600).open(PID, START)
    (found,) = (last if is_full else of_job).iterdir()
    assert found.name == f"{PID}-{START}-{NAMESPACE}"


@pytest.mark.parametrize(("in_job", "is_logged_in", "place"), [(True, True, 0), (False, True, 1), (False, False, 0)])
def test_a_door_outside_of_jobs_does_not_go_with_a_job(
    tmp_path: Path, users: Path, monkeypatch: pytest.MonkeyPatch, in_job: bool, is_logged_in: bool, place: int
) -> None:
    """But for a user who has no other directory."""
    monkeypatch.setattr(own_places, "state_directory", lambda uid: str(tmp_path / str(uid) / "ssh"))
    (users / "1000").mkdir(parents=True)
    if is_logged_in:
        (tmp_path / "1000").mkdir()
    made = door.make_door(1000, os.geteuid(), None, in_user_namespace=False, in_job=in_job)
    made.open(PID, START)
    assert made.path == f"{own_places.for_doors(1000)[place]}/{PID}-{START}-{NAMESPACE}"


def test_without_a_socket_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(syscalls, "socket", fail)
    with pytest.raises(HookError, match=r"without a key: cannot make a socket: Too many open files$"):
        door.make_door(1000, 1000, None, in_user_namespace=False, in_job=False).open(PID, START)


def test_without_a_directory_there_is_none(tmp_path: Path, users: Path) -> None:
    place = tmp_path / "1000" / "ssh" / "doors"  # a socket's path is short
    made = Door([str(users / "1000"), str(place)], 1000, 0o600)
    reason = f"cannot make one in {users / '1000'}: No such file or directory, or in {place}: No such file or directory"
    with pytest.raises(HookError, match=reason):
        made.open(PID, START)
    made.remove()
    assert list(tmp_path.iterdir()) == []
    os.close(made.descriptors()[0])


def test_names_fit_into_the_address_of_a_socket() -> None:
    name = door.name_of(MAX_PID, 2**64 - 1, 2**32 - 1)
    longest = (f"/run/ocihooks-ssh/entries/{MAX_ID}", *own_places.for_doors(MAX_ID))
    assert all(len(f"{place}/{name}") < 108 for place in longest)


def test_where_a_users_doors_are() -> None:
    assert own_places.for_doors(1000) == ["/run/ocihooks-ssh/users/1000", "/run/user/1000/ocihooks-ssh/doors"]


KEEP_ID = "0 1 1000\n1000 0 1\n1001 1001 64536\n"  # as a rootless engine sees it, whose root is the user 1000


@pytest.mark.parametrize(
    ("uid", "id_map", "in_user_namespace", "expected"),
    [
        (1000, None, False, 1000),
        (65534, None, False, 65534),  # nobody, but a user like any other
        (0, None, True, 0),
        (0, KEEP_ID, True, 1000),
        (1000, "1000 1000 1\n", True, 1000),
        (1000, "0 524288 65536\n", True, None),  # --userns=auto
        (0, "0 1 65536\n", True, None),  # --userns=nomap
        (0, "65534 0 1\n", True, None),  # as whom the kernel shows everybody else
    ],
)
def test_whom_the_kernel_has_to_name(
    uid: int, id_map: str | None, in_user_namespace: bool, expected: int | None
) -> None:
    assert door.peer(uid, None if id_map is None else IdMap(id_map), in_user_namespace) == expected


def test_its_socket_has_the_containers_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other socket of the hook's has."""
    told = tmp_path / "sockcreate"
    told.touch()
    seen: list[str] = []

    def make(*arguments: Any, **options: Any) -> Door:
        seen.append(told.read_text(encoding="ascii"))
        return Door(*arguments, **options)

    monkeypatch.setattr(door, "_SOCKET_LABEL", str(told))
    monkeypatch.setattr(door, "Door", make)
    os.close(door.make_door(1000, 1000, None, in_user_namespace=False, in_job=False, label="box_t:s0").descriptors()[0])
    assert seen == ["box_t:s0"]
    assert told.read_text(encoding="ascii").startswith("\n")
    told.write_text("", encoding="ascii")
    os.close(door.make_door(1000, 1000, None, in_user_namespace=False, in_job=False).descriptors()[0])
    assert told.read_text(encoding="ascii") == ""


def test_a_label_that_the_kernel_refuses_leaves_no_door() -> None:
    label = "a label that no policy knows\n"
    found = door.make_door(1000, 1000, None, in_user_namespace=False, in_job=False, label=label)
    with pytest.raises(HookError, match=r"door, .*: its SELinux label 'a label that no policy knows.*' cannot be set"):
        found.open(PID, START)
