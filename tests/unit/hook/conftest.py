"""What tests of the hook have in common: a machine that is busy changes no result, and each test ends its children."""

from __future__ import annotations

import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from patience import within
from ssh_hook import log
from ssh_hook.commands import doctor, wait, why
from ssh_hook.health import login
from ssh_hook.keys import writer
from ssh_hook.linux import disposable_process, process_questions, syscalls
from ssh_hook.node import access, conmon, door_collection, earlier, inventory, locks, places, record
from ssh_hook.schedulers import bounded_output, node_call
from ssh_hook.start import supervisor
from ssh_hook.stop import ending, janitor

AMPLE = 60.0  # seconds
LIMITS = (
    (inventory, "_TIMEOUT"),
    (conmon, "_TIMEOUT"),
    (record, "_PATIENCE"),
    (disposable_process, "_REAP_TIMEOUT"),
    (process_questions, "_PATIENCE"),
    (doctor, "DEADLINE"),
    (door_collection, "_TIMEOUT"),
    (janitor, "_ONE"),
    (locks, "_OF_A_PROLOG"),
    (locks, "_TIMEOUT"),
    (log, "_TIMEOUT"),
    (node_call, "_REPORT"),
    (node_call, "_WORK"),
    (ending, "_TIMEOUT"),
    (supervisor, "_END_TIMEOUT"),
    (supervisor, "_REAP_TIMEOUT"),
    (login, "_ATTEMPT"),
    (wait, "_MIN_ANSWER"),
    (why, "_JOB_SECONDS"),
    (bounded_output, "_REAP_TIMEOUT"),
    (writer, "_LOCK_SECONDS"),
)


@pytest.fixture(autouse=True)
def ample_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the limits above so far that no test reaches them: a test of what is late sets its own, or has `hang`."""
    for module, name in LIMITS:
        monkeypatch.setattr(module, name, AMPLE)


@pytest.fixture(name="node", autouse=True)
def fixture_node(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root's directory on a node that is this test's alone; the caller is its root."""
    place = tmp_path_factory.mktemp("node")
    for module in (locks, earlier):
        monkeypatch.setattr(module, "PLACE", str(place))
    monkeypatch.setattr(places, "ENTRIES", str(place / "entries"))
    monkeypatch.setattr(access, "_roots", lambda _is_rootless: {os.geteuid()})
    return place


@pytest.fixture(name="locked")
def fixture_locked() -> Callable[[int, int], AbstractContextManager[None]]:
    """Has another process lock a byte for a user meanwhile, of a kind of `locks`."""

    @contextmanager
    def locked(uid: int, kind: int) -> Iterator[None]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            is_locked = locks.try_lock(locks.open_at(uid, kind))
            os.write(writer, b"x" if is_locked else b"")
            time.sleep(1000)
        os.close(writer)
        try:
            assert os.read(reader, 1) == b"x"
            yield
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reader)

    return locked


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Reap what a test has started; fail if it still runs, and kill it, for the tests that come after."""
    yield
    is_killed = False
    deadline = time.monotonic() + within(10)
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if not pid:
            if time.monotonic() > deadline and not is_killed:
                is_killed = True
                for task in Path("/proc/self/task").iterdir():
                    for child in (task / "children").read_text(encoding="ascii").split():
                        os.kill(int(child), signal.SIGKILL)
            time.sleep(0.005)
    assert not is_killed, "a child went on"


@pytest.fixture(name="hang")
def fixture_hang(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What hangs in a disposable process. The time of whoever waits for that is over then, and no sooner."""
    hangs = tmp_path_factory.mktemp("hang") / "hangs"
    read = disposable_process._read

    def read_until_it_hangs(reader: int, _deadline: float, limit: int) -> bytes | None:
        deadline = time.monotonic() + within(AMPLE)
        while not syscalls.poll([reader], time.monotonic() + 0.01):
            if hangs.exists():
                hangs.unlink()
                return None
            if time.monotonic() > deadline:
                pytest.fail("it neither ends nor hangs")
        return read(reader, deadline, limit)

    def hang(*_arguments: object) -> None:
        hangs.touch()
        time.sleep(1000)

    monkeypatch.setattr(disposable_process, "_read", read_until_it_hangs)
    return hang


@pytest.fixture(name="in_namespaces")
def fixture_in_namespaces() -> Callable[[Callable[[], object]], Any]:
    """Calls a function in a child that is root in a user and a mount namespace of its own; returns what it returns."""

    def call(work: Callable[[], object]) -> Any:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                ids = (("setgroups", "deny"), ("uid_map", f"0 {os.geteuid()} 1"), ("gid_map", f"0 {os.getegid()} 1"))
                syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
                for name, text in ids:
                    Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
                os.write(writer, pickle.dumps((work(), "")))
            except BaseException:
                os.write(writer, pickle.dumps((None, traceback.format_exc())))
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as answer:
            value, problem = pickle.load(answer)
        assert problem == ""
        return value

    return call
