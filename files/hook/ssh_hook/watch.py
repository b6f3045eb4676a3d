# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon as the hook sees it: it runs, it listens, or how it ended.

The hook's child could tell, but ends meanwhile, which takes as long.
"""

from __future__ import annotations

import posix
import time

from . import linux
from .errors import HookError
from .paths import read_to_end
from .process import Process

_START_TIMEOUT = 10.0  # seconds
_POLL = 0.00003  # seconds


class Watch:
    """A daemon that is about to run. Attributes: identity, which it will have, as Process.identity() gives it."""

    def __init__(
        self,
        words: int,
        pid: int,
        start_time: int,
        device: int,
        inode: int,
        child: int,
        pidfile: int,
        second_pidfile: int,
    ) -> None:
        """`words` is a descriptor of what the daemon says until its program runs, of which `device` and `inode` are. What
        follows are descriptors of the process `child`: of the pidfile, which has a content when the daemon listens, and of one
        to empty if it does not, -1 where there is none. Raises OSError where `child` has ended.
        """
        self.identity = pid, start_time, device, inode
        self._process = _process(pid, start_time)
        self._words = words
        self._pidfile = _open(child, pidfile, posix.O_RDONLY)
        self._second_pidfile: int | None = None
        if second_pidfile >= 0:
            try:
                self._second_pidfile = _open(child, second_pidfile, posix.O_WRONLY)
            except OSError:
                pass  # on a file system that refuses root what the user may: then it stays as it is

    def wait_until_listening(self, port: int) -> None:
        """Return when the daemon listens. Raises HookError with what keeps it from running, when it ends, or takes too long."""
        problem = read_to_end(self._words).decode("utf-8", "replace")
        if problem:
            raise HookError(f"cannot start the SSH daemon: {problem}")
        linux.prctl(linux.PR_SET_TIMERSLACK, 1)  # nanosecond; by default the kernel adds up to 50 µs to each wait
        deadline = time.monotonic() + _START_TIMEOUT
        while posix.fstat(self._pidfile).st_size == 0:
            if self._process is None or not self._process.is_alive():
                status = None if self._process is None else self._process.exit_status()
                raise HookError(f"the SSH daemon does not listen on port {port}: {end_in_words(status)}")
            if time.monotonic() > deadline:
                raise HookError(f"the SSH daemon does not listen on port {port} after {_START_TIMEOUT:.0f} s")
            time.sleep(_POLL)

    def take_back(self) -> None:
        """End the daemon, wherever its start has come to, and empty its second pidfile."""
        if self._process is not None:
            self._process.kill()
        if self._second_pidfile is not None:
            try:
                posix.ftruncate(self._second_pidfile, 0)
            except OSError:
                pass  # as above


def _process(pid: int, start_time: int) -> Process | None:
    """None where it has ended."""
    try:
        process = Process(pid)
        return process if process.start_time() == start_time else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def _open(process: int, descriptor: int, flags: int) -> int:
    return posix.open(f"/proc/{process}/fd/{descriptor}", flags | posix.O_CLOEXEC)


def end_in_words(status: int | None) -> str:
    """How a daemon that has ended with `status` (wait(2); None where it is not known) at its start came to that, and what to do."""
    limits = "are the container's limits too low for it (podman: --memory, --ulimit)?"
    if status is not None and posix.WIFSIGNALED(status):
        return f"it was killed by signal {posix.WTERMSIG(status)} at its start; {limits}"
    return (
        f"it ended at its start; {limits + ' Else ' if status is None else ''}try another port by the annotation "
        "com.hooks.ssh.port, and see whether bin/dropbear in DROPBEAR_DIR runs on this node and the container's seccomp, "
        "AppArmor or SELinux profile allows a server"
    )
