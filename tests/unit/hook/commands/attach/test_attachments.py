"""How detach finds the supervisor, tells it to end, and learns what that has left."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from patience import within
from ssh_hook.commands.attach import attachments
from ssh_hook.errors import DAEMON_FAILED, HookError
from ssh_hook.fast_stdlib import closing
from ssh_hook.linux import syscalls
from ssh_hook.linux.process import Process
from ssh_hook.node import own_places


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The user's own directories: the first cannot be used, and the others do not exist yet. No daemon is ended."""
    (tmp_path / "job").touch()
    found = [f"{tmp_path}/job", f"{tmp_path}/login", f"{tmp_path}/tmp"]
    monkeypatch.setattr(own_places, "_places", lambda _uid: found)
    monkeypatch.setattr(attachments, "require_end", lambda _daemon: None)
    return found


@contextmanager
def supervisor(act: Callable[[int], None]) -> Iterator[int]:
    """A process that claims this one, and does `act` with the locked file. Gives its pid when that has begun."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with attachments.claim(Process(os.getppid())) as file:
                os.write(writer, b"+")
                act(file)
        finally:
            os._exit(0)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"+"
        yield pid
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def supervise(left: list[str]) -> Callable[[int], None]:
    """What the supervisor of a daemon does, which leaves these mounts. The daemon is this process's parent."""

    def act(file: int) -> None:
        daemon: Any = Process(os.getppid())
        attachment: Any = SimpleNamespace(daemon=daemon, undo=lambda: left)
        signals = attachments.redirect_signals(file)
        attachments.wait(daemon, os.pidfd_open(os.getppid()), signals)
        attachments.finish(attachment, file)

    return act


def serve(file: int) -> None:
    """Announce a supervisor that can be signalled, and wait for the end."""
    os.pwrite(file, b"+", 0)
    signal.pause()


def serves() -> bool:
    """Tell whether a supervisor has announced itself."""
    with closing(attachments._find(Process(os.getpid()))) as file:
        return os.pread(file, 1, 0) == b"+"


def end_soon() -> list[str] | None:
    """What `end` returns when the supervisor has announced itself."""
    deadline = time.monotonic() + within(5)
    while True:
        try:
            return attachments.end(os.getpid())
        except HookError as error:
            if "try again" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@pytest.mark.parametrize("left", [[], ["/a b", "/\udcff", "/."]])
def test_detach_learns_which_mounts_are_left(left: list[str], places: list[str]) -> None:
    with supervisor(supervise(left)):
        assert end_soon() == left
        assert os.listdir(f"{places[1]}/attached") == []
        with supervisor(supervise([])):  # the process can be attached to again at once
            assert end_soon() == []


def test_a_stopped_supervisor_goes_on_and_ends() -> None:
    with supervisor(supervise([])) as pid:
        deadline = time.monotonic() + within(5)
        while not serves():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(pid, signal.SIGSTOP)
        assert attachments.end(os.getpid()) == []


@pytest.mark.parametrize("end", [os.abort, lambda: os._exit(0)])
def test_silence_is_no_success(end: Callable[[], object]) -> None:
    """A supervisor that was killed, or that failed, has undone nothing."""

    def die(*_: object) -> None:
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        end()

    def act(file: int) -> None:
        signal.signal(signal.SIGTERM, die)
        os.pwrite(file, b"+", 0)
        signal.pause()

    with supervisor(act):
        assert end_soon() is None
        assert attachments.end(os.getpid()) is None


def test_a_daemon_that_does_not_end_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    undone = []

    def fail(_daemon: object) -> None:
        raise HookError(DAEMON_FAILED, "it hangs")

    def undo() -> list[str]:
        undone.append("all")
        return []

    monkeypatch.setattr(attachments, "require_end", fail)
    attachment: Any = SimpleNamespace(daemon=None, undo=undo)
    with open(tmp_path / "file", "w+b") as file:
        with pytest.raises(HookError, match="it hangs"):
            attachments.finish(attachment, file.fileno())
        assert (undone, file.read()) == ([], b"")


def test_nobody_is_signalled_before_the_daemon_serves() -> None:
    with supervisor(lambda _file: time.sleep(within(60))) as pid:
        with pytest.raises(HookError, match=r"^attach to process \d+ has not finished: try again$"):
            attachments.end(os.getpid())
        assert Process(pid).is_alive()


def test_nobody_holds_detach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a supervisor that was stopped."""
    waited = []

    def poll(_descriptors: list[int], deadline: float) -> list[int]:
        waited.append(deadline - time.monotonic())
        return []

    with supervisor(serve):
        while not serves():
            time.sleep(0.01)
        monkeypatch.setattr(syscalls, "poll", poll)
        with pytest.raises(HookError, match="did not exit within 20 s"):
            attachments.end(os.getpid())
    assert max(waited) <= 20


def test_only_the_holder_of_the_lock_is_signalled(places: list[str]) -> None:
    """Whatever a file says: an image that sees the directory can write it."""
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            directory = Path(places[1]) / "attached"
            directory.mkdir(parents=True, mode=0o700)
            directory.parent.chmod(0o700)
            (directory / attachments._name(Process(os.getpid()))).write_text(f"+{other.pid}\n", encoding="ascii")
            assert attachments.end(os.getpid()) is None
            assert other.poll() is None
        finally:
            other.kill()


def test_a_pid_that_was_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor may exit, and another process get its pid, between the question and its answer's use."""
    with subprocess.Popen(["sleep", "1000"]) as other:
        with supervisor(serve):
            while not serves():
                time.sleep(0.01)
            holders = iter([1, other.pid, 0])
            monkeypatch.setattr(attachments, "_holder", lambda _file: next(holders))
            assert attachments.end(os.getpid()) is None
        assert other.poll() is None
        other.kill()


def test_a_daemon_that_has_exited(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that the image kills as soon as its gate is open, and reaps."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        daemon = Process(process.pid)
        process.kill()
    attachments.wait(daemon, os.open("/dev/null", os.O_RDONLY), -1)


def test_a_process_has_one_supervisor(places: list[str]) -> None:
    with supervisor(lambda _file: time.sleep(within(60))):
        with pytest.raises(HookError, match="already has an SSH daemon: 'ssh_hook detach"):
            with attachments.claim(Process(os.getpid())):
                pass
        assert len(os.listdir(f"{places[1]}/attached")) == 1


def test_a_child_that_hangs_keeps_no_lock() -> None:
    """As a provisioner, or a process that undoes: what hangs in the kernel survives SIGKILL, with its descriptors."""
    reader, writer = os.pipe()

    def act(_file: int) -> None:
        if os.fork() == 0:
            os.read(reader, 1)  # until the test is over
            os._exit(0)
        os._exit(0)

    with supervisor(act) as pid:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with attachments.claim(Process(os.getpid())):
            pass
    os.write(writer, b"+")
    os.close(reader)
    os.close(writer)


def test_no_socket_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is at its other end would get a pidfd of the process, from any pid namespace."""
    monkeypatch.setattr(socket, "socket", None)
    with supervisor(supervise([])):
        assert end_soon() == []


def test_what_killed_supervisors_have_left_is_removed(places: list[str]) -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        left, alive = (attachments._name(Process(pid)) for pid in (process.pid, os.getpid()))
        process.kill()
        process.wait()
    directory = Path(places[1]) / "attached"
    directory.mkdir(parents=True, mode=0o700)
    directory.parent.chmod(0o700)
    (directory / left).touch()
    (directory / alive).write_bytes(b"+")
    with attachments.claim(Process(os.getpid())) as file:
        assert os.listdir(directory) == [alive]
        assert os.pread(file, 1, 0) == b""  # of another supervisor
    assert os.listdir(directory) == []


def test_the_name_leads_to_no_other_file(places: list[str], tmp_path: Path) -> None:
    """An image that sees the directory can make one in advance, to a file of the user's."""
    victim = tmp_path / "thesis"
    victim.write_text("mine", encoding="ascii")
    directory = Path(places[1]) / "attached"
    directory.mkdir(parents=True, mode=0o700)
    directory.parent.chmod(0o700)
    name = directory / attachments._name(Process(os.getpid()))
    for make in (os.symlink, os.link):
        make(victim, name)
        with suppress(HookError), attachments.claim(Process(os.getpid())):
            pass
        name.unlink(missing_ok=True)
    assert victim.read_text(encoding="ascii") == "mine"


def test_where_no_directory_can_be_used(places: list[str]) -> None:
    for place in places[1:]:
        Path(place).touch()
    with pytest.raises(
        HookError, match=r"^cannot make a file in .*/job/attached: Not a directory, or in .*: log in to"
    ):
        with attachments.claim(Process(os.getpid())):
            pass


@pytest.mark.parametrize("pid", [os.getpid(), 2**22])
def test_nobody_supervises(pid: int) -> None:
    assert attachments.end(pid) is None


def test_a_lock_whose_holder_has_no_pid_here(tmp_path: Path) -> None:
    """As of a process of another pid namespace, or of an open file description."""
    with open(tmp_path / "file", "w+b") as file, open(tmp_path / "file", "r+b") as other:
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, attachments._FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
        assert attachments._holder(file.fileno()) == 0
