# SPDX-License-Identifier: GPL-3.0-or-later
"""Scheduler, I/O priority, memory policy and personality of the container's process.

Few containers set any of these, so this module is imported only when needed.

Formats: https://github.com/opencontainers/runtime-spec (config.md, config-linux.md), version 1.3; sched_setattr(2),
ioprio_set(2), set_mempolicy(2), personality(2).
"""

from __future__ import annotations

from ..errors import CONFINEMENT_REFUSED, HookError, printable
from ..fast_stdlib import TYPE_CHECKING
from ..linux import syscalls
from ..linux.process import is_decimal
from .rlimits import ordinal

if TYPE_CHECKING:
    from ..oci.json_reader import Node
    from ..oci.oci_config import Container

# Each in the order of the kernel's numbers, or of its bits.
_POLICIES = "OTHER FIFO RR BATCH ISO IDLE DEADLINE"
_POLICY_FLAGS = "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX"
_IO_CLASSES = "NONE RT BE IDLE"
_IO_CLASS_SHIFT = 13
_MEMORY_MODES = "DEFAULT PREFERRED BIND INTERLEAVE LOCAL PREFERRED_MANY WEIGHTED_INTERLEAVE"
_MEMORY_FLAGS = "NUMA_BALANCING RELATIVE_NODES STATIC_NODES"
_FIRST_MEMORY_FLAG = 13
_PERSONALITIES = {"LINUX": 0, "LINUX32": 8}
_MAX_NODE = 1023
_MAX_32 = 2**32 - 1
_MAX_64 = 2**64 - 1


class Scheduling:
    """The settings in config.json for one container's process, to apply to the daemon."""

    def __init__(self, container: Container) -> None:
        """Prepare the settings. Raises HookError if sessions cannot have them."""
        self._scheduler = None if container.scheduler is None else _scheduler(container.scheduler)
        self._io_priority = None if container.io_priority is None else _io_priority(container.io_priority)
        self._memory_policy = None if container.memory_policy is None else _memory_policy(container.memory_policy)
        self._personality = None if container.personality is None else _personality(container.personality)

    def apply(self) -> None:
        """Apply them to the calling process and its children. Raises HookError if the kernel refuses."""
        what = "scheduler"
        try:
            if self._scheduler is not None:
                syscalls.sched_setattr(self._scheduler)
            what = "ioPriority"
            if self._io_priority is not None:
                syscalls.ioprio_set(self._io_priority)
            what = "memoryPolicy"
            if self._memory_policy is not None:
                syscalls.set_mempolicy(*self._memory_policy)
            what = "personality"
            if self._personality is not None:
                syscalls.personality(self._personality)
        except OSError as error:
            raise HookError(
                CONFINEMENT_REFUSED, f"the container's '{what}' in config.json cannot be set: {error.strerror}"
            ) from None


def _scheduler(node: Node) -> bytes:
    """Return a struct sched_attr. Raises HookError."""
    name = node.text("policy")
    if name == "SCHED_DEADLINE":
        raise HookError(
            CONFINEMENT_REFUSED,
            f"{node.where}: 'policy' is SCHED_DEADLINE, under which a process cannot fork(2), so the SSH daemon could "
            "not serve sessions: start the container without the hook, or with another policy",
        )
    flags = sum(1 << ordinal(flag, "SCHED_FLAG_", _POLICY_FLAGS) for flag in set(node.texts("flags")))
    nice = node.integer("nice", -20, 19) if node.has("nice") else 0
    fields = [(48, 4), (ordinal(name, "SCHED_", _POLICIES), 4), (flags, 8), (nice & _MAX_32, 4)]
    fields.append((_optional(node, "priority", _MAX_32), 4))
    fields += [(_optional(node, member, _MAX_64), 8) for member in ("runtime", "deadline", "period")]
    return syscalls.integers(*fields)


def _io_priority(node: Node) -> int:
    return ordinal(node.text("class"), "IOPRIO_CLASS_", _IO_CLASSES) << _IO_CLASS_SHIFT | _optional(node, "priority", 7)


def _memory_policy(node: Node) -> tuple[int, int]:
    """Return the mode with flags, and the mask of nodes. Raises HookError."""
    mode = ordinal(node.text("mode"), "MPOL_", _MEMORY_MODES)
    for flag in set(node.texts("flags")):
        mode |= 1 << _FIRST_MEMORY_FLAG + ordinal(flag, "MPOL_F_", _MEMORY_FLAGS)
    mask = 0
    nodes = node.text("nodes") if node.has("nodes") else ""
    for part in filter(None, nodes.split(",")):
        first, _dash, last = part.strip().partition("-")
        low, high = _number(first), _number(last or first)
        if not 0 <= low <= high:
            raise HookError(CONFINEMENT_REFUSED, f"{node.where}: 'nodes' is '{printable(nodes)}', not a list of nodes")
        mask |= (1 << high + 1) - (1 << low)
    return mode, mask


def _personality(node: Node) -> int:
    domain = node.text("domain")
    if domain not in _PERSONALITIES or node.texts("flags"):  # the specification defines no flag
        raise HookError(
            CONFINEMENT_REFUSED,
            f"{node.where}: this hook does not support '{printable(domain)}' or its flags: upgrade ocihooks.ssh",
        )
    return _PERSONALITIES[domain]


def _optional(node: Node, name: str, most: int) -> int:
    return node.integer(name, 0, most) if node.has(name) else 0


def _number(text: str) -> int:
    """Return the number of a node; -1 if `text` is not a number."""
    return int(text) if is_decimal(text, 4) and int(text) <= _MAX_NODE else -1
