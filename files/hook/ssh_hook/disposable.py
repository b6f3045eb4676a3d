# SPDX-License-Identifier: GPL-3.0-or-later
"""A disposable process for what may never come back: the files of a user's.

Who owns a directory can hold its inode lock without end, and then whoever opens or removes a file there waits in the
kernel where even SIGKILL does not help; and a file system of hers may never answer. So a process of its own does that, as
the user for good. When it is late, it is killed and left behind, with nothing of its caller's open.
"""

from __future__ import annotations

import posix
import time

from . import linux
from .errors import HookError, LateError, describe_failure
from .identity import set_groups
from .paths import close_all_but

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from signal import SIGKILL
    from typing import NoReturn

    from .identity import Identity
else:  # the C half of signal: its other half imports enum
    from _signal import SIGKILL

TIMEOUT = 10.0  # seconds
_REAP_TIMEOUT = 1.0  # seconds, for a process that has nothing left to do
_POLL = 0.0001  # seconds
_CHUNK = 1 << 16  # bytes
_MAX_ANSWER = 1 << 20  # bytes
_DONE, _FAILED = b"+", b"-"


def run(
    work: Callable[[], bytes], what: str, user: Identity | None, kept: tuple[int, ...] = (), timeout: float = TIMEOUT
) -> bytes:
    """Return what `work` returns, which a forked process runs as `user`, or as the caller where that is None.

    `what` begins the message of a process that is late, such as "cannot read FILE". `kept` are the descriptors that `work`
    takes; all others are closed. What comes back is the user's word. Raises HookError: `work`'s
    own, or LateError after `timeout` seconds.
    """
    reader, writer = posix.pipe()
    try:
        pid = linux.fork()
    except OSError as error:
        posix.close(reader)
        posix.close(writer)
        raise HookError(f"{what}: cannot start a process: {error.strerror}") from None
    if pid == 0:
        _work(work, user, writer, kept)
    posix.close(writer)
    try:
        answer = _read(reader, time.monotonic() + timeout)
    finally:
        posix.close(reader)
    if answer is None:
        posix.kill(pid, SIGKILL)
        reap(pid, 0)
        raise LateError(
            f"{what}: no answer within {timeout:.0f} s: the file system hangs, or a process holds the file or its directory"
        )
    reap(pid, _REAP_TIMEOUT)
    if answer[:1] == _DONE:
        return answer[1:]
    raise HookError(answer[1:].decode("utf-8", "replace") or f"{what}: the process for that was killed")


def reap(pid: int, timeout: float) -> int | None:
    """Wait for the child `pid` for `timeout` seconds at most; return its wait status (wait(2)), None where it has not ended: one
    that hangs in the kernel is left to whoever comes after.
    """
    deadline = time.monotonic() + timeout
    while True:
        ended, status = posix.waitpid(pid, posix.WNOHANG)
        if ended != 0:
            return status
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL)


def _work(work: Callable[[], bytes], user: Identity | None, writer: int, kept: tuple[int, ...]) -> NoReturn:
    answer = b""
    try:
        close_all_but(
            {writer, *kept}, posix.open("/dev/null", posix.O_RDWR)
        )  # a runtime waits for the end of its hook's output
        if user is not None:
            set_groups([])
            posix.setresgid(user.gid, user.gid, user.gid)
            posix.setresuid(user.uid, user.uid, user.uid)
            linux.prctl(linux.PR_SET_DUMPABLE, 0)  # a change of ids may allow what was forbidden before
        answer = _DONE + work()
    except BaseException as error:
        answer = _FAILED + describe_failure(error).encode("utf-8", "backslashreplace")
    finally:
        view = memoryview(answer)
        while view:
            view = view[posix.write(writer, view) :]
        posix._exit(0)


def _read(reader: int, deadline: float) -> bytes | None:
    """All that comes until the end; None where that has not come by `deadline`."""
    data = b""
    while True:
        left = deadline - time.monotonic()
        if linux.poll([reader], left):
            more = posix.read(reader, _CHUNK)
            if not more or len(data) > _MAX_ANSWER:
                return data[: _MAX_ANSWER + 1]
            data += more
        elif left <= 0:
            return None
