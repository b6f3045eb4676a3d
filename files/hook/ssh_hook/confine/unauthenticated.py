# SPDX-License-Identifier: GPL-3.0-or-later
"""The limit of Dropbear's processes for clients that have not logged in.

They run in the container's cgroup. Anyone who reaches the port can start all of them, and must not use up the resources
of the container's own processes.
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING
from ..linux import syscalls
from .rlimits import limit

if TYPE_CHECKING:
    from ..linux.cgroups import Cgroups
    from ..oci.oci_config import Container

_PROCESSES = "RLIMIT_NPROC"
_MAX_PROCESSES = 768  # MAX_UNAUTH_PROCESSES of Dropbear's localoptions.h
# Each uses up to 220 kB, and for each there may be three waiting connections, with up to 45 kB in the kernel; with
# fewer than 24 processes there may be 96 connections. So they use at most a fourteenth of the container's memory, or
# 9 MB. A client that only connects, or stops during login, uses 140 kB.
_MEMORY = 5 << 20  # bytes of the container's limit per process


def unauthenticated_processes(cgroups: Cgroups, container: Container) -> int:
    """Return a number within the container's limits: at most three eighths of its processes, and one per 5 MiB.

    Daemon and sessions inherit limits that config.json does not set, as the container's first process does.
    """
    limits = {name: soft for name, soft, _hard in container.rlimits}
    inherited, _hard = syscalls.getrlimit(limit(_PROCESSES))
    processes = min(cgroups.limit("pids"), limits.get(_PROCESSES, inherited))
    return max(1, min(_MAX_PROCESSES, processes * 3 // 8, cgroups.limit("memory") // _MEMORY))
