# SPDX-License-Identifier: GPL-3.0-or-later
"""The container's rlimits, which crun also applies to hooks.

Format: https://github.com/opencontainers/runtime-spec (config.md, rlimits).
"""

from __future__ import annotations

from ..errors import CONFINEMENT_REFUSED, NO_MEMORY, HookError, printable
from ..fast_stdlib import TYPE_CHECKING
from ..linux import syscalls

if TYPE_CHECKING:
    from ..oci.oci_config import Container

INFINITE = 2**63  # this and any higher limit mean RLIM_INFINITY

# setrlimit(2); include/uapi/asm-generic/resource.h
_LIMITS = """
CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME
"""
# Limits that the hook itself needs, for a dozen cgroup hierarchies and as many masked paths. Memory varies.
_NEEDED = {"RLIMIT_NOFILE": 64, "RLIMIT_FSIZE": 64 << 10, "RLIMIT_AS": INFINITE, "RLIMIT_DATA": INFINITE}


def raise_own_limits(container: Container) -> None:
    """Raise the hook's soft limits that are too low to the hard limits: crun sets the container's limits for hooks too.

    The daemon sets them all again. Raises HookError if a hard limit is too low for the hook.
    """
    for name, soft, _hard in container.rlimits:
        needed = _NEEDED.get(name, 0)
        if soft < needed:
            _soft, hard = syscalls.getrlimit(limit(name))
            syscalls.setrlimit(limit(name), hard, hard)
            if hard != syscalls.RLIM_INFINITY and hard < needed < INFINITE:
                raise HookError(
                    NO_MEMORY,
                    f"the container's limit {name} is too low for the hook, to which crun also applies it: raise it "
                    f"from {hard} to {needed} or more",
                )


def limit_names() -> list[str]:
    """Return the names of all rlimits, in the order of the kernel's numbers."""
    return [f"RLIMIT_{name}" for name in _LIMITS.split()]


def limit(name: str) -> int:
    """Return the kernel's number of the limit `name`, such as "RLIMIT_NOFILE". Raises HookError if it is unknown."""
    return ordinal(name, "RLIMIT_", _LIMITS)


def ordinal(name: str, prefix: str, names: str) -> int:
    """Return the index of `name`, without `prefix`, among the kernel's `names`. Raises HookError if it is missing."""
    known = names.split()
    if name.startswith(prefix) and name[len(prefix) :] in known:
        return known.index(name[len(prefix) :])
    raise HookError(
        CONFINEMENT_REFUSED, f"config.json: this hook does not support '{printable(name)}': upgrade ocihooks.ssh"
    )
