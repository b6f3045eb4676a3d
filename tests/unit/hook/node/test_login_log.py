"""What Dropbear gets to log logins: the node's own socket, and the text that svr-logins.c reads."""

from __future__ import annotations

import fcntl
import os
import posix
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from ssh_hook import system_log
from ssh_hook.log import log
from ssh_hook.node import conmon, login_log

HOUR = 3600
MOST = 4095  # bytes that svr-logins.c reads


@pytest.fixture(name="place", autouse=True)
def fixture_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node on which nobody listens yet, in whose containers nothing is known but what a test says."""
    monkeypatch.setattr(system_log, "JOURNAL", str(tmp_path / "socket"))
    monkeypatch.setattr(system_log, "SYSLOG", str(tmp_path / "log"))
    monkeypatch.setattr(login_log, "clone_mount", no_right)
    monkeypatch.setattr(time, "localtime", lambda: SimpleNamespace(tm_gmtoff=HOUR))
    monkeypatch.setattr(log, "subject", ("", ""))
    monkeypatch.setattr(posix, "environ", {})
    return tmp_path


def no_right(_path: str) -> int:
    raise PermissionError


def listen(path: Path, kind: int = socket.SOCK_DGRAM) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(str(path))
    if kind == socket.SOCK_STREAM:
        listener.listen()
    return listener


@pytest.fixture(name="journal")
def fixture_journal(place: Path) -> Iterator[socket.socket]:
    with listen(place / "socket") as listener:
        yield listener


@pytest.fixture(name="syslog")
def fixture_syslog(place: Path) -> Iterator[socket.socket]:
    with listen(place / "log") as listener:
        yield listener


def text_of(known: dict[str, str], container: str, job: str, with_commands: bool = False) -> bytes:
    """Return what Dropbear reads of a container of alice's; name and job are those that `known` lacks."""
    found = {"container": container, "job": job, **known}
    return read_text(login_log.open_login_log("alice", with_commands, found))


def read_text(found: login_log.LoginLog) -> bytes:
    """Return what Dropbear reads of the container, to the end, and close all."""
    text = os.dup(found.descriptors()[1])
    found.close()
    with open(text, "rb", buffering=0) as file:
        data = file.read(MOST)
        assert file.read() == b""
    return data


def test_journald_gets_fields(journal: socket.socket, syslog: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no daemon at /dev/log the same once more."""
    text = text_of({"uid": "1000"}, "", "7")
    entries = b"SSH_HOOK_USER=alice\nSSH_HOOK_JOB=7\nSSH_HOOK_UID=1000\n"
    assert text == b"journal socket 0 0\n, user alice, job 7\n" + entries
    with socket.socket(fileno=os.dup(login_log.open_login_log("alice", False, {}).descriptors()[0])) as sender:
        sender.send(b"x")
        assert journal.recv(9) == b"x"
        seconds, microseconds = struct.unpack("ll", sender.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16))
        assert (seconds, 0 < microseconds <= 50_000) == (0, True)


def test_any_other_daemon_gets_a_line(syslog: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of({"uid": "1000"}, 'é"]', "", with_commands=True)
    header, label, element = text.decode("ascii").split("\n")
    assert (header, label) == (f"syslog log {HOUR} 1", ', user alice, container \\xe9"]')
    assert element == ' user="alice" container="\\\\xe9\\"\\]" uid="1000"'


def test_the_job_of_the_container(syslog: socket.socket) -> None:
    text = text_of({"job": "7"}, "", "")
    assert text.endswith(b'\n, user alice, job 7\n user="alice" job="7"')


def test_a_container_without_a_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the job that the variables of its own engine name."""
    monkeypatch.setattr(posix, "environ", {b"LSB_JOBID": b"8"})
    assert conmon.job_by_variables({}) == "8"
    assert conmon.job_by_variables({"SLURM_JOB_ID": "9"}) == "8"


@pytest.mark.usefixtures("journal")
def test_no_value_makes_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of({"process": "1\nSSH_HOOK_USER=root"}, "a\nMESSAGE=x\x1b", "")
    assert text.split(b"\n")[1:] == [
        b", user alice, container a\\nMESSAGE=x\\x1b",
        b"SSH_HOOK_USER=alice",
        b"SSH_HOOK_CONTAINER=a\\nMESSAGE=x\\x1b",
        b"SSH_HOOK_PROCESS=1\\nSSH_HOOK_USER=root",
        b"",
    ]


def test_what_dropbear_gets(syslog: socket.socket) -> None:
    found = login_log.open_login_log("alice", False, {})
    descriptors = found.descriptors()
    assert found.arguments() == ["-L", "{},{}".format(*descriptors)]
    assert not any(os.get_inheritable(descriptor) for descriptor in descriptors)
    assert fcntl.fcntl(descriptors[1], fcntl.F_GETFL) & os.O_NONBLOCK
    found.close()
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest.mark.usefixtures("journal")
def test_what_a_start_asks_of_the_kernel(monkeypatch: pytest.MonkeyPatch, system_calls: list[str]) -> None:
    """It looks for a monitor only where podman has called the runtime, which is then the hook's parent."""
    found = login_log.open_login_log("alice", False, {"uid": "1000"})
    assert system_calls == ["stat", "socket", "connect", "setsockopt", "pipe2", "write", "close"]
    system_calls.clear()
    found.close()
    assert system_calls == ["close", "close"]
    system_calls.clear()
    monkeypatch.setattr(conmon, "_ANCESTORS", 1)
    assert conmon.find() == ([], {})
    assert system_calls == ["getppid", "open", "open", "read", "read", "close", "close"]


def test_all_is_read_however_long_the_values_are(syslog: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    long = '"' * 1000
    monkeypatch.setattr(log, "subject", (long, ""))
    text = text_of(dict.fromkeys(("uid", "job", "process"), long), long, "")
    assert text.endswith(b' process="' + b'\\"' * 200 + b'"')


def test_a_container_of_which_nothing_can_be_found_out(syslog: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_pid: int, _generations: int) -> None:
        raise MemoryError

    monkeypatch.setattr(conmon, "_above", fail)
    assert conmon.find() == ([], {})
    text = read_text(login_log.open_login_log("alice", False, {}))
    assert text.endswith(b'\n user="alice"')


def test_a_directory_from_which_something_harmful_could_be_reached_is_closed(
    place: Path, syslog: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before Linux 5.12."""
    opened = []

    def clone(path: str) -> int:
        opened.append(os.open(path, os.O_PATH))
        return opened[-1]

    def refuse(_mounted: int, _attributes: int) -> None:
        raise OSError

    monkeypatch.setattr(login_log, "clone_mount", clone)
    monkeypatch.setattr(login_log.syscalls, "set_mount_attributes", refuse)
    found = login_log.open_login_log("alice", False, {})
    assert len(found.descriptors()) == 2
    (directory,) = opened
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(directory)
    monkeypatch.setattr(login_log.syscalls, "set_mount_attributes", lambda mounted, attributes: None)
    found = login_log.open_login_log("alice", False, {})
    assert found.descriptors()[2] == opened[1]


def test_root_of_the_node_gets_no_directory(syslog: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """In it may be sockets that are root's alone."""
    monkeypatch.setattr(login_log, "_open_directory", lambda path: os.open(path, os.O_PATH))
    counts = [len(login_log.open_login_log("alice", False, {"uid": uid}).descriptors()) for uid in ("0", "1000")]
    assert counts == [2, 3]


def test_a_node_without_a_log(place: Path) -> None:
    assert login_log.open_login_log("alice", False, {}).arguments() == []
    with listen(place / "log", socket.SOCK_STREAM):
        assert login_log.open_login_log("alice", False, {}).arguments() == []


def test_a_node_that_hides_processes(syslog: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    def hide(_path: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(login_log.os, "stat", hide)
    assert login_log.open_login_log("alice", False, {}).arguments() == []


@pytest.mark.parametrize("refused", ["set_send_timeout", "pipe2"])
def test_a_start_does_not_fail_for_the_log(
    syslog: socket.socket, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError

    where = login_log.syscalls if refused == "set_send_timeout" else login_log.os
    monkeypatch.setattr(where, refused, refuse)
    before = os.listdir("/proc/self/fd")
    assert login_log.open_login_log("alice", False, {}).descriptors() == []
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(("machine", "number"), [("ppc64le", 19), ("x86_64", 21)])
def test_the_number_of_the_timeout_is_that_of_the_machine(machine: str, number: int) -> None:
    """On POWER, 21 is SO_PEERCRED."""
    code = "import posix, sys; found = [*posix.uname()][:-1]; found.append(sys.argv[1]); "
    code += "posix.uname = lambda: posix.uname_result(found); "
    code += "from ssh_hook.linux import syscalls; print(syscalls._SO_SNDTIMEO)"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, machine],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(number)
