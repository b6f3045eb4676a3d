# SPDX-License-Identifier: GPL-3.0-or-later
"""Search for processes that have no entry (node/inventory.py), for a limited time: users decide how many there are."""

from __future__ import annotations

import time

from ..errors import SYSTEM, LateError
from .fast_stdlib import TYPE_CHECKING
from .process import all_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .process import Process


def processes_until(deadline: float) -> Iterator[Process]:
    """Yield every process in /proc, as `all_processes` does. Raises LateError at the `deadline` (monotonic)."""
    for process in all_processes():
        require_time(deadline)
        yield process


def require_time(deadline: float) -> None:
    """Raise LateError at the `deadline`."""
    if time.monotonic() > deadline:
        raise LateError(SYSTEM, "cannot look through the processes of this node in time: try again")


def own_processes(deadline: float) -> Iterator[Process]:
    """Yield only the processes that the caller may trace; for root these are all. Raises LateError."""
    for process in processes_until(deadline):
        if process.mount_namespace() is not None:
            yield process
