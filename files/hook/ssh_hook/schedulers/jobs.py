# SPDX-License-Identifier: GPL-3.0-or-later
"""The job that the caller is in, or that begins or ends on this node, from the variables of its scheduler."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Mapping

from ..errors import ARGUMENTS_WRONG, HookError
from ..fast_stdlib import fsdecode, read_file
from ..linux.cgroups import job_and_step
from ..linux.job_names import is_pbs, number_of
from ..linux.process import MAX_ID
from ..node import job_record
from ..node.job_record import JobRecord
from ..oci.settings import default_port, is_port_automatic, parse_port
from ..start.port import job_port
from . import lsf, pbs, slurm

_MAX_CLUSTER = 64  # characters


class CallersJob:
    """The job that the caller is in.

    Attributes:
        number: unique among running jobs; for a heterogeneous Slurm job, the leader's.
        slots: returns its hosts in order, from the variables, each with the number of processes that launchers start
            there. Raises HookError.
    """

    def __init__(self, number: int, slots: Callable[[Mapping[str, str]], dict[str, int]]) -> None:
        self.number = number
        self.slots = slots


def find_callers_job(environment: Mapping[str, str]) -> CallersJob | None:
    """Return the job described by the variables in `environment`; None outside a job. Raises HookError."""
    if environment.get(slurm.JOB):
        return CallersJob(slurm.number(environment), slurm.slots)
    if environment.get(pbs.JOB):
        return CallersJob(pbs.number(environment), pbs.slots)
    if environment.get(lsf.JOB):
        return CallersJob(lsf.number(environment), lsf.slots)
    return None


def selected_port(arguments: Namespace, settings: Mapping[str, str]) -> int:
    """Return the port of containers: from --port, or else `containers_port`. Raises HookError."""
    if arguments.port is None:
        return containers_port(settings)
    return parse_port(arguments.port, "--port", ARGUMENTS_WRONG)


def containers_port(settings: Mapping[str, str]) -> int:
    """Return the port of the caller's containers that do not choose one: the site's, or the job's.

    The job's port is for its first step and for containers outside steps. A PBS job has one only if it has a cgroup, by
    which containers find their job. Raises HookError.
    """
    if is_port_automatic(settings):
        if settings.get(slurm.JOB):
            return job_port(slurm.number(settings), 1)
        job, _step = job_and_step(fsdecode(read_file("/proc/self/cgroup")).split("\n"))
        if is_pbs(job):
            return job_port(number_of(job), 1)
    return default_port(settings)


def raw_name(environment: Mapping[str, str]) -> str:
    """Return the name of the job that begins or ends as the variables have it; empty if they have none."""
    return environment.get(pbs.JOB if _is_pbs(environment) else slurm.JOB, "")


def name_of(environment: Mapping[str, str]) -> str:
    """Return the name of the job that begins or ends. Raises HookError."""
    name = raw_name(environment)
    return pbs.checked_name(name) if _is_pbs(environment) else slurm.checked_name(name)


def user_of(environment: Mapping[str, str]) -> int:
    """Return the uid of the user of the job that begins or ends. Raises HookError."""
    name = "PBS_JOB_UID" if _is_pbs(environment) else "SLURM_JOB_UID"
    uid = job_record.checked_number(environment.get(name, ""), name)
    if uid > MAX_ID:
        raise HookError(ARGUMENTS_WRONG, f"{name} is {uid}, not the uid of a user")
    return uid


def record_of(environment: Mapping[str, str]) -> JobRecord:
    """Return the record of a job that is about to start. Raises HookError."""
    name, uid = name_of(environment), user_of(environment)
    cluster, slots, leader = (pbs if _is_pbs(environment) else slurm).begun(name, environment)
    if not cluster.isprintable() or len(cluster) > _MAX_CLUSTER:
        cluster = ""
    return JobRecord(uid, cluster, slots, int(time.time()), leader)


def _is_pbs(environment: Mapping[str, str]) -> bool:
    return bool(environment.get(pbs.JOB)) and not environment.get(slurm.JOB)
