"""Fixtures of the tests that start real containers. They run in a bed: see tests/hook/run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from containers import ALICE, Container, Engine, processes, records, traces, wait_for

Start = Callable[..., Container]


def pytest_sessionstart() -> None:
    """Nothing here may touch the machine itself: it signals processes and starts engines."""
    if not Path("/run/hook-test-dev").is_dir():
        pytest.exit("these tests run in a bed only: use tests/hook/run", returncode=2)


class Syslog:
    """What the bed's processes send to /dev/log."""

    def __init__(self) -> None:
        self._messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path = Path("/dev/log")
        self._path.unlink(missing_ok=True)
        self._socket.bind(str(self._path))
        self._path.chmod(0o666)
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        while True:
            self._messages.append(self._socket.recv(65536).decode(errors="replace"))

    def clear(self) -> None:
        """Forget what came so far."""
        self._messages.clear()

    def of_hook(self) -> list[str]:
        """The hook's messages, in order."""
        return [message for message in self._messages if "ssh_hook[" in message]


@pytest.fixture(scope="session")
def log_socket() -> Syslog:
    return Syslog()


@pytest.fixture
def syslog(log_socket: Syslog) -> Syslog:
    log_socket.clear()
    return log_socket


@pytest.fixture(autouse=True)
def nothing_left(log_socket: Syslog) -> Iterator[None]:
    """After each test the bed is as it was before: no process, port, mount or record of the hook more."""
    before = traces()
    pids = set(processes())
    yield
    try:
        wait_for(lambda: traces() <= before, "end of what the test started")
    except AssertionError:
        left = sorted(traces() - before)
        clear(set(processes()) - pids)
        raise AssertionError(f"left behind: {left}") from None


def clear(pids: set[int]) -> None:
    """After a failure: end these processes, so that the tests that follow say something of their own."""
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        state, parent = fields[0], int(fields[1])
        os.kill(parent if state == "Z" and parent not in (1, os.getpid()) else pid, signal.SIGKILL)
    for record in records():
        Path(record).unlink()


class Starter:
    """Starts containers and removes them at the end."""

    def __init__(self) -> None:
        self._started: list[Container] = []

    def __call__(self, engine: str, image: str = "debian", **options: Any) -> Container:
        container = Engine(engine).start(image, **options)
        self._started.append(container)
        return container

    def remove_all(self) -> None:
        for container in reversed(self._started):
            container.remove()


@pytest.fixture
def start(nothing_left: None) -> Iterator[Start]:
    starter = Starter()
    yield starter
    starter.remove_all()


@pytest.fixture(scope="module")
def start_shared() -> Iterator[Start]:
    """Like `start`, for containers that all tests of a module use."""
    starter = Starter()
    yield starter
    starter.remove_all()


def sleeper(*prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*prefix, "/bin/sleep", "1000"]) as process:
        yield process
        is_alive = process.poll() is None
        process.kill()
    assert is_alive


@pytest.fixture
def alices() -> Iterator[subprocess.Popen[bytes]]:
    """A process of alice's that has to stay."""
    yield from sleeper("setpriv", f"--reuid={ALICE}", "--clear-groups")


@pytest.fixture
def canary(alices: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of root's that has to stay, beside one of alice's."""
    yield from sleeper()
