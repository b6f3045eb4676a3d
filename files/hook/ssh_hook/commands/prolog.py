# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook prolog``: record the job that begins on this node, and make its user's directory for doors.

Slurm's slurmd calls it as root, by its Prolog.

It exits with 0 within two seconds, whatever fails or hangs: slurmd drains a node whose Prolog fails.
"""

from __future__ import annotations

import os
import time

from .. import system_log
from ..errors import ARGUMENTS_WRONG, SYSTEM, HookError, LateError, describe_failure, kind_of, printable
from ..linux import disposable_process
from ..linux.fast_stdlib import TYPE_CHECKING
from ..linux.process import MAX_ID
from ..log import ERROR, log, one_line
from ..node import job_doors, job_record
from .hosts import expand
from .scheduler import HET_JOB, slots_on

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping

DESCRIPTION = (
    "Record the job that begins on this node, so that its containers know their hosts and port, and have doors. For "
    "Slurm's Prolog, as root; always exits with 0."
)
EXAMPLE = "ssh_hook prolog"
FLAGS: dict[str, str] = {}
_WORK, _REPORT = 1.0, 0.5  # seconds; with the interpreter's start and a child that ends late these are less than 2
_MAX_CLUSTER = 64  # characters
_NODE_LISTS = "SLURM_JOB_NODELIST", "SLURM_NODELIST"  # Slurm 22.05 gives a Prolog only the latter


def run(_arguments: Namespace, settings: dict[str, str]) -> int:
    """Write the record, and make the directory; return 0."""
    return bounded(lambda: _record(settings), "the Prolog of", settings)


def bounded(work: Callable[[], None], whose: str, environment: Mapping[str, str]) -> int:
    """Run `work` in a process that is left behind when it is late; return 0.

    A failure is reported, which `whose` begins, for the job that the variables in `environment` name.
    """
    job = environment.get("SLURM_JOB_ID", "")
    what = f"{whose} {f'job {printable(job)}' if job else 'the job'}"

    def report() -> bytes:
        log(ERROR, failure, kind)
        fields = {"kind": kind, "job": job if job_record.is_number(job) else ""}
        system_log.send(system_log.ERROR, one_line(f"{failure} [{kind}]"), fields)
        return b""

    def answer() -> bytes:
        work()
        return b""

    try:
        disposable_process.run(answer, what, None, timeout=_WORK)
        return 0
    except LateError:
        kind, failure = SYSTEM, f"{what}: not done within {_WORK:.0f} s: /run hangs, or the node has too much to do"
    except Exception as error:
        said = describe_failure(error)
        kind, failure = kind_of(error), said if said.startswith(what) else f"{what}: {said}"
    try:
        disposable_process.run(report, what, None, (2,), _REPORT)  # the system's log may hang, too
    except Exception:
        pass  # there is nowhere to say it
    return 0


def require_root() -> None:
    """Raise HookError for others than root."""
    if os.geteuid() != 0:
        raise HookError(
            ARGUMENTS_WRONG, "only root writes the records of jobs: have slurmd call this, by its Prolog and Epilog"
        )


def _record(environment: Mapping[str, str]) -> None:
    require_root()
    number = job_number(environment)
    uid = job_user(environment)
    leader = job_record.checked_number(environment.get(HET_JOB) or str(number), HET_JOB)
    cluster = environment.get("SLURM_CLUSTER_NAME", "")
    named = cluster if cluster.isprintable() and len(cluster) <= _MAX_CLUSTER else ""
    slots = slots_on(_hosts(environment), environment)
    record = job_record.JobRecord(uid, named, slots, int(time.time()), leader)
    job_record.write(number, record)
    if uid:
        job_doors.make(uid)


def _hosts(environment: Mapping[str, str]) -> list[str]:
    """Return the hosts of the whole job. Raises HookError where these are not known."""
    name = next(filter(environment.get, _NODE_LISTS), None)
    if name is None:
        raise HookError(ARGUMENTS_WRONG, f"{_NODE_LISTS[0]} is not set: have slurmd call this, by its Prolog")
    hosts = expand(environment[name], name)
    nodes = environment.get("SLURM_JOB_NUM_NODES")  # newer versions of Slurm have it
    if nodes and nodes != str(len(hosts)):
        raise HookError(
            ARGUMENTS_WRONG,
            f"{name} names {len(hosts)} of the job's {printable(nodes)} nodes, as for a step: set PrologFlags=Alloc or "
            "PrologFlags=Contain in slurm.conf",
        )
    return hosts


def job_number(environment: Mapping[str, str]) -> int:
    """Return the number of Slurm's job. Raises HookError."""
    return job_record.checked_number(environment.get("SLURM_JOB_ID", ""), "SLURM_JOB_ID")


def job_user(environment: Mapping[str, str]) -> int:
    """Return the uid of the job's user. Raises HookError."""
    uid = job_record.checked_number(environment.get("SLURM_JOB_UID", ""), "SLURM_JOB_UID")
    if uid > MAX_ID:
        raise HookError(ARGUMENTS_WRONG, f"SLURM_JOB_UID is {uid}, which is no user's")
    return uid
