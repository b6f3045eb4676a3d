# SPDX-License-Identifier: GPL-3.0-or-later
"""Sweep: end daemons and remove files of containers whose runtime was killed before poststop ran.

A daemon's entry is in a directory to which only the same user's hook writes (entries.py). It is stale when the first
process of its container has exited.
"""

from __future__ import annotations

import time

from ..errors import NOT_TRUSTED, SYSTEM, HookError, kind_of, printable
from ..fast_stdlib import closing, os
from ..linux.files import SEARCH, is_own, open_without_links
from ..log import DEBUG, ERROR, INFO, log
from ..node import own_places, places, record, user_child
from ..node.engine import JOBS_PLACE
from ..node.record import Record
from .ending import end_recorded

_TIMEOUT = 180.0  # seconds; the longest single step must then finish before systemd stops the sweep
_GRACE_PERIOD = 60  # seconds; longer than a hook waits for its processes


def sweep(path: str) -> tuple[int, int]:
    """Sweep the directory of copies `path`; return the number of containers collected, and of failures.

    Raises HookError if it cannot be used.
    """
    try:
        directory = own_places.open_own(path)
    except FileNotFoundError:
        log(DEBUG, f"no container of this user has had an SSH daemon: there is no {path}")
        return 0, 0
    except OSError as error:
        # Any user can take a name in /tmp, and a directory of a job is root's without a job.
        if path.startswith(("/tmp/", f"{JOBS_PLACE}/")):
            log(DEBUG, f"{path} is not this user's")
            return 0, 0
        if error.errno is not None:
            raise HookError(SYSTEM, f"cannot open {path}: {error.strerror}") from None
        raise HookError(
            NOT_TRUSTED, f"other users can write to {path}, so its contents cannot be trusted: remove it"
        ) from None
    collected = failures = 0
    late_uids = user_child.users_of_left() if os.geteuid() == 0 else set()
    deadline = time.monotonic() + _TIMEOUT
    for name in sorted(os.listdir(directory), key=hash):  # in a different order each time, so that none waits forever
        if time.monotonic() > deadline:
            log(ERROR, f"{path}: not finished within {_TIMEOUT:.0f} s: the rest waits for the next sweep", SYSTEM)
            failures += 1
            break
        try:
            collected += _sweep_record(directory, name, path, late_uids)
        except (HookError, OSError) as error:
            what = str(error) if isinstance(error, HookError) else f"{path}/{printable(name)}: {error.strerror}"
            log(ERROR, f"cannot sweep: {what}", kind_of(error))
            failures += 1
    os.close(directory)
    return collected, failures


def _sweep_record(directory: int, name: str, path: str, late_uids: set[int]) -> bool:
    """End the daemon and remove the files of the record `name` in the open `directory`, if the container is gone.

    Return whether it was gone and everything was removed. Its door is left to the janitor, or `collect_own`. `path` is
    the directory's. If a user blocks a record or a question, or the daemon does not exit, the uid is added to
    `late_uids`; records of these users are skipped until a later sweep. Raises HookError and OSError.
    """
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False  # poststop was faster
    if is_young(status):
        return False
    if not _is_empty(status):
        known = record.read(directory, name, path)
        if known is None:
            return False
        if not known.bundle and path != places.ROOT_COPIES:
            return False  # of enroot or an attach, whose own processes end the daemon: see entry_reader.collect
        if known.numbers["uid"] in late_uids:
            return False
        try:
            if not known.container_is_gone():
                log(DEBUG, f"{known.bundle}: the container runs")
                return False
            end_recorded(known)
            what = f"{known.bundle}: cannot remove the record"
            user_child.run(known.numbers["uid"], lambda: _remove_record(known), what)
        except HookError:
            late_uids.add(known.numbers["uid"])
            raise
        record.remove_kept(known)
        log(INFO, f"{known.bundle}: cleaned up after a container that is gone")
    _unlink(name, directory)
    return True


def _remove_record(known: Record) -> bytes:
    """Remove the record from the bundle, but not a later one of a restarted container."""
    if not known.bundle.startswith("/"):
        return b""
    try:
        with closing(os.open("/", SEARCH)) as root:
            bundle = open_without_links(root, known.bundle)
    except OSError:
        return b""  # the bundle is gone or not visible to the caller, or there is a link, which it did not have
    with closing(bundle):
        for name in (record.TEMPORARY, record.NAME):
            if _is_copy_of(known, bundle, name):
                _unlink(name, bundle)
    return b""


def _is_copy_of(known: Record, bundle: int, name: str) -> bool:
    """Return whether the file `name` in the open directory `bundle` is the same record, or an unfinished one."""
    try:
        status = os.stat(name, dir_fd=bundle, follow_symlinks=False)
        if name == record.TEMPORARY and _is_empty(status):
            return not is_young(status)
        found = record.read(bundle, name)
    except (HookError, FileNotFoundError):
        return False
    return found is not None and (found.numbers, found.bundle) == (known.numbers, known.bundle)


def is_young(status: os.stat_result) -> bool:
    """Return whether a file was written less than a minute ago: its start may not have finished."""
    return 0 <= time.time() - status.st_mtime < _GRACE_PERIOD


def _is_empty(status: os.stat_result) -> bool:
    """Return whether it is an empty file, whose writer was killed before it wrote."""
    return is_own(status) and status.st_size == 0


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass  # another sweep, or poststop, was faster
