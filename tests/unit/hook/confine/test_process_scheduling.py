"""Sessions of attach are scheduled as the process is, as far as its user may have them so."""

from __future__ import annotations

import os
import posix
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.commands.attach.attach import missed_scheduling
from ssh_hook.confine.process_scheduling import ProcessScheduling
from ssh_hook.linux import syscalls
from ssh_hook.linux.process import Process
from ssh_hook.start.attach import EndedBySupervisor

IDLE = 3 << 13 | 7  # I/O priority with its class
LINUX32 = 8
ADDR_NO_RANDOMIZE = 0x0040000  # a flag of the personality


def schedule() -> None:
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, 15)
    syscalls.ioprio_set(IDLE)
    syscalls.personality(LINUX32 | ADDR_NO_RANDOMIZE)


@pytest.fixture
def process() -> Iterator[Process]:
    """A process with all of it."""
    with subprocess.Popen(["/bin/sleep", "100"], preexec_fn=schedule) as child:
        found = Process(child.pid)
        yield found
        found.close()
        child.kill()


def daemon_of(process: Process) -> tuple[int, ...]:
    """Return the values and the personality of a daemon that is attached to it."""
    target: Any = SimpleNamespace(process=process)
    ending = EndedBySupervisor(target, target)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ending.prepare()
            own = ProcessScheduling(Process(os.getpid()))
            personality = int(Path("/proc/self/personality").read_text(encoding="ascii"), 16)
            os.write(writer, " ".join(map(str, (*own.values, personality))).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    values = os.read(reader, 200).split()
    os.close(reader)
    return tuple(map(int, values))


def test_a_daemon_has_what_the_process_has(process: Process) -> None:
    assert daemon_of(process) == (os.SCHED_BATCH, 0, 15, IDLE, LINUX32)


@pytest.mark.parametrize("shown", [0, 4, 2 << 13 | 4])
def test_an_io_priority_that_nobody_has_set(process: Process, monkeypatch: pytest.MonkeyPatch, shown: int) -> None:
    """Kernels show it so, or so, by what the process has done."""
    monkeypatch.setattr(syscalls, "ioprio_get", lambda _pid: shown)
    assert ProcessScheduling(process).values == (os.SCHED_BATCH, 0, 15, 0)


def test_what_the_kernel_refuses_stays(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: object) -> None:
        raise PermissionError

    own = ProcessScheduling(Process(os.getpid()))
    monkeypatch.setattr(posix, "setpriority", refuse)
    monkeypatch.setattr(syscalls, "ioprio_set", refuse)
    assert daemon_of(process) == (os.SCHED_BATCH, 0, *own.values[2:], LINUX32)


def test_a_process_that_the_caller_may_not_read_changes_nothing(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under SELinux."""
    real = os.getpriority

    def read(which: int, who: int) -> int:
        if who == process.pid:
            raise PermissionError
        return real(which, who)

    own = ProcessScheduling(Process(os.getpid()))
    monkeypatch.setattr(posix, "getpriority", read)
    assert daemon_of(process)[:-1] == own.values


def test_a_personality_that_only_another_user_may_read_stays(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a process with another uid of its container."""

    def refuse(_name: str) -> bytes:
        raise PermissionError

    own = int(Path("/proc/self/personality").read_text(encoding="ascii"), 16)
    monkeypatch.setattr(process, "read", refuse)
    assert daemon_of(process)[-1] == own


def test_a_difference_is_reported(process: Process) -> None:
    warning = "sessions have another scheduling policy, nice value or I/O priority than the process"
    assert missed_scheduling(process, process) == []
    assert missed_scheduling(process, Process(os.getpid())) == [f"{warning}: the kernel did not let you set them"]
