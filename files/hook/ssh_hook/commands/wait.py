# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook wait``: returns when an SSH server answers on each of many hosts, or says which do not.

A thread for each host, up to a bound, asks it again and again. They are daemon threads: one may be in the resolver,
which nothing interrupts, when the time is over.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Mapping

from ..errors import HookError, printable
from .hosts import Options

_TIMEOUT = 60  # seconds
_MAX_TIMEOUT = 86400
_THREADS = 512
_STACK = 512 << 10  # bytes: a batch job's limit on address space counts all of it
_ATTEMPT = 5.0  # seconds for one address
_FIRST_DELAY, _LAST_DELAY = 0.1, 2.0  # seconds between two attempts; doubled each time
_MAX_GREETING = 8192  # bytes; a server may send other lines before it identifies itself (RFC 4253, section 4.2)
_SHOWN = 8  # hosts for each reason
_NO_ANSWER = "no answer"


def wait(arguments: list[str], settings: Mapping[str, str]) -> None:
    """Wait for the hosts in `arguments`; raises HookError that names those which do not answer in time."""
    options = Options(arguments, settings, ["timeout"])
    seconds = _seconds(options.values.get("timeout", str(_TIMEOUT)))
    failing = _Watch(options.hosts, options.port, seconds).run()
    if failing:
        raise HookError(
            f"{len(failing)} of {len(options.hosts)} hosts do not answer on port {options.port} after {seconds} s: "
            + describe(failing)
        )


def _seconds(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= _MAX_TIMEOUT:
        return int(text)
    raise HookError(f"--timeout is '{printable(text)}': give seconds from 1 to {_MAX_TIMEOUT}")


def describe(failing: Mapping[str, str]) -> str:
    """Hosts, each with its reason, as ``a, b (reason); c (other reason)``; only some, where they are many."""
    groups: dict[str, list[str]] = {}
    for host, reason in failing.items():
        groups.setdefault(reason, []).append(host)
    return "; ".join(f"{_some(hosts)} ({reason})" for reason, hosts in groups.items())


def _some(hosts: list[str]) -> str:
    others = len(hosts) - _SHOWN
    return ", ".join(hosts[:_SHOWN]) + (f" and {others} more" if others > 0 else "")


class _Watch:
    """Asks hosts until each has answered, or the time is over."""

    def __init__(self, hosts: list[str], port: int, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._port = port
        self._failing = dict.fromkeys(hosts, _NO_ANSWER)
        self._lock = threading.Lock()
        self._all_answered = threading.Event()
        # When to ask, and how long to wait after that; no host: the end.
        self._queue: queue.PriorityQueue[tuple[float, float, str]] = queue.PriorityQueue()
        for host in hosts:
            self._queue.put((0.0, _FIRST_DELAY, host))

    def run(self) -> dict[str, str]:
        """The hosts that have not answered, with the last reason of each."""
        threads = self._start_threads(min(len(self._failing), _THREADS))
        self._all_answered.wait(max(0.0, self._deadline - time.monotonic()))
        for thread in range(threads):
            self._queue.put((-1.0, thread, ""))
        with self._lock:
            return dict(self._failing)

    def _start_threads(self, wanted: int) -> int:
        threading.stack_size(_STACK)
        for count in range(wanted):
            try:
                threading.Thread(target=self._work, daemon=True).start()
            except RuntimeError as error:
                if count == 0:
                    raise HookError(f"{error}: the user's limit of processes is reached (ulimit -u)") from None
                return count
        return wanted

    def _work(self) -> None:
        while True:
            due, delay, host = self._queue.get()
            if not host:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            reason = attempt(host, self._port, self._deadline)
            with self._lock:
                if not reason:
                    del self._failing[host]
                    if not self._failing:
                        self._all_answered.set()
                    continue
                self._failing[host] = reason
            self._queue.put((time.monotonic() + delay, min(2 * delay, _LAST_DELAY), host))


def attempt(host: str, port: int, deadline: float) -> str:
    """Ask each address of `host` once; returns nothing if an SSH server answers, else why not."""
    try:
        # As bytes: a name as text would go through IDNA, with errors of its own.
        found = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"not resolved: {error.strerror}"
    reason = _NO_ANSWER
    for family, kind, protocol, _name, address in found:
        try:
            with socket.socket(family, kind, protocol) as peer:
                reason = _ask(peer, address, min(deadline, time.monotonic() + _ATTEMPT))
        except socket.timeout:
            reason = _NO_ANSWER
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
        if not reason:
            return ""
    return reason


def _ask(peer: socket.socket, address: tuple[object, ...], deadline: float) -> str:
    _limit(peer, deadline)
    peer.connect(address)
    greeting = b""
    while len(greeting) < _MAX_GREETING:
        if any(line.startswith(b"SSH-") for line in greeting.splitlines()):
            return ""
        try:
            _limit(peer, deadline)
            more = peer.recv(_MAX_GREETING)
        except socket.timeout:
            return "connected, but no SSH server speaks"
        if not more:
            return "connected, but the server hung up"
        greeting += more
    return "connected, but no SSH server speaks"


def _limit(peer: socket.socket, deadline: float) -> None:
    peer.settimeout(max(0.001, deadline - time.monotonic()))
