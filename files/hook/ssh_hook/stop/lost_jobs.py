# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of jobs whose Epilog failed, or was never called, and their users' directories of doors.

Slurm repeats the end of a job until its node has answered, and /run is empty after a boot. So there are few of them.
They do no harm, since Slurm reuses the numbers of jobs late, and are removed after 30 days, which is longer than jobs
run: a job may be without a process on one of its nodes for most of its life, and then start a container there.
"""

from __future__ import annotations

from ..errors import SYSTEM, HookError
from ..linux.cgroups import job_and_step
from ..linux.fast_stdlib import fsdecode, os
from ..linux.process import all_processes
from ..log import ERROR, INFO, log
from ..node import job_doors, job_record
from ..node.job_record import JobRecord

_AGE = 30 * 24 * 3600  # seconds: longer than jobs last


def remove_lost_jobs(now: float) -> int:
    """Remove the records of jobs that began long before `now` and have no process; return how many could not be.

    To be called by root. Raises OSError where /run or /proc cannot be read.
    """
    records = {number: _read(number) for number in _recorded()}
    old = {number: record.uid for number, record in records.items() if record and record.start < now - _AGE}
    failures = 0
    for number in old.keys() - _running() if old else ():
        try:
            job_record.remove(int(number))
            job_doors.leave(old[number])
        except OSError as error:
            log(ERROR, f"cannot sweep: what job {number} left: {error.strerror}", SYSTEM)
            failures += 1
        else:
            log(INFO, f"removed the record of job {number}, whose Epilog was not called or failed")
    return failures


def _recorded() -> list[str]:
    """Return the numbers of the jobs that have a record. Raises OSError."""
    try:
        return [name for name in os.listdir(f"{job_record.PLACE}/{job_record.DIRECTORY}") if job_record.is_number(name)]
    except FileNotFoundError:
        return []  # no Prolog has been called


def _read(number: str) -> JobRecord | None:
    """Return the record of a job; None where it is gone, or none of this version of the hook."""
    try:
        return job_record.read(number, False)
    except HookError:
        return None


def _running() -> set[str]:
    """Return the numbers of the jobs that have a process on this node."""
    found = set()
    for process in all_processes():
        try:
            found.add(job_and_step(fsdecode(process.read("cgroup")).split("\n"))[0])
        except OSError:
            continue  # it ended meanwhile
    return found
