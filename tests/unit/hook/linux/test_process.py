"""Processes by their directories in /proc: all of them, and each let go of."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_hook import fast_stdlib
from ssh_hook.linux.process import Process, all_processes, pid_is_taken
from ssh_hook.start import enroot_members

COUNT = 60


@pytest.fixture
def sleepers() -> Iterator[set[int]]:
    children = [subprocess.Popen(["sleep", "60"]) for _number in range(COUNT)]
    yield {child.pid for child in children}
    for child in children:
        child.kill()
        child.wait()


def test_more_processes_than_descriptors_are_all_seen(sleepers: set[int]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + COUNT // 2, hard))
    try:
        seen = {process.pid for process in all_processes()}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sleepers <= seen
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_ended_is_not_taken_for_another() -> None:
    child = subprocess.Popen(["sleep", "60"])
    process = Process(child.pid)
    assert process.is_alive()
    assert process.program() is not None
    assert process.parent() == os.getpid()
    process.kill()
    child.wait()
    assert not process.is_alive()
    assert process.mount_namespace() is None
    with pytest.raises(OSError, match="No such process"):
        process.parent()
    process.kill()  # nothing happens
    process.close()


FIRST_THREAD_EXITS = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60}.get(platform.machine(), 93), 0)  # exit(2)
"""


def test_a_process_without_its_first_thread_is_alive() -> None:
    """Its state is a zombie's, and it has no mountinfo of its own: so a session could outlive its container."""
    with subprocess.Popen([sys.executable, "-c", FIRST_THREAD_EXITS]) as child, Process(child.pid) as process:
        try:
            deadline = time.monotonic() + 60
            while process.read("status").split(b"State:\t")[1][:1] != b"Z":
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with Process(os.getpid()) as caller:
                assert process.first_mount() == caller.first_mount()
            assert process.is_alive()
        finally:
            process.kill()
        deadline = time.monotonic() + 60
        while process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(OSError, match=r"Invalid argument|No such"):
            process.first_mount()


def test_a_python_that_was_built_without_pidfds_ends_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was built with the headers of Linux 4.18, of EL 8."""
    monkeypatch.delattr(fast_stdlib.os, "pidfd_open")
    monkeypatch.delattr(fast_stdlib.signal, "pidfd_send_signal")
    with subprocess.Popen(["sleep", "60"]) as child:
        process = Process(child.pid)
        process.kill()
        assert child.wait() == -signal.SIGKILL
        enroot_members.await_end_of(process)
        process.close()


def test_the_pid_in_its_own_namespace() -> None:
    assert Process(os.getpid()).own_pid() == os.getpid()
    with subprocess.Popen(["unshare", "--user", "--pid", "--fork", "sleep", "60"]) as child:
        try:
            children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
            while not (pids := children.read_text().split()):
                time.sleep(0.01)
            assert Process(int(pids[0])).own_pid() == 1
        finally:
            for pid in children.read_text().split():
                os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize(("error", "is_taken"), [(None, True), (PermissionError, True), (ProcessLookupError, False)])
def test_a_pid_that_proc_hides_is_taken(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError] | None, is_taken: bool
) -> None:
    def kill(_pid: int, _number: int) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(fast_stdlib.os, "kill", kill)
    assert pid_is_taken(4711) == is_taken
