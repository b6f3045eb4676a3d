"""How long tests wait: what is ample on an idle machine, times one factor for the machine that they run on."""

from __future__ import annotations

import os
from pathlib import Path

FACTOR = float(os.environ.get("TEST_TIMEOUT_FACTOR", "1"))  # as for emulated machines


def within(seconds: float) -> float:
    """Return a deadline: `seconds` on an idle machine, and longer by what this one has to do besides, now.

    That is the number of processes that want each of its processors: as many of them as run at this moment, or in the
    mean of the last minute, which counts those that wait for a disk too.
    """
    mean, _five, _fifteen, running, _last = Path("/proc/loadavg").read_text(encoding="ascii").split()
    wanted = max(float(mean), float(running.partition("/")[0]))
    return seconds * FACTOR * max(1.0, wanted / len(os.sched_getaffinity(0)))
