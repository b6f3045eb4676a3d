"""How soon a client that came before the container ran is served, once the container's process runs its program."""

from __future__ import annotations

import functools
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openssh
from containers import PORT, WORK, Plain, keys, plain_start
from table import Row, at_most, more_by_at_most

ROUNDS = 20
WAIT = 0.05  # seconds, between runtime's create and start; engines take less
FORKNOEXEC = 0x40  # PF_FORKNOEXEC of include/linux/sched.h


def is_before_exec(stat: int) -> bool:
    """Whether the process whose /proc/PID/stat is open has yet to run its program."""
    return int(os.pread(stat, 4096, 0).rpartition(b")")[2].split()[6]) & FORKNOEXEC != 0


def seconds_from_exec(container: Plain, served: Callable[[], object]) -> float:
    """The time from the exec of a container that is only created until `served` returns."""
    stat = os.open(f"/proc/{container.init()}/stat", os.O_RDONLY)
    time.sleep(WAIT)
    with subprocess.Popen(["crun", "start", container.name]):
        while is_before_exec(stat):
            pass
        begun = time.monotonic()
        served()
        taken = time.monotonic() - begun
    os.close(stat)
    return taken


def banner() -> float:
    """Seconds until the banner comes to a client that has connected before."""
    clients: list[socket.socket] = []

    def served() -> None:
        assert clients[0].recv(64).startswith(b"SSH-2.0-")

    container = plain_start("crun", "debian", only_created=True)
    try:
        clients.append(socket.create_connection(("127.0.0.1", PORT), timeout=10))
        return seconds_from_exec(container, served)
    finally:
        container.remove()
        clients[0].close()


@functools.cache
def command() -> list[str]:
    """A login by the hook's client, outside of a container."""
    key = openssh.convert(keys() / "id_dropbear", Path(tempfile.mkdtemp(dir=WORK)) / "id")
    return ["/opt/oci-hooks/dropbear/bin/ssh", *openssh.client(key)[1:], "alice@127.0.0.1", "true"]


def login() -> float:
    """Seconds until a login ends that has waited."""
    container = plain_start("crun", "debian", only_created=True)
    try:
        with subprocess.Popen(command(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
            return seconds_from_exec(container, lambda: client.wait(10))
    finally:
        container.remove()


def login_at_once() -> float:
    """Seconds that the same login takes where the container runs."""
    container = plain_start("crun", "debian")
    try:
        subprocess.run(command(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        begun = time.monotonic()
        subprocess.run(command(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        return time.monotonic() - begun
    finally:
        container.remove()


def rows() -> Iterator[Row]:
    """A banner, and a whole login, for who has waited."""
    taken: dict[Callable[[], float], list[float]] = {banner: [], login: [], login_at_once: []}
    for _round in range(ROUNDS):
        for measure, values in taken.items():
            values.append(measure() * 1e3)
    milliseconds = {measure: statistics.median(values) for measure, values in taken.items()}
    at_once = milliseconds[login_at_once]
    yield Row(
        "from a container's exec to the banner of a client that waits",
        milliseconds[banner],
        at_once,
        "ms",
        "a whole login with `ssh` when the container runs",
        (at_most(3, "ms"),),
    )
    yield Row(
        "from a container's exec to the end of a login that waits",
        milliseconds[login],
        at_once,
        "ms",
        "the same login when the container runs",
        (more_by_at_most(3, "ms"),),
    )
