# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of jobs whose Epilog failed, or was never called, and directories of doors of users without a job.

Slurm repeats the end of a job until its node has answered, and /run is empty after a boot. So there are few of them.
They do no harm, since Slurm reuses the numbers of jobs late, and are removed after 30 days, which is longer than jobs
run: a job may be without a process on one of its nodes for most of its life, and then start a container there.
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

_AGE = 30 * 24 * 3600  # seconds: longer than jobs last
_TIMEOUT = 1.0  # seconds to remove a record


def remove_lost_jobs(now: float) -> int:
    """Remove the records of jobs that began long before `now` and have no process, and directories of doors.

    Return how many could not be. To be called by root. Raises OSError where /run or /proc cannot be read.
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
    return failures + _leave_doors()


def _remove(name: str) -> None:
    """Remove a record, by a process that is left behind where it hangs (job_doors.py). Raises HookError."""

    def remove() -> bytes:
        job_record.remove(name)
        return b""

    disposable_process.run(remove, "cannot remove it", None, timeout=_TIMEOUT)


def _leave_doors() -> int:
    """Remove the directories of doors of users without a recorded job; return how many could not be. Raises OSError."""
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
        return []  # no Prolog has been called


def _read(name: str) -> JobRecord | None:
    """Return the record of a job; None where it is gone, or none of this version of the hook."""
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
            continue  # it ended meanwhile
    return found
