"""What `ssh_hook wait` takes for the answer of an SSH server, and how it says what did not answer."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from ssh_hook.commands import wait as module
from ssh_hook.commands.wait import attempt, describe, wait
from ssh_hook.errors import HookError

Peer = Callable[..., int]


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Start a server that sends these pieces to each client and then hangs up, or stays; returns its port."""
    servers = []

    def start(*pieces: bytes, stays: bool = False) -> int:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the client has heard enough
                    for piece in pieces:
                        self.request.sendall(piece)
                        time.sleep(0.02)
                    if stays:
                        self.request.recv(1)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.05]).start()
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    """Those of `wait` too, and soon; one that went on would open sockets in other tests."""
    before = threading.active_count()
    yield
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def soon(seconds: float = 0.5) -> float:
    return time.monotonic() + seconds


@pytest.mark.parametrize(
    "pieces",
    [
        [b"SSH-2.0-dropbear\r\n"],
        [b"SSH-2.0-"],
        [b"S", b"S", b"H", b"-"],
        [b"Welcome to this node\r\nall of you\r\n", b"SSH-2.0-x\r\n"],
    ],
)
def test_an_identification_is_an_answer(peer: Peer, pieces: list[bytes]) -> None:
    assert attempt("127.0.0.1", peer(*pieces, stays=True), soon()) == ""


@pytest.mark.parametrize(
    ("pieces", "stays", "reason"),
    [
        ([], True, "connected, but no SSH server speaks"),
        ([b"220 mail SSH-2.0\r\n"], True, "connected, but no SSH server speaks"),
        ([b"x" * 9000], True, "connected, but no SSH server speaks"),
        ([], False, "connected, but the server hung up"),
        ([b"ssh-2.0\r\nSSH"], False, "connected, but the server hung up"),
    ],
)
def test_anything_else_is_none(peer: Peer, pieces: list[bytes], stays: bool, reason: str) -> None:
    assert attempt("127.0.0.1", peer(*pieces, stays=stays), soon()) == reason


def test_a_server_that_drips_cannot_hold_it(peer: Peer) -> None:
    port = peer(*[b"x"] * 400, stays=True)
    started = time.monotonic()
    assert attempt("127.0.0.1", port, soon(0.3)) == "connected, but no SSH server speaks"
    assert time.monotonic() - started < 1


def test_reasons() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert attempt("127.0.0.1", unused.getsockname()[1], soon()) == "connection refused"
    for name in ("x" * 64, "nosuch.invalid", "a..b", "1.2.3.4.5"):
        assert attempt(name, 1, soon()).startswith("not resolved: "), name


def test_all_addresses_are_asked(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    port = peer(b"SSH-", stays=True)
    good = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
    bad = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))
    strange = (99, socket.SOCK_STREAM, 6, "", ("x", 1))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [strange, bad, good])
    assert attempt("both", port, soon()) == ""


def test_more_hosts_than_threads(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_THREADS", 3)
    port = peer(b"SSH-2.0-x\r\n")
    wait(["--port", str(port), *[f"127.0.0.{number}" for number in (1, 1)], "localhost", "--timeout", "10"], {})
    others = [f"127.0.1.{number}" for number in range(10)]
    with pytest.raises(HookError, match=r"^10 of 11 hosts do not answer on port [0-9]+ after 1 s: 127.0.1.0, "):
        wait(["--port", str(port), "127.0.0.1", *others, "--timeout", "1"], {})


def test_hosts_are_grouped_by_reason_and_cut() -> None:
    failing = {"a": "refused", "b": "gone", "c": "refused", **{f"n{number}": "gone" for number in range(20)}}
    assert describe(failing) == "a, c (refused); b, n0, n1, n2, n3, n4, n5, n6 and 13 more (gone)"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "86401", "", "x", "999999", "\u0661"])
def test_bad_timeout(text: str) -> None:
    with pytest.raises(HookError, match=r"^--timeout is '.*': give seconds from 1 to 86400$"):
        wait(["a", "--port", "1", "--timeout", text], {})
