# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do work in a user's own directories with the privileges that the hook has there: the user's, without groups.

So a link or file planted by a user cannot harm others, and an NFS server with root_squash accepts the requests. Work
that may change files runs in a child process for each user, which first drops privileges permanently. That takes a
millisecond. Checks that only read, like the hook's at each start of a container, run for a hundred users in one child,
which switches its effective ids.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import contextmanager
from itertools import islice

from ._linux import ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from typing import Any, NoReturn

    from ._keys.passwd import Entry

    Work = Callable[[Entry], "dict[str, Any]"]
    Look = Callable[[Entry], "dict[str, Any] | None"]
    Users = Sequence[Entry]

CHILDREN = 32  # in parallel; the work waits for automount, disks and file servers, not for processors
BATCH = 100  # users per child that only checks
TIMEOUT = 120.0  # seconds for one user
LOOK_TIMEOUT = 20.0  # seconds for one child that only checks; then each remaining user gets a child, and TIMEOUT
_EXIT_TIMEOUT = 5.0  # seconds
_RESULT_LIMIT = 1024 * 1024  # bytes

_hung: list[int] = []  # pids of children that hang in the kernel, where SIGKILL waits, too; they count as CHILDREN


class AsUserError(Exception):
    """The work for one user failed. The text is a one-line reason."""


class _Child:
    """A running child process.

    Attributes:
        users: the users that it works for.
        pid: its pid.
        answers: the read end of the pipe for its answer.
        deadline: a time of time.monotonic().
        data: its answer so far.
        has_answered: whether it has closed the pipe.
    """

    def __init__(self, users: Users, pid: int, answers: int, timeout: float) -> None:
        self.users = users
        self.pid = pid
        self.answers = answers
        self.deadline = time.monotonic() + timeout
        self.data = b""
        self.has_answered = False


def run_as_users(
    users: Iterable[Entry], work: Work
) -> Generator[tuple[Entry, dict[str, Any] | AsUserError], None, None]:
    """Run ``work(user)`` as each user; yield (user, result or error) in the order in which the children exit.

    The result must be serializable as JSON. An exception in `work` becomes an AsUserError with its text. Callers other
    than root can only act as themselves.
    """

    def as_user(single: Users) -> dict[str, Any]:
        become(single[0])
        return work(single[0])

    for single, outcome in _run([(user,) for user in users], as_user, TIMEOUT):
        yield single[0], outcome


def look_as_users(users: Users, look: Look) -> Generator[tuple[Entry, dict[str, Any]], None, None]:
    """Call ``look(user)``, which changes nothing, as each user; yield (user, result).

    Omits users whose check returned None or failed, and those whose child timed out; `run_as_users` handles them or
    reports the error.
    """

    def as_each(batch: Users) -> list[dict[str, Any] | None]:
        last = time.monotonic() + LOOK_TIMEOUT / 2
        return [_look_as(user, look) if time.monotonic() < last else None for user in batch]

    size = max(1, min(BATCH, -(-len(users) // CHILDREN)))
    batches = [users[start : start + size] for start in range(0, len(users), size)]
    for batch, results in _run(batches, as_each, LOOK_TIMEOUT):
        if not isinstance(results, AsUserError):
            yield from ((user, result) for user, result in zip(batch, results) if result is not None)


def _run(
    groups: Iterable[Users], work: Callable[[Users], Any], timeout: float
) -> Generator[tuple[Users, Any | AsUserError], None, None]:
    """Run ``work(users)`` for each group of users in a child; yield (group, result or error) as the children exit.

    `timeout` is in seconds, for one group. If CHILDREN children hang, the remaining groups get an error.
    """
    waiting = iter(groups)
    running: dict[int, _Child] = {}
    try:
        while True:
            deadline = time.monotonic() + (0.0 if running else _EXIT_TIMEOUT)
            _hung[:] = [pid for pid in _hung if _reap(pid, deadline) is None]
            for users in islice(waiting, CHILDREN - len(running) - len(_hung)):
                child = _start(users, work, timeout, list(running))
                running[child.answers] = child
            if not running:
                break
            for child in _wait_for_children(running):
                del running[child.answers]
                os.close(child.answers)
                yield child.users, _result(child)
        for users in waiting:
            yield users, AsUserError(f"not tried: {CHILDREN} processes wait for file systems that do not answer")
    finally:
        for child in running.values():
            os.close(child.answers)
            os.kill(child.pid, signal.SIGKILL)
            _reap(child.pid, time.monotonic() + _EXIT_TIMEOUT)


def become(user: Entry) -> None:
    """Drop privileges permanently, including supplementary groups. Raises AsUserError if that is not possible."""
    if os.geteuid() != 0:
        _require_same(user)
        return
    try:
        ids.become(user.uid, user.gid)
    except OSError as error:
        raise AsUserError(f"cannot become {user.name}: {error.strerror}") from error
    if user.uid != 0 and _can_be_root():
        raise AsUserError(f"cannot give up root's rights for those of {user.name}")


def _require_same(user: Entry) -> None:
    if (os.getuid(), os.geteuid()) != (user.uid, user.uid):
        raise AsUserError(f"only root can act as {user.name}: run the task with become")


def _look_as(user: Entry, look: Look) -> dict[str, Any] | None:
    try:
        with _acting_as(user):
            return look(user)
    except Exception:
        return None  # run_as_users() will get the same error, and report it


@contextmanager
def _acting_as(user: Entry) -> Iterator[None]:
    """Set the effective ids to the user's in a `with` block, then restore root's. Raises AsUserError and OSError."""
    if os.geteuid() != 0:
        _require_same(user)
        yield
        return
    groups = os.getgroups()
    try:
        ids.act_as(user.uid, user.gid)
        yield
    finally:
        ids.restore(0, 0, groups)


def _can_be_root() -> bool:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return False
    return True


def _start(users: Users, work: Callable[[Users], Any], timeout: float, others: list[int]) -> _Child:
    answers, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        for descriptor in (answers, *others):
            os.close(descriptor)
        _child(users, work, answer)
    os.close(answer)
    return _Child(users, pid, answers, timeout)


def _child(users: Users, work: Callable[[Users], Any], answer: int) -> NoReturn:
    """Do the work, write its result to the pipe, and exit, so that the child does not run the parent's code."""
    try:
        try:
            os.chdir("/")
            os.umask(0o077)
            outcome: dict[str, Any] = {"result": work(users)}
        except Exception as error:
            # Any exception: report it, and go on with the other users.
            outcome = {"error": str(error) or type(error).__name__}
        data = json.dumps(outcome).encode()
        while data:
            data = data[os.write(answer, data) :]
        os._exit(0)
    finally:
        os._exit(1)


def _wait_for_children(running: dict[int, _Child]) -> list[_Child]:
    """Wait until at least one child has finished its answer, or timed out; return all that have."""
    poll = select.poll()
    for descriptor in running:
        poll.register(descriptor, select.POLLIN)
    while True:
        remaining = min(child.deadline for child in running.values()) - time.monotonic()
        ready = [running[descriptor] for descriptor, _event in poll.poll(max(remaining, 0) * 1000 + 1)]
        for child in ready:
            _read_answer(child)
        ended = [child for child in ready if child.has_answered or len(child.data) > _RESULT_LIMIT]
        ended += [child for child in running.values() if child not in ready and child.deadline < time.monotonic()]
        if ended:
            return ended


def _read_answer(child: _Child) -> None:
    data = os.read(child.answers, 65536)
    child.data += data
    child.has_answered = not data


def _result(child: _Child) -> Any | AsUserError:
    """Return the result or error of a child that has answered, or kill it."""
    if not child.has_answered:
        os.kill(child.pid, signal.SIGKILL)  # not reaped yet, so its pid cannot be reused
    status = _reap(child.pid, time.monotonic() + (_EXIT_TIMEOUT if child.has_answered else 0.0))
    if status is None:
        _hung.append(child.pid)
    if len(child.data) > _RESULT_LIMIT:
        return AsUserError(f"the answer is longer than {_RESULT_LIMIT} bytes")
    if status is None or not child.has_answered:
        return AsUserError(f"gave up after {TIMEOUT:.0f} s: a file system does not answer")
    if status != 0:
        names = ", ".join(user.name for user in child.users)
        return AsUserError(f"the process that acted as {names} ended unexpectedly, with status {status}")
    outcome = json.loads(child.data)
    if "error" in outcome:
        return AsUserError(outcome["error"])
    return outcome["result"]


def _reap(pid: int, deadline: float) -> int | None:
    """Reap a child; return its wait status, or None if it still runs at `deadline`, a time of time.monotonic()."""
    delay = 0.001
    while True:
        waited, status = os.waitpid(pid, os.WNOHANG)
        if waited:
            return status
        if time.monotonic() > deadline:
            return None
        time.sleep(delay)
        delay = min(2 * delay, 0.1)
