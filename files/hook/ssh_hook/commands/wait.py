# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook wait``: wait until an SSH server answers on each of many hosts, or say which do not.

Up to `_THREADS` threads probe the hosts again and again. They are daemon threads, since on timeout one may be in the
resolver, which cannot be interrupted.
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
_STACK = 512 << 10  # bytes: RLIMIT_AS of a batch job counts all of it
_ATTEMPT = 5.0  # seconds for one address
_FIRST_DELAY, _LAST_DELAY = 0.1, 2.0  # seconds between two attempts; doubled each time
_MAX_GREETING = 8192  # bytes; a server may send other lines before it identifies itself (RFC 4253, section 4.2)
_MAX_SHOWN = 8  # hosts with the same reason
_NO_ANSWER = "no answer"


def wait(arguments: list[str], settings: Mapping[str, str]) -> None:
    """Wait for the hosts in `arguments`. Raises HookError, which names those that do not answer in time."""
    options = Options(arguments, settings, ["timeout"])
    seconds = _parse_timeout(options.values.get("timeout", str(_TIMEOUT)))
    failing = _Prober(options.hosts, options.port, seconds).run()
    if failing:
        raise HookError(
            f"{len(failing)} of {len(options.hosts)} hosts do not answer on port {options.port} after {seconds} s: "
            + describe(failing)
        )


def _parse_timeout(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= _MAX_TIMEOUT:
        return int(text)
    raise HookError(f"--timeout is '{printable(text)}': give seconds from 1 to {_MAX_TIMEOUT}")


def describe(failing: Mapping[str, str]) -> str:
    """Format hosts and reasons as ``a, b (reason); c (other reason)``; only the first hosts of each reason."""
    groups: dict[str, list[str]] = {}
    for host, reason in failing.items():
        groups.setdefault(reason, []).append(host)
    return "; ".join(f"{_shorten(hosts)} ({reason})" for reason, hosts in groups.items())


def _shorten(hosts: list[str]) -> str:
    others = len(hosts) - _MAX_SHOWN
    return ", ".join(hosts[:_MAX_SHOWN]) + (f" and {others} more" if others > 0 else "")


class _Prober:
    """Probes hosts until each has answered, or the time is over."""

    def __init__(self, hosts: list[str], port: int, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._port = port
        self._failing = dict.fromkeys(hosts, _NO_ANSWER)
        self._lock = threading.Lock()
        self._all_answered = threading.Event()
        # When to probe the host, and the delay after that, in seconds; an empty host ends a thread.
        self._queue: queue.PriorityQueue[tuple[float, float, str]] = queue.PriorityQueue()
        for host in hosts:
            self._queue.put((0.0, _FIRST_DELAY, host))

    def run(self) -> dict[str, str]:
        """Return the hosts that have not answered, with the last reason of each. Raises HookError."""
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
                threading.Thread(target=self._probe_hosts, daemon=True).start()
            except RuntimeError as error:
                if count == 0:
                    raise HookError(f"{error}: the user's limit of processes is reached (ulimit -u)") from None
                return count
        return wanted

    def _probe_hosts(self) -> None:
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
    """Probe each address of `host` once; return why no SSH server answers, or an empty string if one does.

    `deadline` is a time of time.monotonic().
    """
    try:
        # As bytes: getaddrinfo() would encode text by IDNA, which raises UnicodeError.
        found = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"not resolved: {error.strerror}"
    reason = _NO_ANSWER
    for family, kind, protocol, _name, address in found:
        try:
            with socket.socket(family, kind, protocol) as peer:
                reason = _read_greeting(peer, address, min(deadline, time.monotonic() + _ATTEMPT))
        except socket.timeout:
            reason = _NO_ANSWER
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
        if not reason:
            return ""
    return reason


def _read_greeting(peer: socket.socket, address: tuple[object, ...], deadline: float) -> str:
    _set_timeout(peer, deadline)
    peer.connect(address)
    greeting = b""
    while len(greeting) < _MAX_GREETING:
        if any(line.startswith(b"SSH-") for line in greeting.splitlines()):
            return ""
        try:
            _set_timeout(peer, deadline)
            more = peer.recv(_MAX_GREETING)
        except socket.timeout:
            return "connected, but no SSH server speaks"
        if not more:
            return "connected, but the server hung up"
        greeting += more
    return "connected, but no SSH server speaks"


def _set_timeout(peer: socket.socket, deadline: float) -> None:
    peer.settimeout(max(0.001, deadline - time.monotonic()))
