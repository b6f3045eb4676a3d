# SPDX-License-Identifier: GPL-3.0-or-later
"""Resource limits: the container's, and the hook's own, which crun holds to them.

Format: https://github.com/opencontainers/runtime-spec (config.md, rlimits).
"""

from __future__ import annotations

from ..errors import HookError, printable
from ..kernel import syscalls
from ..kernel.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from ..spec.config import Container

INFINITE = 2**63  # limits from here on are RLIM_INFINITY

# setrlimit(2); include/uapi/asm-generic/resource.h
_LIMITS = """
CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME
"""
# What the hook itself takes, with a dozen hierarchies of cgroups and as many masked paths; how much memory, it finds out.
_ENOUGH = {"RLIMIT_NOFILE": 64, "RLIMIT_FSIZE": 64 << 10, "RLIMIT_AS": INFINITE, "RLIMIT_DATA": INFINITE}


def raise_own_limits(container: Container) -> None:
    """Raise soft limits to the hard ones, where the hook needs that: crun holds its hooks to the container's. The daemon
    sets all of those again. Raises HookError where the hook could not do its work.
    """
    for name, soft, _hard in container.rlimits:
        needed = _ENOUGH.get(name, 0)
        if soft < needed:
            _soft, hard = syscalls.getrlimit(limit(name))
            syscalls.setrlimit(limit(name), hard, hard)
            if hard != syscalls.RLIM_INFINITY and hard < needed < INFINITE:
                raise HookError(
                    f"the container's limit {name} is too low for the hook, which crun holds to it too: raise it from "
                    f"{hard} to {needed} or more"
                )


def limit(name: str) -> int:
    """The number of a limit that config.json names. Raises HookError where there is none such."""
    return ordinal(name, "RLIMIT_", _LIMITS)


def ordinal(name: str, prefix: str, names: str) -> int:
    """The place of a `name` of config.json, which starts with `prefix`, among the kernel's `names`. Raises HookError."""
    known = names.split()
    if name.startswith(prefix) and name[len(prefix) :] in known:
        return known.index(name[len(prefix) :])
    raise HookError(f"config.json: this hook does not know '{printable(name)}': upgrade ocihooks.ssh")
