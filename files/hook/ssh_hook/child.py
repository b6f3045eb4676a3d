# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's child, and what the two say to each other."""

from __future__ import annotations

import posix

from . import linux
from .errors import NO_MEMORY, HookError
from .log import WARNING, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_RECORDED = b"r"
_KILLED = (
    "the container could not be set up: the hook's child was killed; has the container ended, or is the node out of "
    "memory?"
)


class Child:
    """The process that does the work inside of the container.

    It starts the daemon when the hook has recorded that, and ends. Whichever of the two is killed before that, the other one ends the
    daemon.
    """

    def __init__(self) -> None:
        self._words, self._words_writer = posix.pipe()
        self._orders_reader, self._orders = posix.pipe()
        self._received = b""
        self._pid = 0

    # In the hook

    def fork(self, work: Callable[[], Callable[[], None]]) -> None:
        """Start the child, which does `work`: that starts the daemon, and returns what ends it. Raises HookError."""
        try:
            self._pid = linux.fork()
        except OSError as error:
            reason = error.strerror  # of an ended pid namespace that is "Cannot allocate memory"
            raise HookError(f"cannot start a process in the container: {reason}; has the container ended?") from None
        if self._pid == 0:
            posix.close(self._words)
            posix.close(self._orders)
            self._do(work)
        posix.close(self._words_writer)
        posix.close(self._orders_reader)

    def daemon(self) -> list[int]:
        """What Watch takes of the daemon, which waits to be recorded. Raises HookError with what the child says, or if it says
        nothing.
        """
        return [int(number) for number in self._await("forked").split()]

    def go_on(self) -> None:
        """Tell that the daemon is recorded, and return when it has been told to run. Raises HookError as daemon() does."""
        try:
            posix.write(self._orders, _RECORDED)
        except BrokenPipeError:
            pass  # the child has told why it ended
        self._await("started")

    def give_up(self) -> NoReturn:
        """Have the child end, if it has not. Raises HookError with what it said, as daemon() does."""
        self._close_orders()
        self._await("")
        raise HookError(_KILLED)

    def end(self) -> None:
        """Wait for the child, which does not go on where it is not told to."""
        self._close_orders()
        posix.waitpid(self._pid, 0)

    def _close_orders(self) -> None:
        if self._orders >= 0:
            posix.close(self._orders)
            self._orders = -1

    def _await(self, wanted: str) -> str:
        """The text of the child's next message of this kind."""
        while True:
            kind, _blank, text = self._next().partition(" ")
            if kind == wanted:
                return text
            if kind == "error":
                raise HookError(text)
            log(WARNING, text)

    def _next(self) -> str:
        while b"\0" not in self._received:
            more = posix.read(self._words, 1 << 16)
            if not more:
                raise HookError(_KILLED)
            self._received += more
        message, _end, self._received = self._received.partition(b"\0")
        return message.decode("utf-8", "replace")

    # In the child

    def tell(self, kind: str, text: str) -> None:
        """Send a message to the hook."""
        posix.write(self._words_writer, f"{kind} {text}\0".encode("utf-8", "backslashreplace"))

    def warn(self, text: str) -> None:
        """Have the hook report a warning."""
        self.tell("warning", text)

    def await_record(self) -> None:
        """Return when the hook has recorded the daemon. Raises HookError where the hook is gone."""
        if not posix.read(self._orders_reader, len(_RECORDED)):
            raise HookError("the hook was killed")

    def _do(self, work: Callable[[], Callable[[], None]]) -> None:
        try:
            take_back = work()
            try:
                self.tell("started", "")
            except OSError:  # the hook is gone
                take_back()
        except HookError as error:
            self.tell("error", str(error))
        except MemoryError:
            self.tell("error", NO_MEMORY)
        except Exception as error:
            name = getattr(error, "filename", None)
            where = f" ({name})" if name else ""
            what = error.strerror if isinstance(error, OSError) else f"{error.__class__.__name__}: {error}"
            self.tell("error", f"cannot set the container up: {what}{where}")
        finally:
            posix._exit(0)
