"""The search through processes that have no entry: how many there are is up to users."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from ssh_hook.errors import LateError
from ssh_hook.linux.process import Process
from ssh_hook.linux.process_search import own_processes, processes_until


def test_a_search_ends_in_time() -> None:
    with pytest.raises(LateError, match="cannot look through the processes of this node in time: try again"):
        list(processes_until(time.monotonic() - 1))
    found = processes_until(time.monotonic() + 0.2)
    next(found)
    time.sleep(0.3)  # as whoever asks for much of one
    with pytest.raises(LateError):
        next(found)


def test_a_process_that_the_caller_may_not_trace_is_not_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Process, "mount_namespace", lambda process: (4, 1) if process.pid == os.getpid() else None)
    with subprocess.Popen(["sleep", "60"]) as other:
        deadline = time.monotonic() + 600
        all_found, own = ({process.pid for process in find(deadline)} for find in (processes_until, own_processes))
        other.kill()
    assert {os.getpid(), other.pid} <= all_found
    assert own == {os.getpid()}
