"""Has each process that a test forks begin late, as on a busy machine; not what `subprocess` starts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial, wraps

from ssh_hook.linux import syscalls


def delay_children(seconds: float) -> None:
    """From now on, each child of this process waits for so long before it does anything."""
    wait = partial(time.sleep, seconds)
    os.register_at_fork(after_in_child=wait)
    for name in ("fork", "clone3_into_cgroup"):  # for which Python runs no function
        setattr(syscalls, name, _delayed(getattr(syscalls, name), wait))


def _delayed(fork: Callable[..., int], wait: Callable[[], None]) -> Callable[..., int]:
    @wraps(fork)
    def fork_and_wait(*arguments: int) -> int:
        pid = fork(*arguments)
        if pid == 0:
            wait()
        return pid

    return fork_and_wait
