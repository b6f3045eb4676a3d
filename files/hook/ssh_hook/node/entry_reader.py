# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads entries of daemons where `entries.py` keeps them, and removes those that nobody else will."""

from __future__ import annotations

from ..errors import HookError
from ..linux.fast_stdlib import TYPE_CHECKING, closing, fsdecode, os, read_all
from ..linux.files import is_own
from ..linux.process import pid_namespace
from . import record
from .door_removal import remove_door
from .entries import MAX_NUMBERS, NUMBERS, ROOT_PLACE, open_own
from .own_files import open_roots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .record import Record

_MAX_NAMES = 4096  # entries that are read of one directory
_MAX_SIZE = 64 << 10  # bytes of an entry
_SEARCH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def of_root(uid: int, is_rootless: bool) -> Iterator[Record]:
    """Yield the entries that root keeps for the user `uid`, the caller.

    `is_rootless`: whether the caller is in a user namespace, which shows root's files as nobody's.
    """
    try:
        with closing(open_roots(ROOT_PLACE, _SEARCH, None, is_rootless)) as place:
            with closing(open_roots(str(uid), _SEARCH, place, is_rootless)) as directory:
                with closing(open_roots(NUMBERS, _READ, directory, is_rootless)) as numbers:
                    used = min(os.fstat(numbers).st_size, MAX_NUMBERS)
                for number in range(used):
                    try:
                        with closing(open_roots(str(number), _READ, directory, is_rootless)) as file:
                            known = _read(file)
                    except FileNotFoundError:
                        continue  # its container has ended
                    if known is not None:
                        yield known
    except (OSError, HookError):
        return  # no rootful engine has started a container of the user's


def own(path: str) -> Iterator[Record]:
    """Yield the caller's entries in the directory `path`."""
    return (known for _name, known in _named(path) if known is not None)


def _named(path: str) -> Iterator[tuple[str, Record | None]]:
    """Yield name and content of the caller's entries in the directory `path`; None if half of one was written."""
    try:
        with closing(open_own(path)) as directory:
            for name in os.listdir(directory)[:_MAX_NAMES]:
                try:
                    with closing(os.open(name, _READ, dir_fd=directory)) as file:
                        if is_own(os.fstat(file)):
                            yield name, _read(file)
                except OSError:
                    continue  # its container has ended
    except OSError:
        return  # there is none, or another user's


def _read(file: int) -> Record | None:
    data = read_all(file, _MAX_SIZE)
    return record.parse(fsdecode(data)) if data.endswith(b"\n") else None


def collect(path: str) -> int:
    """Remove the caller's entries in the directory `path` that no poststop or sweep needs; return how many.

    Nobody removes them if a supervisor was killed, or under enroot. Their doors are removed too.
    """
    return sum(_remove_left(f"{path}/{name}", known) for name, known in _named(path) if known and _is_left(known))


def _is_left(known: Record) -> bool:
    """Return whether the daemon has ended, and neither its container nor a pidfile waits for a sweep."""
    try:
        process = known.process()
        if process is not None:
            process.close()
            return False
        is_known_here = not known.is_of_this_boot() or known.has_pids_of(pid_namespace())
        is_over = not known.bundle or known.container_is_gone()
    except (HookError, OSError):
        return False  # hidden
    return is_known_here and is_over and not known.pidfile_host


def _remove_left(path: str, known: Record) -> bool:
    remove_door(known.door)
    record.remove_kept(known)
    try:
        os.unlink(path)
    except OSError:
        pass  # that was one of them
    return True


def of_users() -> Iterator[tuple[str, Record | None]]:
    """Yield path and content of root's entries for users, as `_named`. Must be called by root. Raises OSError."""
    try:
        users = os.listdir(ROOT_PLACE)
    except FileNotFoundError:
        return  # no rootful engine has started a container since the node booted
    for user in users:
        for name, known in _named(f"{ROOT_PLACE}/{user}"):
            if name != NUMBERS:
                yield f"{ROOT_PLACE}/{user}/{name}", known
