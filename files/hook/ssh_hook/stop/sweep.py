# SPDX-License-Identifier: GPL-3.0-or-later
"""Sweep: end daemons and remove files of containers whose runtime was killed before poststop ran.

Each daemon's record has a copy in a directory to which only the same user's hook writes (entries.py). A record is stale
when the first process of its container has exited.
"""

from __future__ import annotations

import time

from ..errors import NOT_TRUSTED, SYSTEM, HookError, LateError, kind_of, printable
from ..linux import disposable_process
from ..linux.fast_stdlib import closing, os, read_file
from ..linux.files import is_own
from ..linux.process import all_processes
from ..log import DEBUG, ERROR, INFO, log
from ..node import entries, entry_reader, record
from ..node.door_removal import move_away
from ..node.record import Record
from .rules import end_recorded

_TIMEOUT = 180.0  # seconds; the longest single step must then finish before systemd stops the sweep
NAME = b"ssh_hook sweep"  # the name of sweeps' processes: other processes of the hook may be in the same cgroup
_LOOKS = 5
_BETWEEN_LOOKS = 0.1  # seconds
_GRACE_PERIOD = 60  # seconds; longer than a hook waits for its processes


def sweep(path: str) -> tuple[int, int]:
    """Sweep the directory of copies `path`; return the number of containers collected, and of failures.

    Raises HookError if it cannot be used.
    """
    try:
        directory = entries.open_own(path)
    except FileNotFoundError:
        log(DEBUG, f"no container of this user has had an SSH daemon: there is no {path}")
        return 0, 0
    except OSError as error:
        if path.startswith("/tmp/"):  # where any user can take a name
            log(DEBUG, f"{path} is another user's")
            return 0, 0
        if error.errno is not None:
            raise HookError(SYSTEM, f"cannot open {path}: {error.strerror}") from None
        raise HookError(
            NOT_TRUSTED, f"other users can write to {path}, so its contents cannot be trusted: remove it"
        ) from None
    collected = failures = 0
    late_uids = users_of_left_processes() - {0} if os.geteuid() == 0 else set()
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


def sweep_entries_of_users() -> None:
    """Take stale entries away from the users of rootful containers. Must be called by root. Raises OSError.

    Normally that is done with the copy, which is missing if /var/lib was full, or an earlier version has swept it. A
    hook that was killed leaves half an entry.
    """
    for path, known in entry_reader.of_users():
        try:
            if not _is_young(os.stat(path)) and (known is None or known.container_is_gone()):
                move_away(path, f"entry-{os.urandom(8).hex()}")
        except FileNotFoundError:
            continue  # poststop was faster


def users_of_left_processes() -> set[int]:
    """Return the uids of the processes in the caller's cgroup that earlier sweeps have left behind.

    Without this check each sweep would add one, within the unit's memory limit. No one else can join this cgroup.
    """
    own = read_file("/proc/self/cgroup")
    found = set()
    for process in all_processes():
        try:
            if process.hangs() and process.read("cgroup") == own and process.read("comm") == NAME + b"\n":
                found.add(process.uid())
        except OSError:
            continue  # it has exited
    return found


def is_held_up() -> bool:
    """Return whether a root process left behind by a root sweep still waits: there must not be a second one.

    It checks repeatedly, since another running sweep may be waiting for a disk.
    """
    if os.geteuid() != 0:
        return False
    for _look in range(_LOOKS):
        if 0 not in users_of_left_processes():
            return False
        time.sleep(_BETWEEN_LOOKS)
    return True


def _sweep_record(directory: int, name: str, path: str, late_uids: set[int]) -> bool:
    """End the daemon and remove the files of the record `name` in the open `directory`, if the container is gone.

    Return whether it was gone and everything was removed. The door is left to `collect_doors`. `path` is the
    directory's. If a user blocks a record, or the daemon does not exit, the uid is added to `late_uids`; records of
    these users are skipped until a later sweep. Raises HookError and OSError.
    """
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False  # poststop was faster
    if _is_young(status):
        return False
    if not _is_empty(status):
        known = record.read(directory, name, path)
        if known is None:
            return False
        if not known.bundle and path != entries.ROOT_COPIES:
            return False  # of enroot or an attach, whose own processes end the daemon: see entry_reader.collect
        if not known.container_is_gone():
            log(DEBUG, f"{known.bundle}: the container runs")
            return False
        if known.numbers["uid"] in late_uids:
            return False
        try:
            end_recorded(known)
        except HookError:
            late_uids.add(known.numbers["uid"])
            raise
        if is_held_up():
            return False
        try:
            disposable_process.run(lambda: _remove_record(known), f"{known.bundle}: cannot remove the record", None)
        except LateError:
            late_uids.add(known.numbers["uid"])
            raise
        record.remove_kept(known)
        log(INFO, f"{known.bundle}: cleaned up after a container that is gone")
    _unlink(name, directory)
    return True


def _remove_record(known: Record) -> bytes:
    """Remove the record from the bundle, but not a later one of a restarted container."""
    try:
        bundle = _open_without_links(known.bundle)
    except OSError:
        return b""  # the bundle is gone, or not visible to the caller
    with closing(bundle):
        for name in (record.TEMPORARY, record.NAME):
            if _is_copy_of(known, bundle, name):
                _unlink(name, bundle)
    return b""


def _open_without_links(path: str) -> int:
    """Open the directory `path`, which had no links when it was recorded. Raises OSError if it now has one."""
    if not path.startswith("/"):
        raise FileNotFoundError
    directory = os.open("/", os.O_PATH | os.O_DIRECTORY)
    for name in path.split("/")[1:]:
        with closing(directory) as above:
            directory = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    return directory


def _is_copy_of(known: Record, bundle: int, name: str) -> bool:
    """Return whether the file `name` in the open directory `bundle` is the same record, or an unfinished one."""
    try:
        status = os.stat(name, dir_fd=bundle, follow_symlinks=False)
        if name == record.TEMPORARY and _is_empty(status):
            return not _is_young(status)
        found = record.read(bundle, name)
    except (HookError, FileNotFoundError):
        return False
    return found is not None and (found.numbers, found.bundle) == (known.numbers, known.bundle)


def _is_young(status: os.stat_result) -> bool:
    return 0 <= time.time() - status.st_mtime < _GRACE_PERIOD


def _is_empty(status: os.stat_result) -> bool:
    """Return whether it is an empty file, whose writer was killed before it wrote."""
    return is_own(status) and status.st_size == 0


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass  # another sweep, or poststop, was faster
