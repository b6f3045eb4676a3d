# SPDX-License-Identifier: GPL-3.0-or-later
"""The container's state, from the runtime on the hook's standard input.

Format: https://github.com/opencontainers/runtime-spec (runtime.md, State), version 1.0 and later.
"""

from __future__ import annotations

from ..errors import CONFIG_WRONG, HookError, printable
from .json_reader import Node, parse, read_document

_MAX_SIZE = 1 << 20  # bytes
_WHAT = "the container's state on standard input"


class State:
    """The state of a container.

    Attributes:
        id: the container's id; empty if missing.
        status: "creating", "stopped" and the like.
        pid: the container's first process, in the runtime's pid namespace; 0 if there is none.
        bundle: an absolute path.
    """

    def __init__(self, data: bytes) -> None:
        """Parse the JSON in `data`. Raises HookError if it is not a valid state."""
        state = Node(parse(data, _WHAT), "the container's state")
        self.id = state.text("id") if state.has("id") else ""
        self.status = state.text("status")
        self.pid = state.integer("pid", 0, 2**31 - 1) if state.has("pid") else 0
        self.bundle = state.text("bundle")
        if not self.bundle.startswith("/"):
            raise HookError(
                CONFIG_WRONG, f"the container's state: 'bundle' is '{printable(self.bundle)}', not an absolute path"
            )


def read_state(descriptor: int) -> State:
    """Read the state from `descriptor` to its end. Raises HookError."""
    return State(read_document(descriptor, _MAX_SIZE, _WHAT))
