"""Whom the end of a daemon kills: its sessions, and nobody who has come to the inode of its namespace."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import within
from ssh_hook.linux import syscalls
from ssh_hook.linux.process import Process, all_processes
from ssh_hook.stop import ending

ROOT, OTHER = b"412", b"31"  # ids of mounts


class Fake:
    """A process with a root mount, which ends when it is killed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.is_killed = False

    def is_alive(self) -> bool:
        return not self.is_killed

    def mounts(self) -> set[bytes]:
        return set() if self.is_killed else {ROOT}

    def first_mount(self) -> bytes:
        return ROOT

    def stop(self) -> None:
        """It does nothing by itself here."""

    def kill(self) -> None:
        self.is_killed = True


Look = Callable[[], list[Fake]]
Ends = Callable[[Fake, Look], bool]


@pytest.fixture(name="ends")
def fixture_ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    """Ends a daemon among the processes that a look at /proc shows."""

    def end(daemon: Any, look: Look) -> bool:
        monkeypatch.setattr(ending, "all_processes", lambda _proc: look())
        return ending.end_daemon(daemon, has_own_mounts=True)

    return end


def test_sessions_end_before_the_daemon(ends: Ends) -> None:
    daemon, session = Fake(2**22), Fake(2**22 + 1)
    alive_with_session = []

    def look() -> list[Fake]:
        alive_with_session.append((daemon.is_alive(), session.is_alive()))
        return [daemon, session]

    assert ends(daemon, look)
    assert alive_with_session == [(True, True), (True, False)]


def test_a_process_with_a_later_mount_of_the_same_id_is_spared(ends: Ends) -> None:
    """The daemon ends while /proc is read, by its scheduler or by the kill before, and a container starts just then."""
    daemon, other = Fake(2**22), Fake(2**22 + 1)

    def look() -> list[Fake]:
        daemon.kill()
        return [other]

    assert ends(daemon, look)
    assert not other.is_killed, "the first process of another container was killed"


@pytest.fixture(name="daemon")
def fixture_daemon() -> Iterator[tuple[Process, int]]:
    """A daemon, and the pid of a session that goes on when the daemon ends."""
    command = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        yield Process(process.pid), int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGKILL)


def test_a_daemon_that_ends_with_its_server_is_kept_until_all_sessions_have_ended(
    daemon: tuple[Process, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, server = daemon
    with subprocess.Popen(["sleep", "1000"]) as session:
        looks = 0

        def first_mount(self: Process) -> bytes:
            nonlocal looks
            looks += self.pid == session.pid
            return ROOT if self.pid in (process.pid, server) or (self.pid == session.pid and looks > 1) else OTHER

        monkeypatch.setattr(ending, "_POLL", 0.2)
        monkeypatch.setattr(Process, "first_mount", first_mount)
        monkeypatch.setattr(Process, "mounts", lambda _process: {ROOT})
        try:
            assert ending.end_daemon(process, has_own_mounts=True)
            assert not process.is_alive()
            assert looks > 1
        finally:
            session.kill()


@pytest.mark.parametrize("has_mount", [True, False])
def test_sessions_without_mounts_end_by_descent(
    daemon: tuple[Process, int], has_mount: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that has called chroot(2) for a directory on which nothing is mounted."""
    process, session = daemon
    stranger = Process(1)

    def first_mount(self: Process) -> bytes:
        return ROOT if self.pid == process.pid or (self.pid == session and has_mount) else b""

    monkeypatch.setattr(Process, "first_mount", first_mount)
    monkeypatch.setattr(Process, "mounts", lambda _process: {ROOT})
    assert ending.end_daemon(process, has_own_mounts=True)
    assert not process.is_alive()
    assert [found.pid for found in all_processes() if found.pid == session and found.is_alive()] == []
    assert stranger.is_alive()
    stranger.close()


def test_a_daemon_whose_sessions_cannot_be_found_in_time_ends_with_its_descendants(
    daemon: tuple[Process, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user can have processes whose mounts take long to list, and a container must not outlive its end for them."""
    process, session = daemon
    asked: list[int] = []

    def slow_first_mount(self: Process) -> bytes:
        asked.append(self.pid)
        time.sleep(0.2)
        return OTHER

    monkeypatch.setattr(ending, "_TIMEOUT", 0.5)
    monkeypatch.setattr(Process, "first_mount", slow_first_mount)
    monkeypatch.setattr(Process, "mounts", lambda _process: {ROOT})
    assert ending.end_daemon(process, has_own_mounts=True)
    assert len(asked) < 5, "the deadline was not looked at within a scan"
    deadline = time.monotonic() + within(5)
    while any(found.pid == session and found.is_alive() for found in all_processes()):
        assert time.monotonic() < deadline, "a session goes on"
        time.sleep(0.01)
    assert Process(os.getpid()).is_alive()


def test_a_daemon_that_no_signal_reaches_has_not_ended(
    daemon: tuple[Process, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, _session = daemon
    monkeypatch.setattr(ending, "_TIMEOUT", -1.0)
    monkeypatch.setattr(ending, "_GRACE", 0.1)
    monkeypatch.setattr(Process, "kill", lambda _process: None)
    assert not ending.end_daemon(process, has_own_mounts=True)


def test_what_is_killed_with_the_daemon_has_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the server, which has the port, where the first process of the container's pid namespace was killed."""
    with subprocess.Popen(["sleep", "1000"]) as daemon, subprocess.Popen(["sleep", "1000"]) as server:

        def kill(process: Process) -> None:
            assert process.pid == server.pid
            daemon.kill()
            threading.Timer(0.3, server.kill).start()

        monkeypatch.setattr(ending._Sessions, "include", lambda _self, process: process.pid == server.pid)
        monkeypatch.setattr(Process, "kill", kill)
        monkeypatch.setattr(Process, "stop", lambda _process: None)
        assert ending.end_daemon(Process(daemon.pid))
        assert not Process(server.pid).is_alive()


InNamespaces = Callable[[Callable[[], object]], Any]


def test_a_caller_that_is_a_session_of_the_daemon_goes_on(in_namespaces: InNamespaces) -> None:
    def work() -> bool:
        caller = os.getpid()
        ending._Sessions.include = lambda _self, process: process.pid == caller
        with subprocess.Popen(["sleep", "60"]) as daemon:
            return ending.end_daemon(Process(daemon.pid))

    assert in_namespaces(work) is True


def test_orphans_are_killed_and_reaped(in_namespaces: InNamespaces) -> None:
    def work() -> str:
        ending._TIMEOUT = within(5)
        for _number in range(3):
            subprocess.Popen(["sleep", "60"])
        ending.end_orphans()
        return Path("/proc/thread-self/children").read_text(encoding="ascii")

    with subprocess.Popen(["sleep", "60"]) as other:
        left, is_alive = in_namespaces(work), other.poll() is None
        other.kill()
    assert (left, is_alive) == ("", True)


def test_whose_mounts_are_not_the_callers(in_namespaces: InNamespaces) -> None:
    def work() -> list[bool]:
        found = []
        for kind in (0, syscalls.CLONE_NEWNS):
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                if kind:
                    syscalls.unshare(kind)
                os.write(writer, b"x")
                time.sleep(1000)
            os.read(reader, 1)
            with Process(child) as daemon:
                found.append(ending._has_own_mounts(daemon))
                daemon.kill()
                os.waitpid(child, 0)
                found.append(ending._has_own_mounts(daemon))
        return found

    assert in_namespaces(work) == [False, False, True, False]
