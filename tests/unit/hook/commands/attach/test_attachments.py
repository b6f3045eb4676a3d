"""How detach talks to the supervisor, or to whoever has made a socket of its name."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from patience import within
from ssh_hook.commands.attach import attachments
from ssh_hook.errors import HookError
from ssh_hook.linux import syscalls
from ssh_hook.linux.process import Process

Answer = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def prctl(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What is asked of the kernel for the process, and not done: it is pytest's."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(syscalls, "prctl", lambda *words: asked.append(words))
    return asked


def answered(answer: Answer) -> list[str] | None:
    """What `end` returns of a supervisor that answers so."""
    with attachments.claim(Process(os.getpid())) as listener:

        def serve() -> None:
            connection, _address = listener.accept()
            with connection:
                answer(connection)

        server = threading.Thread(target=serve)
        server.start()
        try:
            return attachments.end(os.getpid())
        finally:
            server.join()


def trickle(connection: socket.socket) -> None:
    """Send a byte now and then, as long as somebody reads."""
    try:
        while True:
            connection.send(b"/")
            time.sleep(0.05)
    except OSError:
        pass


def test_an_end_without_a_word() -> None:
    assert answered(lambda connection: None) == []


def test_whoever_has_the_other_end_of_a_socket_takes_nothing(
    monkeypatch: pytest.MonkeyPatch, prctl: list[tuple[int, int]]
) -> None:
    """Neither command is dumpable when it makes one."""
    undumpable = [(syscalls.PR_SET_DUMPABLE, 0)]

    def refuse(*_arguments: int) -> socket.socket:
        assert prctl == undumpable
        raise HookError("", "asked for a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    for act in (lambda: attachments.claim(Process(os.getpid())), lambda: attachments.end(1)):
        prctl.clear()
        with pytest.raises(HookError, match="asked for a socket"):
            act()


def test_mounts_that_are_left_are_named() -> None:
    assert answered(lambda connection: connection.sendall(b"/a b\0/\xff")) == ["/a b", "/\udcff"]


@pytest.mark.parametrize("answer", [trickle, lambda connection: connection.recv(1)], ids=["trickle", "silence"])
def test_nobody_holds_detach(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    monkeypatch.setattr(attachments, "_TIMEOUT", 0.4)
    begun = time.monotonic()
    with pytest.raises(HookError, match="did not exit within"):
        answered(answer)
    assert time.monotonic() - begun < within(8)


def test_the_name_is_free_when_detach_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor may have yet to end then: a process can be attached to again at once."""
    daemon: Any = SimpleNamespace(pid=os.getpid(), is_alive=lambda: True)
    attachment: Any = SimpleNamespace(daemon=daemon)
    monkeypatch.setattr(attachments, "finish", lambda _attachment: [])
    with attachments.claim(Process(os.getpid())) as listener:
        supervisor = os.fork()
        if supervisor == 0:
            try:
                attachments.supervise(attachment, os.pidfd_open(os.getppid()), listener, attachments.redirect_signals())
                signal.pause()
            finally:
                os._exit(1)
    try:
        assert attachments.end(os.getpid()) == []
        attachments.claim(Process(os.getpid())).close()
    finally:
        os.kill(supervisor, signal.SIGKILL)
        os.waitpid(supervisor, 0)


def test_another_user_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects, as a process of a container on the node's network may, is not the user."""
    daemon: Any = SimpleNamespace(pid=os.getpid(), is_alive=lambda: True)
    attachment: Any = SimpleNamespace(daemon=daemon)
    monkeypatch.setattr(attachments, "finish", lambda _attachment: ["ended"])
    monkeypatch.setattr(attachments, "_peer", lambda _connection: os.geteuid() + 1)
    with attachments.claim(Process(os.getpid())) as listener:
        supervisor = os.fork()
        if supervisor == 0:
            try:
                attachments.supervise(attachment, os.pidfd_open(os.getppid()), listener, attachments.redirect_signals())
            finally:
                os._exit(1)
    try:
        for _attempt in range(2):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(attachments._address(Process(os.getpid())))
                assert connection.recv(100) == b""
    finally:
        os.kill(supervisor, signal.SIGKILL)
        os.waitpid(supervisor, 0)


@pytest.mark.parametrize("pid", [os.getpid(), 2**22])
def test_nobody_supervises(pid: int) -> None:
    assert attachments.end(pid) is None


def test_more_than_mount_points_is_not_read() -> None:
    def flood(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(b"x" * 1000)
        except OSError:
            pass

    (path,) = answered(flood) or []
    assert len(path) < 3 * attachments._MAX_LEFT
