# SPDX-License-Identifier: GPL-3.0-or-later
"""Root's janitor: free entries that nobody needs, and remove for each user what only root can remove.

Removing a name, or unmounting, may wait for a user without end. So a process does it for one user, at most one at a
time (user_child.py), and others are not affected.

Few jobs have no Epilog, since Slurm repeats a job's end until the node answers. Their records are harmless, and freed
after 30 days: a job may have no process on a node for most of its life, and then start a container there.
"""

from __future__ import annotations

import time

from ..errors import SYSTEM, HookError, LateError, describe_failure, kind_of
from ..fast_stdlib import closing, fsdecode, os, signal
from ..linux import syscalls
from ..linux.cgroups import job_and_step
from ..linux.process import all_processes, pid_namespace
from ..log import ERROR, INFO, log
from ..node import door_collection, earlier, job_place, job_record, locks, places, record, user_child
from .orphans import is_young

_TIMEOUT = 30.0  # seconds for all users
_ONE = 0.5  # seconds for one, whose Prolog may fail meanwhile
_AGE = 30 * 24 * 3600  # seconds: longer than jobs run


def clean_up() -> int:
    """Free entries, and remove what is left of ended containers and jobs, for all users; return how many failed.

    Must be called by root. Raises OSError if /run or /proc cannot be read.
    """
    deadline = time.monotonic() + _TIMEOUT
    mounted = job_place.users()
    users = sorted({*places.users(), *mounted}, key=lambda _uid: os.urandom(8))  # so that none waits forever
    running: set[str] = set()
    failures = 0
    for uid in (*users, user_child.EARLIER):
        try:
            _clean_up_for(uid, uid in mounted, running, deadline)
        except (HookError, OSError) as error:
            log(ERROR, f"cannot clean up {locks.PLACE} for uid {uid}: {describe_failure(error)}", kind_of(error))
            failures += 1
    return failures


def _clean_up_for(uid: int, has_mount: bool, running: set[str], deadline: float) -> None:
    """Clean up for one user, or what earlier versions have left. Raises HookError and OSError."""
    if time.monotonic() > deadline:
        raise HookError(SYSTEM, f"not begun within {_TIMEOUT:.0f} s: the next sweep does")
    if uid == user_child.EARLIER:
        _remove(uid, False, earlier.left())
        return
    _free_entries(uid, running)
    # The caller keeps the lock: a process that hangs must not. So a Prolog mounts the tmpfs before that, or anew.
    with closing(locks.lock(uid)):
        is_unused = has_mount and not job_record.has_job_of(uid)
        _remove(uid, is_unused, door_collection.left_by_root(uid))


def _remove(uid: int, is_unused: bool, paths: list[str]) -> None:
    """Unmount the user's directory if it `is_unused`, and remove names, in a process of its own. Raises HookError."""
    caller = os.getpid()

    def remove() -> bytes:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == caller:
            if is_unused:
                job_place.remove(uid)
            for path in paths:
                places.unlink(path)
        return b""

    if is_unused or paths:
        user_child.run(uid, remove, f"cannot remove what uid {uid} does not need any more", timeout=_ONE)


def _free_entries(uid: int, running: set[str]) -> None:
    """Free the user's entries of containers that have ended, of old jobs without a process, and unfinished ones.

    `running` are the names of jobs with a process, filled when needed. Raises HookError and OSError.
    """
    for names in (places.DAEMONS, places.JOBS):
        for path, text in places.entries(uid, False, names):
            if not is_young(os.stat(path)) and _is_stale(text, running) and places.free(path, text.__eq__):
                log(INFO, f"{path}: freed, since its container or job is gone")


def _is_stale(text: str, running: set[str]) -> bool:
    """Return whether an entry is of no use."""
    job = job_record.name_in(text)
    if not job:
        known = record.parse(text)
        if known is None:
            return True
        # The boot id is no proof: a system in a container that shares /run, as under systemd-nspawn, has its own.
        try:
            return known.has_pids_of(pid_namespace()) and known.container_is_gone()
        except LateError:
            return False  # another user may have the pid now, and must not keep this user's other entries
    try:
        found = job_record.parse_record(text)
    except HookError:
        return False
    if found is None or found.start >= time.time() - _AGE:
        return False  # or of another version
    if not running:
        running.update(_running())
    return job not in running


def _running() -> set[str]:
    """Return the names of the jobs that have a process on this node, and an empty one."""
    found = {""}
    for process in all_processes():
        try:
            found.add(job_and_step(fsdecode(process.read("cgroup")).split("\n"))[0])
        except OSError:
            continue  # it has exited
    return found
