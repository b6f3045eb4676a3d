"""A line with a delay between two containers, for kernels without netem.

Each container gets a network interface whose packets a process passes on to the other one's after half of the round
trip. TCP in both containers has to cope with the delay, as on a long cable.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from containers import run

ADDRESSES = ("10.97.0.1", "10.97.0.2")
MTU = 65520  # as IP over InfiniBand's; few packets, for this process is to cost little
QUEUE = "10000"  # packets
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


def interface(name: str) -> int:
    """Make a network interface; what is sent through it is read from the descriptor, and the other way round."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def give(name: str, pid: int, address: str) -> None:
    """Move an interface into the network of a process, and set it up there."""
    run(["ip", "link", "set", name, "netns", str(pid)]).checked()
    enter = ["nsenter", "--net", "--target", str(pid), "ip"]
    run([*enter, "address", "add", f"{address}/30", "dev", name]).checked()
    run([*enter, "link", "set", name, "mtu", str(MTU), "txqueuelen", QUEUE, "up"]).checked()


def take(source: int, queue: deque[tuple[float, bytes]], due: float) -> None:
    """Take all packets that wait."""
    try:
        while True:
            queue.append((due, os.read(source, MTU)))
    except BlockingIOError:
        pass


def relay(first: int, second: int, delay: float) -> None:
    """Pass packets on, for ever."""
    target = {first: second, second: first}
    queues: dict[int, deque[tuple[float, bytes]]] = {first: deque(), second: deque()}
    while True:
        waiting = [queue[0][0] for queue in queues.values() if queue]
        timeout = max(0.0, min(waiting) - time.monotonic()) if waiting else None
        for source in select.select(list(queues), [], [], timeout)[0]:
            take(source, queues[source], time.monotonic() + delay)
        now = time.monotonic()
        for source, queue in queues.items():
            while queue and queue[0][0] <= now:
                os.write(target[source], queue.popleft()[1])


@contextmanager
def line(pids: tuple[int, int], round_trip: float) -> Iterator[None]:
    """Lay a line between the networks of two processes; its ends have ADDRESSES."""
    names = ("delay0", "delay1")
    first, second = (interface(name) for name in names)
    for name, pid, address in zip(names, pids, ADDRESSES):
        give(name, pid, address)
    child = os.fork()
    if child == 0:
        try:
            relay(first, second, round_trip / 2)
        finally:
            os._exit(1)
    for descriptor in (first, second):
        os.close(descriptor)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
