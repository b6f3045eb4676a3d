"""Questions about processes, some of which are never answered."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import within
from ssh_hook.linux.process_questions import ask

PATIENCE = 0.2  # seconds


@pytest.fixture(name="silence")
def fixture_silence(tmp_path: Path) -> Iterator[Path]:
    """A FIFO: whoever opens it waits until a signal ends the process, as in the kernel for a silent one.

    After a while others open it, so that a test that would wait for ever fails.
    """
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = ["sh", "-c", 'sleep "$1"; while :; do : >"$2"; done', "sh", str(within(20)), str(fifo)]
    with subprocess.Popen(command, start_new_session=True) as end:
        yield fifo
        os.killpg(end.pid, signal.SIGKILL)


def children() -> str:
    return Path("/proc/thread-self/children").read_text(encoding="ascii")


@pytest.fixture(name="deaf")
def fixture_deaf() -> Iterator[None]:
    """The caller ignores and blocks SIGALRM, as a process that called it may do."""
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.signal(signal.SIGALRM, before)


def test_each_process_is_asked_in_one_child() -> None:
    def question(pid: int) -> bytes:
        if pid == 3:
            raise ProcessLookupError
        return b"%d of %d" % (pid, os.getpid())

    answers = ask(question, [2, 3, 5])
    assert answers[3] == b""
    assert {answer.split()[-1] for answer in (answers[2], answers[5])}.isdisjoint({b"%d" % os.getpid()})
    assert [answers[pid].split()[0] for pid in (2, 5)] == [b"2", b"5"]
    assert ask(question, []) == {}


@pytest.mark.usefixtures("deaf")
def test_a_silent_process_hides_no_other(silence: Path) -> None:
    def question(pid: int) -> bytes:
        if pid in (3, 5):
            silence.read_bytes()
        return b"yes"

    before = children()
    began = time.monotonic()
    assert ask(question, range(2, 8), PATIENCE) == dict.fromkeys((2, 4, 6, 7), b"yes")
    assert time.monotonic() - began >= 2 * PATIENCE
    assert children() == before


def test_of_many_silent_processes_only_some_are_waited_for(silence: Path) -> None:
    asked = silence.with_name("asked")

    def question(pid: int) -> bytes:
        with asked.open("a", encoding="ascii") as file:
            file.write(f"{pid} ")
        return silence.read_bytes()

    assert ask(question, range(2, 1000), PATIENCE) == {}
    assert asked.read_text(encoding="ascii") == "2 3 4 5 "
    asked.unlink()
    assert ask(question, range(2, 1000), PATIENCE, most_silent=2) == {}
    assert asked.read_text(encoding="ascii") == "2 3 "
