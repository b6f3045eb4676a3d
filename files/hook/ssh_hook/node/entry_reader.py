# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads entries of daemons in a user's own directories (own_places.py), and removes what nobody else will."""

from __future__ import annotations

from ..errors import HookError, LateError, describe_failure, kind_of
from ..fast_stdlib import TYPE_CHECKING, basename, closing, fsdecode, os
from ..linux.files import read_own
from ..linux.process import pid_namespace
from ..log import INFO, log
from . import door_collection, record
from .own_places import for_doors, for_entries, open_own, remove_door
from .places import unlink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .record import Record

_MAX_NAMES = 4096  # entries that are read of one directory
_MAX_SIZE = 64 << 10  # bytes of an entry


def own(path: str) -> Iterator[Record]:
    """Yield the caller's entries in the directory `path`."""
    return (known for _name, known in _named(path) if known is not None)


def _named(path: str) -> Iterator[tuple[str, Record | None]]:
    """Yield name and content of the caller's entries in the directory `path`; None if half of one was written."""
    try:
        with closing(open_own(path)) as directory:
            for name in os.listdir(directory)[:_MAX_NAMES]:
                try:
                    data = read_own(name, _MAX_SIZE, directory)
                except OSError:
                    continue  # its container has ended
                if data is not None:
                    yield name, record.parse(fsdecode(data))
    except OSError:
        return  # there is none, or another user's


def collect_own(uid: int, level: int = INFO) -> int:
    """Remove the entries and doors that ended daemons of the user `uid` have left; return how many directories failed.

    Failures are logged at `level`. Root's are left to its sweep.
    """
    failures = 0
    for directory in for_doors(uid) if uid else ():
        try:
            removed = door_collection.collect(directory)
        except OSError as error:
            log(level, f"cannot remove the doors of daemons that have ended: {describe_failure(error)}", kind_of(error))
            failures += 1
        else:
            if removed:
                log(INFO, f"{directory}: removed the doors of {removed} daemons that have ended")
    for directory in for_entries(uid) if uid else ():
        collect(directory)
    return failures


def collect(path: str) -> int:
    """Remove the caller's entries in the directory `path` that no poststop or sweep needs; return how many.

    Nobody removes them if a supervisor was killed, or under enroot. Their doors are removed too.
    """
    removed = 0
    try:
        for name, known in _named(path):
            if known is not None and _is_left(known):
                removed += _remove_left(f"{path}/{name}", known)
    except LateError:
        pass  # the next one can end as late
    return removed


def _is_left(known: Record) -> bool:
    """Return whether the daemon has ended, and neither its container nor a pidfile waits for a sweep.

    Raises LateError if that is not known in time.
    """
    try:
        process = known.process()
        if process is not None:
            process.close()
            return False
        is_known_here = not known.is_of_this_boot() or known.has_pids_of(pid_namespace())
        is_over = not known.bundle or known.container_is_gone()
    except LateError:
        raise
    except (HookError, OSError):
        return False  # hidden
    return is_known_here and is_over and not known.pidfile_host


def _remove_left(path: str, known: Record) -> bool:
    if door_collection.of_ended_daemons([basename(known.door)]):
        remove_door(known.door)
    record.remove_kept(known)
    unlink(path)
    return True
