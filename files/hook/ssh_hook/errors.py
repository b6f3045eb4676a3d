# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's exceptions, and the one-line description of a failure in any of its processes."""

from __future__ import annotations

NO_MEMORY = (
    "there is not enough memory for the hook: is the node out of it, or is the container's limit RLIMIT_AS or "
    "RLIMIT_DATA, to which crun holds its hooks too, too low?"
)
CONTAINER_ENDED = "the container has ended while it was created: see what its engine says of that"
_MAX_SHOWN = 100  # characters


class HookError(Exception):
    """A failure whose text is the whole message: one line that says what is wrong, where, and what to do."""


class UnservedError(HookError):
    """The container cannot have SSH, and may start without."""


class NotCreatedError(HookError):
    """The kernel does not let the hook create a file or directory in the container."""


class LateError(HookError):
    """An operation that a user can block without end did not finish before its timeout."""


def printable(text: str) -> str:
    """Return `text` for a message of one line: escaped where it is not printable, and truncated."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + "..."


def describe_failure(error: BaseException) -> str:
    """Return one line for `error`: a HookError's text, an OSError's reason, else also the place in the code."""
    if isinstance(error, HookError):
        return str(error)
    if isinstance(error, MemoryError):
        return NO_MEMORY
    if isinstance(error, OSError) and error.strerror:
        name = error.filename.decode("utf-8", "replace") if isinstance(error.filename, bytes) else error.filename
        return f"{name}: {error.strerror}" if name else error.strerror
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    code = None if place is None else place.tb_frame.f_code
    where = "" if code is None else f" in {code.co_name} ({code.co_filename.rpartition('/')[2]})"
    return f"{error.__class__.__name__}{where}: {error}"
