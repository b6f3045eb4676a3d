# SPDX-License-Identifier: GPL-3.0-or-later
"""How many processes Dropbear may have for clients that have not logged in.

They are in the container's cgroup. Whoever reaches the port can have all of them run, and is to leave the container's
own processes room.
"""

from __future__ import annotations

from ..linux import syscalls
from ..linux.fast_stdlib import TYPE_CHECKING
from .rlimits import limit

if TYPE_CHECKING:
    from ..linux.cgroups import Cgroups
    from ..oci.oci_config import Container

_PROCESSES = "RLIMIT_NPROC"
_MOST = 768  # MAX_UNAUTH_PROCESSES of Dropbear's localoptions.h
# Each takes up to 220 kB, and for each there may be three connections that wait, with up to 45 kB in the kernel: so
# all take at most a fourteenth of the container's memory. A client that only connects, or stops at any step of the
# login, takes 140 kB.
_MEMORY = 5 << 20  # bytes of the limit for each process


def unauthenticated_processes(cgroups: Cgroups, container: Container) -> int:
    """Return a number that the container's limits allow: three eighths of its processes, and one for each 5 MiB.

    What the container says nothing of, daemon and sessions inherit, as its first process does.
    """
    limits = {name: soft for name, soft, _hard in container.rlimits}
    inherited, _hard = syscalls.getrlimit(limit(_PROCESSES))
    processes = min(cgroups.limit("pids"), limits.get(_PROCESSES, inherited))
    return max(1, min(_MOST, processes * 3 // 8, cgroups.limit("memory") // _MEMORY))
