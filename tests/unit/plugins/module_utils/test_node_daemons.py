"""The hook's daemons on a node, and who else has their port."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _daemons as daemons


@pytest.mark.parametrize(
    ("mode", "uid", "device", "ours"),
    [
        (0o100111, 0, 64, True),
        (0o100111, 2001, 64, False),
        (0o100111, 0, 65, False),  # a file of an image
        (0o100755, 0, 64, False),
        (0o104111, 0, 64, False),
        (0o040111, 0, 64, False),
    ],
)
def test_a_removed_program_is_ours_only_as_the_role_installs_it(mode: int, uid: int, device: int, ours: bool) -> None:
    assert daemons.was_ours(os.stat_result((mode, 1, device, 0, uid, 0, 0, 0, 0, 0)), {63, 64}) is ours


def test_a_process_of_a_users_that_is_named_like_a_removed_daemon_is_none(tmp_path: Path) -> None:
    program = tmp_path / "dropbearmulti"
    shutil.copyfile("/bin/sleep", program)
    program.chmod(0o755)
    with subprocess.Popen(["sleep", "1000"], executable=program) as process:
        program.unlink()
        assert os.readlink(f"/proc/{process.pid}/exe") == f"{program} (deleted)"
        assert process.pid not in daemons.running_daemons(str(tmp_path / "dropbear"))
        process.kill()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_holder_of_a_port_is_named_unless_it_is_ours(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        port = taken.getsockname()[1]
        assert daemons.port_holders(port, []) == []  # not listening yet
        taken.listen()
        holders = daemons.port_holders(port, [])
        assert [holder.rpartition(" (")[2] for holder in holders] == [f"pid {os.getpid()})"]
        assert daemons.port_holders(port, [os.getpid()]) == []
    assert daemons.port_holders(port, []) == []


def test_a_process_that_closes_files_meanwhile_holds_its_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: ["99999", *listed(path), "99998"])
    with socket.socket() as held:
        assert str(os.fstat(held.fileno()).st_ino) in daemons.socket_inodes(os.getpid()).decode().split()


ANSWER = {"pid": 7, "uid": 2**31, "port": 15263, "sessions": 2, "name": "solver"}


def answers(tmp_path: Path, said: str, status: int = 0) -> str:
    """The path of a hook with this answer to `status --json`."""
    launcher = tmp_path / "ssh_hook"
    launcher.write_text(
        f'#!/bin/sh\n[ "$*" = "status --json" ] || exit 3\ncat <<"END"\n{said}\nEND\nexit {status}\n', encoding="utf-8"
    )
    launcher.chmod(0o755)
    return str(launcher)


def test_the_hook_lists_its_daemons(tmp_path: Path) -> None:
    said = json.dumps({"containers": [ANSWER, {**ANSWER, "uid": os.getuid(), "port": 0, "sessions": 0}]})
    common = {"release": "", "outdated": True}
    assert daemons.servers(daemons.listed(answers(tmp_path, said)) or [], str(tmp_path / "dropbear")) == [
        {"pid": 7, "user": str(2**31), "ports": [15263], "sessions": 2, **common},
        {"pid": 7, "user": daemons.user_name(os.getuid()), "ports": [], "sessions": 0, **common},
    ]


def test_a_daemon_of_an_earlier_release_is_known_by_the_file_that_it_runs(tmp_path: Path) -> None:
    """Also if its path has another name where it was started, as in a container."""
    names = [f"dropbear-1-{digit * 12}" for digit in "ab"]
    for name in names:
        (tmp_path / name / "bin").mkdir(parents=True)
        shutil.copyfile("/bin/sleep", tmp_path / name / "bin/dropbearmulti")
        (tmp_path / name / "bin/dropbearmulti").chmod(0o755)
    (tmp_path / "dropbear").symlink_to(names[0])
    elsewhere = tmp_path / "elsewhere"
    os.link(tmp_path / names[0] / "bin/dropbearmulti", elsewhere)
    with subprocess.Popen(["sleep", "1000"], executable=elsewhere) as process:
        said = json.dumps({"containers": [{**ANSWER, "pid": process.pid}]})
        for current in names:
            (tmp_path / "dropbear").unlink()
            (tmp_path / "dropbear").symlink_to(current)
            (found,) = daemons.servers(daemons.listed(answers(tmp_path, said)) or [], str(tmp_path / "dropbear"))
            assert (found["release"], found["outdated"]) == (names[0], current == names[1])
        process.kill()


def test_the_owner_counts_where_the_hook_reports_one(tmp_path: Path) -> None:
    said = json.dumps({"containers": [{**ANSWER, "owner": 1001}, ANSWER]})
    assert [each["owner"] for each in daemons.listed(answers(tmp_path, said)) or []] == [1001, 2**31]


USER = 4711  # who has no other process


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Path]:
    """A release whose Dropbear is a shell, which users can run; ends with it."""
    directory = Path("/run/daemons-test")
    program = directory / "dropbear-1-aaaaaaaaaaaa/bin/dropbearmulti"
    program.parent.mkdir(parents=True)
    shutil.copyfile("/bin/sh", program)
    program.chmod(0o755)
    yield program
    shutil.rmtree(directory)


@contextmanager
def serving(release: Path, *before: str, user: int = USER) -> Iterator[tuple[int, int]]:
    """A daemon of a user with the process of one session: their pids."""
    code = "exec 3<&0; (echo; read line <&3) & wait"
    program = {"args": [*before, str(release), "-c", code]}
    process = subprocess.Popen(**program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=user)
    with process:
        assert process.stdout
        process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
        yield process.pid, int(children)
        process.kill()


def test_processes_that_serve_a_user(release: Path) -> None:
    directory = str(release.parents[2] / "dropbear")
    with serving(release) as own, serving(release, user=USER + 1) as others:
        assert daemons.processes_of({USER}, [], directory) == sorted(own)
        # Of a container in a user namespace of root's engine only the hook's list says whose it is.
        known = [{"pid": others[0], "owner": USER + 2}, {"pid": os.getpid(), "owner": USER + 2}]
        assert daemons.processes_of({USER + 2}, known, directory) == sorted(others)
        assert daemons.processes_of({USER + 3}, known, directory) == []
        assert daemons.end(daemons.processes_of({USER}, known, directory)) == []
        assert daemons.processes_of({USER, USER + 1}, known, directory) == sorted(others)


def test_a_user_namespace_is_its_makers(release: Path) -> None:
    """Whatever uid a process has in it."""
    with serving(release, "unshare", "--user") as own:
        assert daemons.namespace_owner(own[0]) == USER
    with serving(release) as own:
        assert daemons.namespace_owner(own[0]) == 0


def test_a_process_that_does_not_exit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons, "END_SECONDS", 0.1)
    monkeypatch.setattr(daemons.os, "kill", lambda _pid, _signal: None)
    assert daemons.end([os.getpid()]) == [os.getpid()]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (json.dumps({"containers": [ANSWER]}), 1),
        ("", 0),
        ("[]", 0),
        ('{"containers": [{"pid": 7}]}', 0),
        ('{"containers": [7]}', 0),
        (json.dumps({"containers": [{**ANSWER, "uid": "x"}]}), 0),
    ],
)
def test_a_hook_that_does_not_answer(tmp_path: Path, said: str, status: int) -> None:
    assert daemons.listed(answers(tmp_path, said, status)) is None


def test_a_hook_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons, "SECONDS", 0.2)
    launcher = tmp_path / "ssh_hook"
    launcher.write_text("#!/bin/sh\nexec sleep 60\n", encoding="ascii")
    launcher.chmod(0o755)
    assert daemons.listed(str(launcher)) is None
