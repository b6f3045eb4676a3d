# SPDX-License-Identifier: GPL-3.0-or-later
"""Disposable processes for operations that may block forever: those on users' files.

The owner of a directory can hold its inode lock forever. A process that then opens or removes a file there waits in the
kernel, where even SIGKILL does not help. A user's FUSE file system may also never answer, not even on the last close.
So a child does such work. It closes its caller's descriptors and, if the work is a user's, changes all its ids to that
user's. On timeout it is killed and left behind.
"""

from __future__ import annotations

import time

from ..errors import HOME_HANGS, NO_MEMORY, HookError, LateError, describe_failure, kind_of, known_kind
from ..fast_stdlib import TYPE_CHECKING, closing, os, signal, write_all
from . import syscalls
from .files import close_all_but
from .ids import become

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from .identity import Identity

TIMEOUT = 10.0  # seconds
_REAP_TIMEOUT = 1.0  # seconds, to reap a child that has answered
_POLL = 0.0001  # seconds
_CHUNK = 1 << 16  # bytes
_MAX_ANSWER = 1 << 20  # bytes
_DONE, _FAILED = b"+", b"-"


def run(
    work: Callable[[], bytes],
    what: str,
    user: Identity | None,
    kept: tuple[int, ...] = (),
    timeout: float = TIMEOUT,
    limit: int = _MAX_ANSWER,
) -> bytes:
    """Run `work` in a child as `user`, or as the caller if that is None; return its result.

    `what` begins the error message, such as "cannot read FILE". `kept` are the descriptors that `work` needs; the child
    closes all others. The user can forge the result, of which at most `limit` bytes are read. Raises the HookError that
    `work` raised, or LateError after `timeout` seconds.
    """
    reader, writer = os.pipe()
    try:
        pid = syscalls.fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        raise HookError(NO_MEMORY, f"{what}: cannot start a process: {error.strerror}") from None
    if pid == 0:
        _run_child(work, user, writer, kept)
    os.close(writer)
    deadline = time.monotonic() + timeout
    with closing(reader):
        answer = _read(reader, deadline, limit)
    if answer is None:
        os.kill(pid, signal.SIGKILL)
        reap(pid, 0)
        raise LateError(
            HOME_HANGS,
            f"{what}: no answer within {timeout:g} s: the file system hangs, or a process blocks access to the file or "
            "its directory",
        )
    reap(pid, min(_REAP_TIMEOUT, deadline - time.monotonic()))
    if answer[:1] == _DONE:
        return answer[1:]
    kind, _separator, text = answer[1:].decode("utf-8", "replace").partition("\0")
    if text:
        raise HookError(known_kind(kind), text)
    raise HookError(NO_MEMORY, f"{what}: the process that does this was killed")


def reap(pid: int, timeout: float) -> int | None:
    """Reap the child `pid`, or any child for -1, within `timeout` seconds; return its wait status (wait(2)).

    Return None on timeout. Raises ChildProcessError if there is no child. A child that hangs in the kernel is reaped by
    init after the hook has exited.
    """
    deadline = time.monotonic() + timeout
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended != 0:
            return status
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL)


def _run_child(work: Callable[[], bytes], user: Identity | None, writer: int, kept: tuple[int, ...]) -> NoReturn:
    answer = b""
    try:
        # Standard output too: a runtime waits for EOF on its hook's output.
        close_all_but({writer, *kept}, os.open("/dev/null", os.O_RDWR))
        if user is not None:
            become(user.uid, user.gid)
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # the change of ids may have reset it
        answer = _DONE + work()
    except BaseException as error:
        answer = _FAILED + f"{kind_of(error)}\0{describe_failure(error)}".encode("utf-8", "backslashreplace")
    finally:
        try:
            write_all(writer, answer)
        finally:  # also if the caller has exited: its code must never run in this process
            os._exit(0)


def _read(reader: int, deadline: float, limit: int) -> bytes | None:
    """Read until EOF or more than `limit` bytes; return None if neither happens by `deadline`."""
    data = b""
    while syscalls.poll([reader], deadline):
        more = os.read(reader, _CHUNK)
        if not more or len(data) > limit:
            return data[: limit + 1]
        data += more
    return None
