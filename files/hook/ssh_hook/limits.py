# SPDX-License-Identifier: GPL-3.0-or-later
"""Resource limits: the container's, and the hook's own, which crun holds to them.

Format: https://github.com/opencontainers/runtime-spec (config.md, rlimits).
"""

from __future__ import annotations

import resource

from .errors import HookError
from .settings import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .container import Container

_INFINITE = 2**63  # limits from here on are RLIM_INFINITY

# setrlimit(2); include/uapi/asm-generic/resource.h
_LIMITS = """
CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME
"""
# What the hook itself takes, with a dozen hierarchies of cgroups and as many masked paths; how much memory, it finds out.
_NEEDED = {"NOFILE": 64, "FSIZE": 64 << 10, "AS": 0, "DATA": 0}


def raise_own_limits(container: Container) -> None:
    """Raise soft limits to the hard ones, where the hook needs that: crun holds its hooks to the container's. The daemon
    sets all of those again. Raises HookError where the hook could not do its work.
    """
    listed = {name for name, _soft, _hard in container.rlimits}
    for short, needed in _NEEDED.items():
        name = f"RLIMIT_{short}"
        if name not in listed:
            continue
        hard = resource.getrlimit(limit(name))[1]
        resource.setrlimit(limit(name), (hard, hard))
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise HookError(
                f"the container's limit {name} is too low for the hook, which crun holds to it too: raise it from {hard} "
                f"to {needed} or more"
            )


def limit(name: str) -> int:
    """The number of a limit that config.json names. Raises HookError where there is none such."""
    return ordinal(name, "RLIMIT_", _LIMITS)


def size(value: int) -> int:
    """What the kernel takes for a size in config.json."""
    return resource.RLIM_INFINITY if value >= _INFINITE else value


def ordinal(name: str, prefix: str, names: str) -> int:
    """The place of a `name` of config.json, which starts with `prefix`, among the kernel's `names`. Raises HookError."""
    known = names.split()
    if name.startswith(prefix) and name[len(prefix) :] in known:
        return known.index(name[len(prefix) :])
    raise HookError(f"config.json: this hook does not know '{printable(name)}': upgrade ocihooks.ssh")
