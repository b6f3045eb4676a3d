"""The system log: fields for journald, one readable line for any other daemon, and no wait for one that hangs."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from ssh_hook import system_log
from ssh_hook.errors import PORT_TAKEN
from ssh_hook.linux import syscalls
from ssh_hook.log import ERROR, WARNING, Log

LONG = 20  # seconds that nothing here takes
FIELDS = {"kind": PORT_TAKEN, "user": "alice", "job": "", "container": 'a"]\\b'}
LINE = r"<27>[A-Z][a-z]{2} [ 0-9][0-9] \d\d:\d\d:\d\d ssh_hook\[\d+\]: "
ELEMENT = r'[ssh_hook kind="port-taken" user="alice" container="a\"\]\\b"]'


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node on which nobody listens yet."""
    monkeypatch.setattr(system_log, "JOURNAL", str(tmp_path / "journal"))
    monkeypatch.setattr(system_log, "SYSLOG", str(tmp_path / "log"))
    return tmp_path


def listen(path: Path, kind: int = socket.SOCK_DGRAM) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(str(path))
    listener.settimeout(10)
    if kind == socket.SOCK_STREAM:
        listener.listen()
    return listener


@pytest.fixture(name="journal")
def fixture_journal(place: Path) -> Iterator[socket.socket]:
    with listen(place / "journal") as listener:
        yield listener


@pytest.fixture(name="syslog")
def fixture_syslog(place: Path) -> Iterator[socket.socket]:
    with listen(place / "log") as listener:
        yield listener


def test_journald_gets_fields(journal: socket.socket, syslog: socket.socket) -> None:
    """And no daemon at /dev/log the same once more."""
    system_log.send(system_log.ERROR, "é is in use", FIELDS)
    entry = dict(line.split("=", 1) for line in journal.recv(9999).decode().splitlines())
    assert entry["MESSAGE"] == "é is in use"
    assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"], entry["SYSLOG_FACILITY"]) == ("3", "ssh_hook", "3")
    assert (entry["SSH_HOOK_KIND"], entry["SSH_HOOK_USER"]) == (PORT_TAKEN, "alice")
    assert entry["SSH_HOOK_CONTAINER"] == 'a"]\\b'
    assert "SSH_HOOK_JOB" not in entry
    syslog.setblocking(False)
    with pytest.raises(BlockingIOError):
        syslog.recv(1)


def test_any_other_daemon_gets_a_line(syslog: socket.socket) -> None:
    system_log.send(system_log.ERROR, "é is in use [port-taken]", FIELDS)
    line = syslog.recv(9999).decode("ascii")
    assert re.fullmatch(LINE + re.escape(ELEMENT + r" \xe9 is in use [port-taken]"), line), line


def test_no_text_makes_a_line_so_long_that_its_fields_are_cut(syslog: socket.socket) -> None:
    fields = dict.fromkeys(("kind", "user", "uid", "container", "container_id", "job"), '"' * 200)
    system_log.send(system_log.ERROR, "\U0001f600" * 1000, {**fields, "user": "\U0001f600" * 200})
    line = syslog.recv(99999).decode("ascii")
    assert len(line) == 8192
    element, _end, text = line.partition(r'\""] ')
    assert element.count(r"\"" * 199) == 5
    assert text.startswith(r"\U0001f600" * 99)


def test_a_daemon_with_a_stream(place: Path) -> None:
    with listen(place / "log", socket.SOCK_STREAM) as listener:
        system_log.send(system_log.WARNING, "x", {})
        connection, _address = listener.accept()
        with connection:
            assert re.fullmatch(LINE.replace("27", "28") + "x\0", connection.recv(9999).decode("ascii"))


@pytest.fixture(name="in_time")
def fixture_in_time() -> Iterator[None]:
    """A system call that waits fails the test, which it would else hold up for ever."""

    def fail(_signal: int, _frame: object) -> NoReturn:
        pytest.fail("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(LONG)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("in_time")
def test_a_daemon_that_reads_nothing_costs_the_message(journal: socket.socket, syslog: socket.socket) -> None:
    while system_log._has_sent(system_log.JOURNAL, syscalls.SOCK_DGRAM, b"x" * 1000):
        pass  # until the queue is full
    system_log.send(system_log.ERROR, "x", {})
    assert syslog.recv(9999).endswith(b": x")


def test_nobody_listens(place: Path) -> None:
    assert list(place.iterdir()) == []
    system_log.send(system_log.ERROR, "x", FIELDS)


def test_what_is_logged_has_its_kind(
    syslog: socket.socket, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    log.to_syslog = True
    log.describe_subject = lambda: {"user": "alice"}
    monkeypatch.setattr(log, "_print_in_child", lambda *_arguments: False)
    log(ERROR, "it is\nin use", PORT_TAKEN)
    log(WARNING, "careful", PORT_TAKEN)
    assert capfd.readouterr().err == "ssh_hook: error: it is\\nin use [port-taken]\nssh_hook: warning: careful\n"
    element = '[ssh_hook kind="port-taken" user="alice"]'
    assert syslog.recv(9999).decode().endswith(f": {element} it is\\nin use [port-taken]")
    assert syslog.recv(9999).decode().endswith(f": {element} careful")
    assert log.kept == [(ERROR, PORT_TAKEN, "it is\\nin use"), (WARNING, PORT_TAKEN, "careful")]


def test_a_subject_that_cannot_be_found_out_costs_the_fields(
    syslog: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def fail() -> dict[str, str]:
        calls.append(1)
        raise MemoryError

    log = Log()
    log.to_syslog = True
    log.describe_subject = fail
    monkeypatch.setattr(log, "_print", lambda *_arguments: None)
    for _number in range(2):
        log(ERROR, "x", PORT_TAKEN)
        assert syslog.recv(9999).decode().endswith(': [ssh_hook kind="port-taken"] x [port-taken]')
    assert calls == [1]
