# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook sweep``: collects what a container's runtime never cleaned up since it was killed, and nothing else.

Each daemon's record has a copy in one directory, which only the hook of the same user writes to. A record is worth
something until its container's first process has ended.
"""

from __future__ import annotations

import os
import stat
import time

from ..errors import HookError, LateError, printable
from ..host import record
from ..host.engine import Engine
from ..host.record import Record
from ..kernel import disposable
from ..kernel.files import is_own
from ..kernel.lean import closing
from ..log import DEBUG, ERROR, INFO, log
from ..stages.poststop import end

_GRACE = 60  # seconds; a hook that is at work now has not been for as long


def sweep() -> int:
    """End and remove what containers of this user left that are gone; returns the exit status, 1 after a failure.

    Raises HookError where nothing can be done at all.
    """
    path = record.directory_of_copies(Engine().host_uid)
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        log(DEBUG, f"no container of this user has had an SSH daemon: there is no {path}")
        return 0
    except OSError as error:
        raise HookError(f"cannot open {path}: {error.strerror}") from None
    if not is_own(os.fstat(directory), stat.S_IFDIR):
        raise HookError(f"others can write to {path}, so what is in it cannot be trusted: remove it")
    failures = 0
    late: set[int] = set()
    for name in sorted(os.listdir(directory)):
        try:
            _look_at(directory, name, path, late)
        except (HookError, OSError) as error:
            what = str(error) if isinstance(error, HookError) else f"{path}/{printable(name)}: {error.strerror}"
            log(ERROR, f"cannot sweep: {what}")
            failures = 1
    os.close(directory)
    return failures


def _look_at(directory: int, name: str, path: str, late: set[int]) -> None:
    """Collect what the record `name` in the open `directory` tells of, if its container is gone. Who holds up one of her records
    is added to the uids `late`, and her others wait for the next sweep.
    """
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return  # poststop was quicker
    if _is_young(status):
        return
    if not _is_empty(status):
        known = record.read(directory, name, path)
        if known is None:
            return
        if not known.container_is_gone():
            log(DEBUG, f"{known.bundle}: the container runs")
            return
        if known.numbers["uid"] in late:
            return
        try:
            end(known)
            disposable.run(lambda: _tidy(known), f"{known.bundle}: cannot remove the record", None)
        except LateError:
            late.add(known.numbers["uid"])
            raise
        log(INFO, f"{known.bundle}: collected what was left of a container that is gone")
    _unlink(name, directory)


def _tidy(known: Record) -> bytes:
    """Remove the record beside the bundle. A later one, of a container that was started again, stays."""
    try:
        bundle = _open_without_links(known.bundle)
    except OSError:
        return b""  # it is gone, or not to be seen from here
    with closing(bundle):
        for name in (record.TEMPORARY, record.NAME):
            if _is_same(known, bundle, name):
                _unlink(name, bundle)
    return b""


def _open_without_links(path: str) -> int:
    """The directory `path`, which was free of links when it was written down. Raises OSError where it is not so now."""
    if not path.startswith("/"):
        raise FileNotFoundError
    directory = os.open("/", os.O_PATH | os.O_DIRECTORY)
    for name in path.split("/")[1:]:
        with closing(directory) as above:
            directory = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    return directory


def _is_same(known: Record, bundle: int, name: str) -> bool:
    """Whether the file `name` in the open directory `bundle` is that record, or was to become one."""
    try:
        status = os.stat(name, dir_fd=bundle, follow_symlinks=False)
        if name == record.TEMPORARY and _is_empty(status):
            return not _is_young(status)
        found = record.read(bundle, name)
    except (HookError, FileNotFoundError):
        return False
    return found is not None and found.data() == known.data()


def _is_young(status: os.stat_result) -> bool:
    return 0 <= time.time() - status.st_mtime < _GRACE


def _is_empty(status: os.stat_result) -> bool:
    """Whether it is a file whose writer was killed before it wrote."""
    return is_own(status) and status.st_size == 0


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass  # another sweep, or poststop, was quicker
