# SPDX-License-Identifier: GPL-3.0-or-later
"""Search for processes, for a limited time: users decide how many there are, and whether they answer."""

from __future__ import annotations

import time

from ..errors import SYSTEM, LateError
from ..fast_stdlib import TYPE_CHECKING, exists, os, read_file
from .id_maps import IdMap
from .process import Process, all_processes, pid_is_taken
from .process_questions import MOST_SILENT, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def are_running(identities: Iterable[tuple[int, int]]) -> list[bool]:
    """Return for each pid and start time whether that process runs.

    If /proc hides a process, or it does not answer, any process with its pid counts. The caller must have one thread.
    Raises OSError if no process can be started.
    """
    wanted = list(identities)
    # By /proc, which may show another pid namespace than the caller's.
    start_times = ask(_start_time, {pid for pid, _start_time in wanted if exists(f"/proc/{pid}")})
    return [
        start_times[pid] == b"%d" % start_time if start_times.get(pid) else pid_is_taken(pid)
        for pid, start_time in wanted
    ]


def _start_time(pid: int) -> bytes:
    """Return the start time of a process; "dead" of a zombie. Raises OSError."""
    with Process(pid) as process:
        return b"%d" % process.start_time() if process.is_alive() else b"dead"


def processes_until(deadline: float) -> Iterator[Process]:
    """Yield every process in /proc, as `all_processes` does. Raises LateError at the `deadline` (monotonic)."""
    for process in all_processes():
        require_time(deadline)
        yield process


def require_time(deadline: float) -> None:
    """Raise LateError at the `deadline`."""
    if time.monotonic() > deadline:
        raise LateError(SYSTEM, "cannot look through the processes of this node in time: try again")


def ask_own_processes(question: Callable[[Process], bytes], deadline: float) -> dict[int, bytes]:
    """Return the answers to a `question` about the caller's processes, by pid, without those that are empty.

    These are also the processes in user namespaces that map the caller. For root they are all. The rest is as for
    `ask`. Raises LateError at the `deadline`, and if too many do not answer.
    """
    own_map = read_file("/proc/self/uid_map")
    own = [process.pid for process in processes_until(deadline) if _may_be_own(process, own_map)]

    def ask_one(pid: int) -> bytes:
        require_time(deadline)
        with Process(pid) as process:
            return question(process)

    answers = ask(ask_one, own)
    require_time(deadline)
    if len(own) - len(answers) >= MOST_SILENT:  # the rest was not asked
        raise LateError(SYSTEM, "several of the processes here do not answer in /proc: end those that hang in exec")
    return {pid: answer for pid, answer in answers.items() if answer}


def _may_be_own(process: Process, own_map: bytes) -> bool:
    """Return False if the process is another user's, who could keep the caller waiting. Reads only what answers."""
    caller = os.geteuid()
    try:
        if caller == 0 or process.uid() == caller:
            return True
        other_map = process.read("uid_map")
    except OSError:
        return False  # it has exited
    return other_map != own_map and IdMap(other_map.decode()).inside(caller) is not None
