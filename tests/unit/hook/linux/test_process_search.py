"""The search through processes that have no entry: how many there are is up to users."""

from __future__ import annotations

import os
import subprocess
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.errors import LateError
from ssh_hook.linux import process_search
from ssh_hook.linux.process import Process
from ssh_hook.linux.process_search import are_running, ask_own_processes, processes_until

STRANGER = 4711  # who has no other process


def test_a_search_ends_in_time() -> None:
    with pytest.raises(LateError, match="cannot look through the processes of this node in time: try again"):
        list(processes_until(time.monotonic() - 1))
    found = processes_until(time.monotonic() + 0.2)
    next(found)
    time.sleep(0.3)  # as whoever asks for much of one
    with pytest.raises(LateError):
        next(found)


def test_only_the_processes_that_can_be_the_callers_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    own_map = b"0 0 4294967295\n"
    uids = {os.getpid(): 2001, os.getppid(): STRANGER}
    processes = [SimpleNamespace(pid=pid, uid=partial(uids.get, pid), read=lambda _name: own_map) for pid in uids]
    monkeypatch.setattr(process_search, "all_processes", lambda: processes)
    monkeypatch.setattr(process_search, "read_file", lambda _path: own_map)
    deadline = time.monotonic() + 600
    for caller, asked in ((0, set(uids)), (STRANGER, {os.getppid()}), (STRANGER + 1, set())):
        monkeypatch.setattr(process_search.os, "geteuid", lambda caller=caller: caller)
        answers = ask_own_processes(lambda process: b"%d" % process.pid, deadline)
        assert answers == {pid: b"%d" % pid for pid in asked}
    with pytest.raises(LateError):
        ask_own_processes(lambda _process: b"", time.monotonic() - 1)


def test_a_search_through_the_callers_processes_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process costs all the time that is left. What was not asked is not taken for an answer."""
    clock = [0.0]
    monkeypatch.setattr(process_search, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def question(_process: Process) -> bytes:
        clock[0] = 10.0  # in the child
        return b"yes"

    children = [subprocess.Popen(["sleep", "60"]) for _number in range(10)]
    with pytest.raises(LateError, match="several of the processes here do not answer"):
        ask_own_processes(question, 5.0)
    for child in children:
        child.kill()
        child.wait()


def test_processes_of_containers_are_the_callers_by_the_map_of_their_user_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever uid they have there, as of a rootless engine."""
    own_map = b"0 0 4294967295\n"
    monkeypatch.setattr(process_search.os, "geteuid", lambda: STRANGER)
    for map_of, is_own in ((own_map, False), (b"0 4711 1\n1 100000 65536\n", True), (b"0 4712 1\n", False)):
        process: Any = SimpleNamespace(uid=lambda: 100000, read={"uid_map": map_of}.get)
        assert process_search._may_be_own(process, own_map) == is_own


def test_a_process_runs_if_its_start_time_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Process(os.getpid()).start_time()
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
    identities = [(os.getpid(), own), (os.getpid(), own + 1), (ended, Process(ended).start_time()), (2**22, own)]
    assert are_running(identities) == [True, False, False, False]
    # Silent, or hidden
    for answers in ({}, dict.fromkeys((os.getpid(), ended), b"")):
        monkeypatch.setattr(process_search, "ask", lambda _question, _pids, answers=answers: answers)
        assert are_running(identities) == [True, True, True, False]
    os.waitpid(ended, 0)
