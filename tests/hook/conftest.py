"""Fixtures of the tests that start real containers. They run in a bed: see tests/hook/run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import ALICE, PORT, WORK, processes, records, repeated, run, traces, wait_for
from hook_log import Syslog
from install import ROOT
from starter import Start, Starter


def pytest_sessionstart() -> None:
    """Nothing here may touch the machine itself: it signals processes and starts engines."""
    if not Path("/run/hook-test-dev").is_dir():
        pytest.exit("these tests run in a bed only: use tests/hook/run", returncode=2)
    WORK.mkdir(exist_ok=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what succeeded at a later attempt only; tests/run.py adds these lines up."""
    for reason, number in repeated.items():
        terminalreporter.write_line(f"tried again: {number} ({reason})")


@pytest.fixture(scope="session")
def log_socket() -> Syslog:
    return Syslog()


@pytest.fixture
def syslog(log_socket: Syslog) -> Syslog:
    log_socket.clear()
    return log_socket


def pytest_configure(config: pytest.Config) -> None:
    """Have pytest's temporary directories below one of this process's own.

    pytest closes the one that all processes share when it first uses it, to users whom a test in another bed lets in.
    """
    top = tempfile.mkdtemp(prefix="pytest-")
    os.chmod(top, 0o755)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = top
    config.add_cleanup(lambda: shutil.rmtree(top, ignore_errors=True))


@pytest.fixture(name="with_collection", scope="session")
def fixture_with_collection(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which Python finds the collection in this checkout."""
    place = tmp_path_factory.mktemp("collections")
    (place / "ansible_collections/ocihooks").mkdir(parents=True)
    (place / "ansible_collections/ocihooks/ssh").symlink_to(ROOT)
    return {**os.environ, "PYTHONPATH": str(place)}


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


@pytest.fixture
def silent() -> Iterator[str]:
    """An address at which something accepts connections and says nothing."""
    with socket.create_server(("127.0.7.1", PORT), backlog=64):
        yield "127.0.7.1"


@pytest.fixture
def swallowed() -> Iterator[str]:
    """An address whose packets go nowhere."""
    lost = "10.97.0.1"
    run(["ip", "link", "add", "nowhere", "type", "veth", "peer", "name", "nobody"]).checked()
    for name in ("nowhere", "nobody"):
        run(["ip", "link", "set", name, "up"]).checked()
    run(["ip", "route", "add", lost, "dev", "nowhere"]).checked()
    run(["ip", "neighbour", "add", lost, "lladdr", "02:00:00:00:00:01", "dev", "nowhere"]).checked()
    yield lost
    run(["ip", "link", "del", "nowhere"]).checked()


def sleeper(*prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*prefix, "/bin/sleep", "1000"]) as process:
        yield process
        is_alive = process.poll() is None
        process.kill()
    assert is_alive, "a process that has to stay was killed"


@pytest.fixture
def alices() -> Iterator[subprocess.Popen[bytes]]:
    """A process of alice's that has to stay."""
    yield from sleeper("setpriv", f"--reuid={ALICE}", "--clear-groups")


@pytest.fixture
def canary(alices: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of root's that has to stay, beside one of alice's."""
    yield from sleeper()
