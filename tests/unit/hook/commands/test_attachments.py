"""How detach talks to the supervisor, or to whoever has made a socket of its name."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

import pytest
from ssh_hook.commands import attachments
from ssh_hook.errors import HookError

Answer = Callable[[socket.socket], None]


def answered(answer: Answer) -> list[str]:
    """What `end` returns of a supervisor that answers so."""
    name = f"@ocihooks-ssh/test/{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(attachments._address(name))
        listener.listen()

        def serve() -> None:
            connection, _address = listener.accept()
            with connection:
                answer(connection)

        server = threading.Thread(target=serve)
        server.start()
        try:
            return attachments.end(1, name)
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


def test_mounts_that_are_left_are_named() -> None:
    assert answered(lambda connection: connection.sendall(b"/a b\0/\xff")) == ["/a b", "/\udcff"]


@pytest.mark.parametrize("answer", [trickle, lambda connection: time.sleep(1)], ids=["trickle", "silence"])
def test_nobody_holds_detach(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    monkeypatch.setattr(attachments, "_TIMEOUT", 0.4)
    begun = time.monotonic()
    with pytest.raises(HookError, match="has not ended within"):
        answered(answer)
    assert time.monotonic() - begun < 5


def test_more_than_mount_points_is_not_read() -> None:
    def flood(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(b"x" * 1000)
        except OSError:
            pass

    (path,) = answered(flood)
    assert len(path) < 3 * attachments._MAX_LEFT
