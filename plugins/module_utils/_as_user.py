# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do work in a user's own directories with no more rights than that user has.

So what users plant in their directories can harm nobody but themselves, and an NFS server that
does not trust root serves the request. Work that may change something runs in a child process for
each user, which gives up root for good before it touches anything. That takes a millisecond. To
look at what is there, as the hook does at each start of a container, one child acts as a hundred
users in turn.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from typing import Any, NoReturn

    from ._keys.passwd import Entry

    Work = Callable[[Entry], "dict[str, Any]"]
    Look = Callable[[Entry], "dict[str, Any] | None"]
    Users = Sequence[Entry]

CHILDREN = 4  # at once; the work waits for disks and file servers, not for processors
BATCH = 100  # users whom one child looks at
TIMEOUT = 120.0  # seconds for one user, after which a file system that does not answer is given up
LOOK_TIMEOUT = 20.0  # seconds for one child that looks; who is left then gets a process, and TIMEOUT, of the user's own
_RESULT_LIMIT = 1024 * 1024  # bytes


class AsUserError(Exception):
    """The work for one user failed; the text is one line that says why."""


class _Child:
    """A running child: whom it works for, and what it has answered so far."""

    def __init__(self, users: Users, pid: int, answers: int, timeout: float) -> None:
        self.users = users
        self.pid = pid
        self.answers = answers
        self.deadline = time.monotonic() + timeout
        self.data = b""


def run_as_users(
    users: Iterable[Entry], work: Work
) -> Generator[tuple[Entry, dict[str, Any] | AsUserError], None, None]:
    """Run ``work(user)`` as each user; yield each user with the result, or with the error, as they end.

    The result must be something that JSON can hold. An exception in `work` becomes an AsUserError
    with its text. Without root's rights only the caller's own user can be worked for.
    """

    def as_user(alone: Users) -> dict[str, Any]:
        become(alone[0])
        return work(alone[0])

    for alone, outcome in _run([(user,) for user in users], as_user, TIMEOUT):
        yield alone[0], outcome


def look_as_users(users: Users, look: Look) -> Generator[tuple[Entry, dict[str, Any]], None, None]:
    """Call ``look(user)``, which changes nothing, as each user; yield each who has a result, with it.

    Left out is for whom that is None, or fails, who comes too late in a slow child, and who shares one
    with a user for whom it does not end: `run_as_users` will do, or say why not.
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
    """Run ``work(users)`` for each group of users in a child; yield each group with the result, or the error, as they end.

    `timeout` is in seconds, for one group.
    """
    waiting = iter(groups)
    running: dict[int, _Child] = {}
    try:
        while True:
            for users in waiting:
                child = _start(users, work, timeout, list(running))
                running[child.answers] = child
                if len(running) == CHILDREN:
                    break
            if not running:
                return
            for child in _ended(running):
                del running[child.answers]
                os.close(child.answers)
                yield child.users, _result(child)
    finally:
        for child in running.values():
            os.close(child.answers)
            os.kill(child.pid, signal.SIGKILL)
            _reap(child.pid)


def become(user: Entry) -> None:
    """Give up the process's identity for the user's: groups, gid and uid, with no way back.

    Raises AsUserError if that is not possible.
    """
    if os.geteuid() != 0:
        _require_same(user)
        return
    try:
        os.setgroups(os.getgrouplist(user.name, user.gid))
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
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
        return None  # whatever it is, it will come again where it is told


@contextmanager
def _acting_as(user: Entry) -> Iterator[None]:
    """Have the effective identity of the user, and root's again afterwards. Raises AsUserError and OSError."""
    if os.geteuid() != 0:
        _require_same(user)
        yield
        return
    try:
        os.setgroups(os.getgrouplist(user.name, user.gid))
        os.setegid(user.gid)
        os.seteuid(user.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


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
    """Do the work, write its outcome to the pipe, and end: nothing of the parent's may run on in the child."""
    try:
        try:
            os.chdir("/")
            os.umask(0o077)
            outcome: dict[str, Any] = {"result": work(users)}
        except Exception as error:
            # Whatever it is: the other users' work must go on, and this one's reason must be told.
            outcome = {"error": str(error) or type(error).__name__}
        data = json.dumps(outcome).encode()
        while data:
            data = data[os.write(answer, data) :]
        os._exit(0)
    finally:
        os._exit(1)


def _ended(running: dict[int, _Child]) -> list[_Child]:
    """Wait until at least one child has answered in full or has run out of time; return those."""
    poll = select.poll()
    for descriptor in running:
        poll.register(descriptor, select.POLLIN)
    while True:
        remaining = min(child.deadline for child in running.values()) - time.monotonic()
        ready = [running[descriptor] for descriptor, _event in poll.poll(max(remaining, 0) * 1000 + 1)]
        ended = [child for child in ready if not _more(child)]
        ended += [child for child in running.values() if child not in ready and child.deadline < time.monotonic()]
        if ended:
            return ended


def _more(child: _Child) -> bool:
    """Read what the child has written; return False when it has closed the pipe or written too much."""
    data = os.read(child.answers, 65536)
    child.data += data
    return bool(data) and len(child.data) <= _RESULT_LIMIT


def _result(child: _Child) -> Any | AsUserError:
    if child.deadline < time.monotonic() or len(child.data) > _RESULT_LIMIT:
        os.kill(child.pid, signal.SIGKILL)  # not yet waited for, so the number is still this child's
    status = _reap(child.pid)
    if status is None or (os.WIFSIGNALED(status) and child.deadline < time.monotonic()):
        return AsUserError(f"gave up after {TIMEOUT:.0f} s: a file system does not answer")
    if status != 0:
        names = ", ".join(user.name for user in child.users)
        return AsUserError(f"the process that acted as {names} ended unexpectedly, with status {status}")
    try:
        outcome = json.loads(child.data)
    except ValueError:
        return AsUserError("the answer is too long, or came too late")
    if "error" in outcome:
        return AsUserError(outcome["error"])
    return outcome["result"]


def _reap(pid: int) -> int | None:
    """Return the wait status of a child that is about to end, or None if even a kill does not end it."""
    delay = 0.001
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        waited, status = os.waitpid(pid, os.WNOHANG)
        if waited:
            return status
        time.sleep(delay)
        delay = min(2 * delay, 0.1)
    return None
