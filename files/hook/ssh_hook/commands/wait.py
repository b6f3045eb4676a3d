# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook wait``: wait until the caller's containers answer on all of many hosts, or list those that do not.

Up to `_THREADS` threads probe the hosts repeatedly. They are daemon threads, since on timeout one may be in the
resolver, which cannot be interrupted. If an SSH server answers, OpenSSH's client checks its host key and logs in with
the user's name and key.
"""

from __future__ import annotations

import queue
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping

from ..errors import ARGUMENTS_WRONG, NO_CONTAINER, NO_MEMORY, HookError, printable, shorten
from ..health.login import NO_ANSWER, Login, attempt, find_client
from ..keys import store
from ..node.caller import caller
from ..oci.annotations import parse_seconds
from ..oci.settings import parse_port
from ..schedulers import host_notation
from ..schedulers.job_names import split_step
from ..schedulers.jobs import selected_port
from ..schedulers.slurm import NotYetError, find_nodes
from ..start.port import job_port

_TIMEOUT = 60  # seconds
_MAX_TIMEOUT = 86400
_THREADS = 512
_STACK = 512 << 10  # bytes: RLIMIT_AS of a batch job counts all of it
_FIRST_DELAY, _LAST_DELAY = 0.1, 2.0  # seconds between two attempts; doubled each time
_FIRST_QUESTION, _LAST_QUESTION = 1.0, 16.0  # seconds between two queries of Slurm, whose controller serves all users
_MIN_ANSWER = 5.0  # seconds for one answer of Slurm, even if less time is left

DESCRIPTION = (
    "Wait until your container on each host accepts your login. After the timeout, list the hosts where it does not, "
    "and exit with 1."
)
EXAMPLE = "ssh_hook wait --timeout 120 'gpu[001-016]'"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    host_notation.add_arguments(parser)
    parser.add_argument(
        "--job",
        help="wait for the containers of this Slurm job, at the job's port, on all its nodes or on the given hosts; "
        "1234.2 is step 2 of the job",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        default=str(_TIMEOUT),
        help=f"how long to wait, from 1 to {_MAX_TIMEOUT} (default: {_TIMEOUT})",
    )


def run(arguments: Namespace, settings: dict[str, str]) -> int:
    """Wait for the hosts that `arguments` select.

    Raises HookError, which names the hosts that did not answer in time, and KeyStoreError.
    """
    seconds = parse_seconds(arguments.timeout, "--timeout", ARGUMENTS_WRONG, 1, _MAX_TIMEOUT)
    deadline = time.monotonic() + seconds
    port, names = _select(arguments, settings, deadline)
    directory, user = caller(settings)
    check = Login(find_client(settings), store.load(directory, user), user, port)
    try:
        failing = _Prober(names, port, deadline, check).run()
    finally:
        check.end()
    if failing:
        raise HookError(
            NO_CONTAINER,
            f"{len(failing)} of {len(names)} hosts do not answer on port {port} after {seconds} s: {describe(failing)}",
        )
    return 0


def _select(arguments: Namespace, settings: Mapping[str, str], deadline: float) -> tuple[int, list[str]]:
    """Return the port and the hosts that `arguments` select; wait until a job has nodes. Raises HookError."""
    if arguments.job is None:
        return selected_port(arguments, settings), host_notation.selected_hosts(arguments, settings)
    found = split_step(arguments.job)
    if found is None:
        raise HookError(
            ARGUMENTS_WRONG, f"--job is '{printable(arguments.job)}': give the number of a job, such as 1234, or 1234.2"
        )
    name, step = found
    number, nodes = _wait_for_nodes(name, deadline)
    port = job_port(number, int(step or 0) + 1)
    is_named = arguments.hosts or arguments.hostfile is not None
    return (
        port if arguments.port is None else parse_port(arguments.port, "--port", ARGUMENTS_WRONG),
        host_notation.selected_hosts(arguments, settings) if is_named else nodes,
    )


def _wait_for_nodes(job: str, deadline: float) -> tuple[int, list[str]]:
    """Return the number and the nodes of `job`. Raises HookError, and NotYetError if it has none by `deadline`."""
    delay = _FIRST_QUESTION
    while True:
        try:
            return find_nodes(job, max(_MIN_ANSWER, deadline - time.monotonic()))
        except NotYetError:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
        time.sleep(min(delay, left))
        delay = min(2 * delay, _LAST_QUESTION)


def describe(failing: Mapping[str, str]) -> str:
    """Format hosts and reasons as ``a, b (reason); c (other reason)``, with only the first hosts of each reason."""
    groups: dict[str, list[str]] = {}
    for host, reason in failing.items():
        groups.setdefault(reason, []).append(host)
    return "; ".join(f"{shorten(hosts)} ({reason})" for reason, hosts in groups.items())


class _Prober:
    """Probes hosts until all have answered, or time is up."""

    def __init__(self, hosts: list[str], port: int, deadline: float, check: Callable[[str, float], str]) -> None:
        """`deadline` is a time of time.monotonic()."""
        self._check = check
        self._deadline = deadline
        self._port = port
        self._failing = dict.fromkeys(hosts, NO_ANSWER)
        self._lock = threading.Lock()
        self._threads = 0
        self._all_answered = threading.Event()
        # When to probe the host, the delay after that (seconds), the host; an empty host stops a thread.
        self._queue: queue.PriorityQueue[tuple[float, float, str]] = queue.PriorityQueue()
        for host in hosts:
            self._queue.put((0.0, _FIRST_DELAY, host))

    def run(self) -> dict[str, str]:
        """Return the hosts that have not answered, each with its last error. Raises HookError."""
        self._start_threads(min(len(self._failing), _THREADS))
        self._all_answered.wait(max(0.0, self._deadline - time.monotonic()))
        with self._lock:
            for thread in range(self._threads):
                self._queue.put((-1.0, thread, ""))
            return dict(self._failing)

    def _start_threads(self, wanted: int) -> None:
        threading.stack_size(_STACK)
        for _thread in range(wanted):
            try:
                threading.Thread(target=self._probe_hosts, daemon=True).start()
            except RuntimeError as error:
                if self._threads == 0:
                    raise HookError(
                        NO_MEMORY, f"{error}: the user's limit of processes is reached (ulimit -u)"
                    ) from None
                return
            with self._lock:
                self._threads += 1

    def _probe_hosts(self) -> None:
        while True:
            due, delay, host = self._queue.get()
            if not host:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                reason = attempt(host, self._port, self._deadline, self._check)
            except BlockingIOError:  # the user's limit of processes is reached: make room for a client
                self._queue.put((0.0, delay, host))
                with self._lock:
                    if self._threads > 1:
                        self._threads -= 1
                        return
                time.sleep(delay)
                continue
            except OSError as error:
                reason = f"cannot be checked: {error.strerror}"
            with self._lock:
                if not reason:
                    del self._failing[host]
                    if not self._failing:
                        self._all_answered.set()
                    continue
                if time.monotonic() >= self._deadline and self._failing[host] != NO_ANSWER:
                    continue  # the deadline may have cut this attempt short: keep the previous error
                self._failing[host] = reason
            self._queue.put((time.monotonic() + delay, min(2 * delay, _LAST_DELAY), host))
