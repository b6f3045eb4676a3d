"""Many sessions in one container: all at the same time, and one after the other with much output."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import openssh
from containers import Container, wait_for
from patience import within

PATIENCE = 60.0  # seconds after which a session is said to hang; it takes some hundredths of one
SIZE = 110_000  # bytes; sessions with as much output have hung at their end
AT_ONCE = 16
CHUNK = 4096

Client = Callable[[str], list[str]]


def _patience() -> str:
    return f"{within(PATIENCE):.0f}"


def own_client(container: Container) -> Client:
    """The container's ssh to its own daemon, for a command there; `container` is crun's."""
    return lambda command: ["crun", "exec", container.name, "timeout", _patience(), "ssh", "127.0.0.1", command]


def openssh_client(container: Container, key: Path, *options: str) -> Client:
    """OpenSSH's client on the node, likewise."""
    enter = ["nsenter", "--net", "--target", str(container.init()), "timeout", _patience()]
    return lambda command: [*enter, *openssh.client(key, *options), "alice@127.0.0.1", command]


class Session(NamedTuple):
    """How a session ended."""

    status: int
    out: bytes
    err: bytes


def run(command: list[str], pause: float = 0) -> Session:
    """Run a client; its output is taken in chunks, after a pause each."""
    out = bytearray()
    with subprocess.Popen(
        command, bufsize=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while chunk := process.stdout.read(CHUNK):
            out += chunk
            time.sleep(pause)
        return Session(process.wait(), bytes(out), process.stderr.read())


@contextmanager
def gate(container: Container, count: int) -> Iterator[str]:
    """A line of shell for `count` sessions, which goes on when all of them have come to it."""
    barrier, arrived = (container.path(f"/tmp/{name}") for name in ("barrier", "arrived"))
    os.mkfifo(barrier)
    arrived.touch()
    for path in (barrier, arrived):
        path.chmod(0o666)
    descriptor = os.open(barrier, os.O_RDWR)
    try:
        yield "exec 3</tmp/barrier; echo >>/tmp/arrived; read go <&3"
        wait_for(lambda: arrived.stat().st_size == count, f"{count} sessions at the same time", PATIENCE)
    finally:
        os.write(descriptor, b"\n" * count)
        os.close(descriptor)
        barrier.unlink()
        arrived.unlink()


def all_at_once(container: Container, client: Client, count: int) -> list[Session]:
    """Sessions that all are there before the first one may go on to print its number."""
    with ThreadPoolExecutor(count) as pool, gate(container, count) as line:
        sessions = [pool.submit(run, client(f"{line}; echo {number}")) for number in range(count)]
    return [session.result() for session in sessions]


def with_output(container: Container, client: Client, count: int, pause: float = 0) -> list[str]:
    """What went wrong in sessions with SIZE bytes of output each, AT_ONCE at a time; none starts after one that did."""
    data = os.urandom(SIZE)
    container.path("/tmp/data").write_bytes(data)
    problems: list[str] = []

    def session(number: int) -> None:
        if problems:
            return
        status, out, err = run(client("cat /tmp/data"), pause)
        if status != 0 or out != data:
            problems.append(f"session {number}: exit status {status}, {len(out)} bytes of {SIZE}: {err.decode()}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(session, range(count)))
    return problems
