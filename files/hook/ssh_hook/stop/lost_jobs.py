# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of jobs whose Epilog failed, or was never called, and their users' directories of doors.

Slurm repeats the end of a job until its node has answered, and /run is empty after a boot. So they are few, mislead
nobody, since no other job has the number for long, and are removed when no job lasts any more that began with them. A
job may be without a process on one of its nodes for all of its life, and then start a container there.
"""

from __future__ import annotations

from ..errors import HookError
from ..linux.cgroups import job_and_step
from ..linux.fast_stdlib import fsdecode, os
from ..linux.process import all_processes
from ..log import INFO, log
from ..node import job_doors, job_record
from ..node.job_record import JobRecord

_AGE = 30 * 24 * 3600  # seconds: longer than jobs last


def remove_lost_jobs(now: float) -> None:
    """Remove the records of jobs that began long before `now` and have no process. To be called by root.

    Raises OSError.
    """
    records = {number: _read(number) for number in _recorded()}
    old = {number: record.uid for number, record in records.items() if record and record.start < now - _AGE}
    for number in old.keys() - _running() if old else ():
        job_doors.end_job(int(number), old[number])
        log(INFO, f"removed the record of job {number}, whose Epilog was not called or failed")


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
