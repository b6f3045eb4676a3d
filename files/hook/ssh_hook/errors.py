# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception of the hook, and what is said in more than one place."""

from __future__ import annotations

NO_MEMORY = (
    "there is not enough memory for the hook: is the node out of it, or is the container's limit RLIMIT_AS or "
    "RLIMIT_DATA, to which crun holds its hooks too, too low?"
)
CONTAINER_ENDED = "the container has ended while it was created: see what its engine says of that"


class HookError(Exception):
    """A failure whose text is the whole message: one line that says what is wrong, where, and what to do."""
