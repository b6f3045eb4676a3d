# SPDX-License-Identifier: GPL-3.0-or-later
"""The maps of a user namespace, by which its ids are those of another one."""

from __future__ import annotations

from ..errors import SYSTEM, HookError
from ..fast_stdlib import read_file

_ALL_IDS = 2**32 - 1


class IdMap:
    """The uid or gid map of a user namespace.

    Format: user_namespaces(7), /proc/PID/uid_map: lines "inside outside count". "outside" is an id of the reader's user
    namespace, or of the parent namespace where a process reads its own map.
    """

    def __init__(self, text: str) -> None:
        self._extents = [tuple(int(field) for field in line.split()) for line in text.splitlines()]

    def outside(self, inside: int) -> int | None:
        """Return the id outside the namespace that `inside` is mapped to; None if it is not mapped."""
        for first, outer, count in self._extents:
            if first <= inside < first + count:
                return outer + inside - first
        return None

    def inside(self, outside: int) -> int | None:
        """Return the id in the namespace that is mapped to `outside`; None if there is none."""
        for first, outer, count in self._extents:
            if outer <= outside < outer + count:
                return first + outside - outer
        return None

    def is_initial(self) -> bool:
        """Return whether this is the map of the initial user namespace, which maps every id to itself."""
        return self._extents == [(0, 0, _ALL_IDS)]


def read_map(path: str, directory: int | None = None) -> IdMap:
    """Read a uid_map or gid_map; `path` is relative to the open `directory` in /proc if given. Raises HookError."""
    try:
        return IdMap(read_file(path, directory).decode())
    except OSError as error:
        raise HookError(SYSTEM, f"cannot read {path}: {error.strerror}") from None
