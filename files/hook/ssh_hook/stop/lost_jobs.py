# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove records of jobs whose Epilog failed or was never called, and directories of doors of users without a job.

Slurm repeats a job's end until the node answers, and a boot empties /run, so there are few of them. They are harmless,
since Slurm does not reuse job numbers soon. They are removed after 30 days, longer than jobs run: a job may have no
process on a node for most of its life, and then start a container there.
"""

from __future__ import annotations

from ..errors import HookError, describe_failure, kind_of
from ..linux import disposable_process
from ..linux.cgroups import job_and_step
from ..linux.fast_stdlib import fsdecode, os
from ..linux.job_names import is_name
from ..linux.process import all_processes
from ..log import ERROR, INFO, log
from ..node import job_doors, job_record
from ..node.job_record import JobRecord
from .sweep import is_held_up

_AGE = 30 * 24 * 3600  # seconds: longer than jobs run
_TIMEOUT = 1.0  # seconds to remove a record


def remove_lost_jobs(now: float) -> int:
    """Remove the records of jobs that started long before `now` and have no process, and directories of doors.

    Return the number of failures. Must be called by root. Raises OSError if /run or /proc cannot be read.
    """
    records = {name: _read(name) for name in _recorded()}
    old = {name for name, record in records.items() if record and record.start < now - _AGE}
    failures = 0
    for name in old - _running() if old else ():
        if is_held_up():
            break
        try:
            _remove(name)
        except (HookError, OSError) as error:
            log(ERROR, f"cannot sweep: the record of job {name}: {describe_failure(error)}", kind_of(error))
            failures += 1
        else:
            log(INFO, f"removed the record of job {name}, whose Epilog did not run or failed")
    return failures + _remove_door_directories()


def _remove(name: str) -> None:
    """Remove a record, in a process that is left behind if it hangs (job_doors.py). Raises HookError."""

    def remove() -> bytes:
        job_record.remove(name)
        return b""

    disposable_process.run(remove, "cannot remove it", None, timeout=_TIMEOUT)


def _remove_door_directories() -> int:
    """Remove the doors' directories of users without a recorded job; return the number of failures. Raises OSError."""
    failures = 0
    for uid in job_doors.users():
        if is_held_up():
            break
        try:
            job_doors.leave(uid)
        except (HookError, OSError) as error:
            log(ERROR, f"cannot sweep: the directory of doors of uid {uid}: {describe_failure(error)}", kind_of(error))
            failures += 1
    return failures


def _recorded() -> list[str]:
    """Return the names of the jobs that have a record. Raises OSError."""
    try:
        return [name for name in os.listdir(f"{job_record.PLACE}/{job_record.DIRECTORY}") if is_name(name)]
    except FileNotFoundError:
        return []  # no Prolog has run


def _read(name: str) -> JobRecord | None:
    """Return the record of a job; None if it is gone, or of another version of the hook."""
    try:
        return job_record.read(name, False)
    except HookError:
        return None


def _running() -> set[str]:
    """Return the names of the jobs that have a process on this node."""
    found = set()
    for process in all_processes():
        try:
            found.add(job_and_step(fsdecode(process.read("cgroup")).split("\n"))[0])
        except OSError:
            continue  # it has exited
    return found
