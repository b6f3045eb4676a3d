"""What `ssh_hook wait` takes for the answer of an SSH server, and how it says what did not answer."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from patience import within
from ssh_hook.commands import wait as module
from ssh_hook.commands.wait import describe
from ssh_hook.dispatch import dispatch, parse
from ssh_hook.errors import SYSTEM, HookError
from ssh_hook.health import login
from ssh_hook.health.login import attempt
from ssh_hook.schedulers.slurm import NotYetError

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
    deadline = time.monotonic() + within(10)
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


def no_doubt(_address: str, _deadline: float) -> str:
    """A check of the host key that all servers pass."""
    return ""


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
    assert attempt("127.0.0.1", peer(*pieces, stays=True), soon(), no_doubt) == ""


@pytest.mark.parametrize(
    ("pieces", "stays", "reason"),
    [
        ([], True, "connected, but it is not an SSH server"),
        ([b"220 mail SSH-2.0\r\n"], True, "connected, but it is not an SSH server"),
        ([b"x" * 9000], True, "connected, but it is not an SSH server"),
        ([], False, "connected, but the server closed the connection"),
        ([b"ssh-2.0\r\nSSH"], False, "connected, but the server closed the connection"),
    ],
)
def test_anything_else_is_none(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], stays: bool, reason: str
) -> None:
    if stays:  # all that it sends has come when the time is over for the next piece

        def shorten(server: socket.socket, _deadline: float) -> None:
            with contextlib.suppress(OSError):  # it is not connected yet
                server.getpeername()
                server.settimeout(0.5)

        monkeypatch.setattr(login, "_set_timeout", shorten)
    assert attempt("127.0.0.1", peer(*pieces, stays=stays), soon(), no_doubt) == reason


def test_a_server_that_drips_cannot_hold_it(peer: Peer) -> None:
    port = peer(*[b"x"] * 5000, stays=True)
    started = time.monotonic()
    assert attempt("127.0.0.1", port, soon(3), no_doubt) == "connected, but it is not an SSH server"
    assert time.monotonic() - started < within(20), "all that it sends takes 100 s"


def test_reasons() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert attempt("127.0.0.1", unused.getsockname()[1], soon(), no_doubt) == "connection refused"
    for name in ("x" * 64, "nosuch.invalid", "a..b", "1.2.3.4.5"):
        assert attempt(name, 1, soon(), no_doubt).startswith("not resolved: "), name


def test_all_addresses_are_asked(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    port = peer(b"SSH-", stays=True)
    good = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
    bad = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))
    strange = (99, socket.SOCK_STREAM, 6, "", ("x", 1))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [strange, bad, good])
    assert attempt("both", port, soon(), no_doubt) == ""


def probe(hosts: list[str], port: int, seconds: float, check: Callable[[str, float], str]) -> dict[str, str]:
    return module._Prober(hosts, port, time.monotonic() + seconds, check).run()


def test_more_hosts_than_threads(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_THREADS", 3)
    port = peer(b"SSH-2.0-x\r\n")
    assert probe(["127.0.0.1", "127.1", "127.0.1", "localhost"], port, 60, no_doubt) == {}
    others = [f"127.0.1.{number}" for number in range(10)]
    tried: Counter[str] = Counter()

    def attempt_at(host: str, *arguments: Any) -> str:
        tried[host] += 1
        if "127.0.0.1" not in prober._failing and all(tried[other] > 1 for other in others):
            prober._all_answered.set()  # as if the time were over
        return attempt(host, *arguments)

    monkeypatch.setattr(module, "attempt", attempt_at)
    prober = module._Prober(["127.0.0.1", *others], port, time.monotonic() + 60, no_doubt)
    assert prober.run() == dict.fromkeys(others, "connection refused")


def test_another_host_key_is_no_answer(peer: Peer) -> None:
    port = peer(b"SSH-2.0-x\r\n")
    asked = []
    is_foreign = True

    def check(address: str, _deadline: float) -> str:
        asked.append(address)
        if len(asked) == 3:
            prober._all_answered.set()  # as if the time were over
        return "not yours" if is_foreign else ""

    prober = module._Prober(["localhost"], port, time.monotonic() + 60, check)
    assert prober.run() == {"localhost": "not yours"}
    assert len(asked) >= 3
    is_foreign = False
    assert probe(["localhost"], port, 60, check) == {}
    assert set(asked) == {"127.0.0.1"}


def test_delays_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """They double, up to two seconds."""
    now = 0.0
    times: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def refused(*_arguments: object) -> str:
        times.append(now)
        if len(times) == 8:
            prober._queue.put((-1.0, 0.0, ""))
        return "connection refused"

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    monkeypatch.setattr(module, "attempt", refused)
    prober = module._Prober(["a"], 1, time.monotonic() + 60, no_doubt)
    prober._probe_hosts()
    assert times == pytest.approx([0, 0.1, 0.3, 0.7, 1.5, 3.1, 5.1, 7.1])


@pytest.mark.parametrize("earlier", [[], ["not yours"]])
def test_an_attempt_that_the_deadline_cuts_short_hides_no_reason(peer: Peer, earlier: list[str]) -> None:
    """It says the most where no attempt before it has ended."""
    reasons = [*earlier, "cut short"]

    def check(_address: str, _deadline: float) -> str:
        reason = reasons.pop(0)
        if not reasons:
            prober._deadline = time.monotonic()
            prober._queue.put((-1.0, 0.0, ""))
        return reason

    prober = module._Prober(["localhost"], peer(b"SSH-2.0-x\r\n"), time.monotonic() + 60, check)
    prober._probe_hosts()
    assert prober._failing == {"localhost": [*earlier, "cut short"][0]}


def test_no_process_is_left_for_a_client(peer: Peer) -> None:
    """Threads end, since each takes the place of a process; the last one tries again."""
    port = peer(b"SSH-2.0-x\r\n")
    before = threading.active_count()

    def check(_address: str, _deadline: float) -> str:
        if threading.active_count() > before + 2:
            raise BlockingIOError
        return ""

    assert probe(["127.0.0.1", "localhost", "127.0.0.01", "127.1"], port, 60, check) == {}


def test_a_client_that_cannot_be_started_is_a_reason(peer: Peer) -> None:
    def check(_address: str, _deadline: float) -> str:
        prober._queue.put((-1.0, 0.0, ""))
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    prober = module._Prober(["127.0.0.1"], peer(b"SSH-2.0-x\r\n"), time.monotonic() + 60, check)
    prober._probe_hosts()
    assert prober._failing == {"127.0.0.1": "cannot be checked: Too many open files"}


def test_the_client_is_the_roles_or_else_the_nodes_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"DROPBEAR_DIR": str(tmp_path / "dropbear")}
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        HookError,
        match=r"^this node has no SSH client, neither .*/dropbear/bin/ssh nor ssh in PATH: ask the administrator to",
    ):
        login.find_client(settings)
    for path in (tmp_path / "ssh", tmp_path / "dropbear/bin/ssh"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o755)
        assert login.find_client(settings) == str(path)


def test_hosts_are_grouped_by_reason_and_cut() -> None:
    failing = {"a": "refused", "b": "gone", "c": "refused", **{f"n{number}": "gone" for number in range(20)}}
    assert describe(failing) == "a, c (refused); b, n0, n1, n2, n3, n4, n5, n6 and 13 more (gone)"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "86401", "", "x", "999999", "\u0661"])
def test_bad_timeout(text: str) -> None:
    with pytest.raises(HookError, match=r"^--timeout is '.*': give seconds from 1 to 86400$"):
        dispatch("wait", ["a", "--port", "1", "--timeout", text], {})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--job", "1234"], (21234, ["n1", "n2"])),
        (["--job", "job1234"], (21234, ["n1", "n2"])),
        (["--job", "1234.2"], (23440, ["n1", "n2"])),
        (["--job", "1234_7"], (21234, ["n1", "n2"])),
        (["--job", "1234", "n2", "n[5-6]"], (21234, ["n2", "n5", "n6"])),
        (["--job", "1234", "--port", "17"], (17, ["n1", "n2"])),
    ],
)
def test_a_job(monkeypatch: pytest.MonkeyPatch, words: list[str], expected: tuple[int, list[str]]) -> None:
    monkeypatch.setattr(module, "find_nodes", lambda job, _timeout: (1234, ["n1", "n2"]))
    _command, arguments = parse("wait", words)
    assert module._select(arguments, {"SERVER_PORT_DEFAULT": "15263"}, 0.0) == expected


@pytest.mark.parametrize("job", ["", "x", "job", "jobs1", "1234.", ".1", "12;id", "-1", "1" * 19])
def test_no_job(job: str) -> None:
    _command, arguments = parse("wait", [f"--job={job}"])
    with pytest.raises(HookError, match=r"give the number of a job, such as 1234, or 1234\.2"):
        module._select(arguments, {"SERVER_PORT_DEFAULT": "15263"}, 0.0)


def slurm(directory: Path, monkeypatch: pytest.MonkeyPatch, *answers: str) -> Path:
    """Put a command squeue into `directory`, with an answer for each call; returns the file with a line for each."""
    calls = directory / "calls"
    calls.touch()
    cases = "\n".join(f"{number}) {answer} ;;" for number, answer in enumerate([*answers[:-1]], start=1))
    squeue = directory / "squeue"
    squeue.write_text(
        f'#!/bin/sh\necho "$3" >>{calls}\ncase $(wc -l <{calls}) in\n{cases}\n*) {answers[-1]} ;;\nesac\n',
        encoding="ascii",
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return calls


PENDING = "echo '7 7 PENDING'"


def test_a_job_that_waits_for_its_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the questions to Slurm get rarer."""
    calls = slurm(tmp_path, monkeypatch, *[PENDING] * 6, "echo '7 7 CONFIGURING n[1-2]'")
    slept: list[float] = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=slept.append, monotonic=lambda: 0.0))
    _command, arguments = parse("wait", ["--job", "7"])
    assert module._select(arguments, {"SERVER_PORT_DEFAULT": "15263"}, 86400.0) == (20007, ["n1", "n2"])
    assert calls.read_text(encoding="ascii").split() == ["7"] * 7
    assert slept == [1.0, 2.0, 4.0, 8.0, 16.0, 16.0]


def test_an_answer_of_slurms_that_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs this question alone; each has what is left of the time."""
    now, given = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def find(job: str, timeout: float) -> tuple[int, list[str]]:
        given.append(timeout)
        sleep(min(timeout, 20.0))
        if len(given) < 4:
            raise NotYetError(SYSTEM, "late")
        return int(job), ["n1"]

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now))
    monkeypatch.setattr(module, "find_nodes", find)
    monkeypatch.setattr(module, "_MIN_ANSWER", 5.0)
    assert module._wait_for_nodes("7", 600.0) == (7, ["n1"])
    assert given == [600.0, 579.0, 557.0, 533.0]
    now, given = 0.0, []
    with pytest.raises(NotYetError, match=r"^late$"):
        module._wait_for_nodes("7", 30.0)
    assert given == [30.0, 9.0]


def test_a_job_that_waits_for_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = slurm(tmp_path, monkeypatch, PENDING)
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now))
    with pytest.raises(HookError, match=r"^job 7 has no node yet \(pending\): see squeue --jobs 7$"):
        dispatch("wait", ["--job", "7", "--timeout", "1"], {})
    assert len(calls.read_text(encoding="ascii").split()) > 1


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("exit 0", r"^job 7 has ended: see sacct --jobs 7$"),
        ("echo 'Invalid job id specified' >&2; exit 1", r"^Slurm has no job 7: Invalid job id specified$"),
        ("echo '7 7 FAILED'", r"^job 7 has no node yet \(failed\): see squeue --jobs 7$"),
    ],
)
def test_a_job_that_ends_without_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, words: str) -> None:
    calls = slurm(tmp_path, monkeypatch, PENDING, last)
    with pytest.raises(HookError, match=words):
        dispatch("wait", ["--job", "7", "--timeout", "600"], {})
    assert len(calls.read_text(encoding="ascii").split()) == 2


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", ""),
        ("exit 7", ""),  # of the command in the container
        ("head -c 64000000 /dev/zero >&2; exec sleep 600", ""),  # as an image's profile may
        ("echo 'alice@10.1.1.1: Permission denied (publickey).' >&2; exit 255", "it does not let alice log in"),
        ("exec 2>&-; exec sleep 600", "connected, but the server is not ready"),
        ("exec sleep 600", "connected, but the server is not ready"),
    ],
)
def test_what_a_server_prints_costs_little(tmp_path: Path, script: str, said: str) -> None:
    client = tmp_path / "ssh"
    client.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    client.chmod(0o755)
    check = login.Login.__new__(login.Login)
    vars(check).update(_user="alice", _command=[str(client)], _clients=threading.BoundedSemaphore(1), _running=set())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert check("10.1.1.1", time.monotonic() + 2) == said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10, "the client's output was kept"
