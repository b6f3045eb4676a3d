# SPDX-License-Identifier: GPL-3.0-or-later
"""The job that the caller is in, from the variables of its scheduler: Slurm, PBS or LSF."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping

from ..errors import ARGUMENTS_WRONG, HookError, printable
from ..linux.cgroups import job_and_step
from ..linux.fast_stdlib import fsdecode, read_file
from ..linux.job_names import is_pbs, number_of
from ..linux.process import is_decimal
from ..node.monitor import JOB_VARIABLES
from ..oci.settings import default_port, is_port_automatic, parse_port
from ..start.server import job_port
from .hosts import expand, read_slots

HET_JOB = "SLURM_HET_JOB_ID"  # the leader's number, set in each component of a heterogeneous job
_SLURM, _PBS, _LSF = JOB_VARIABLES
_COUNTS = re.compile(r"([0-9]{1,9})(?:\(x([0-9]{1,6})\))?")  # in Slurm's notation "72(x2),36" is 72, 72, 36
_JOB = re.compile(r"([0-9]{1,18})(?:\[([0-9]{0,9})\]|-([0-9]{1,9}))?(?=\.|$)")
_INDEX = re.compile(r"[0-9]{1,9}")
_GPUS = re.compile(r"[0-9]{1,4}")


class CallersJob:
    """The scheduler's job that the caller is in.

    Attributes:
        number: unique among running jobs; for a heterogeneous Slurm job, the leader's.
    """

    def __init__(self, number: int, read: Callable[[Mapping[str, str]], dict[str, int]]) -> None:
        """`read` reads the job's slots from environment variables."""
        self.number = number
        self._read = read

    def slots(self, environment: Mapping[str, str]) -> dict[str, int]:
        """Return the hosts in order, each with the number of processes that launchers start on it. Raises HookError."""
        slots = self._read(environment)
        if not slots:
            raise HookError(ARGUMENTS_WRONG, "the scheduler's variables list no host: give the hosts with --hosts")
        return slots


def find_callers_job(environment: Mapping[str, str]) -> CallersJob | None:
    """Return the job described by the variables in `environment`; None outside a job. Raises HookError."""
    if environment.get(_SLURM):
        return CallersJob(_slurm_number(environment), slurm_slots)
    if environment.get(_PBS):
        return CallersJob(_number(environment, _PBS), _pbs_slots)
    if environment.get(_LSF):
        index = environment.get("LSB_JOBINDEX", "")  # 0 outside arrays
        return CallersJob(_number(environment, _LSF) + (int(index) if _INDEX.fullmatch(index) else 0), _lsf_slots)
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
        if settings.get(_SLURM):
            return job_port(_slurm_number(settings), 1)
        job, _step = job_and_step(fsdecode(read_file("/proc/self/cgroup")).split("\n"))
        if is_pbs(job):
            return job_port(number_of(job), 1)
    return default_port(settings)


def _slurm_number(environment: Mapping[str, str]) -> int:
    """Return the job's number, or its leader's if it is heterogeneous. Raises HookError."""
    return _number(environment, HET_JOB if environment.get(HET_JOB) else _SLURM)


def _number(environment: Mapping[str, str], name: str) -> int:
    """Return the number of a job: ``1234``, or for PBS ``1234.server``.

    Array jobs, ``1234[7].server`` or ``1234-7.server``, may run at the same time, so the index is added.
    """
    found = _JOB.match(environment[name])
    if found is None:
        raise HookError(ARGUMENTS_WRONG, f"{name} is '{printable(environment[name])}', not a job ID")
    return int(found.group(1)) + int(found.group(2) or found.group(3) or 0)


def slurm_slots(environment: Mapping[str, str]) -> dict[str, int]:
    """Return hosts and slots from the variables of the job, not of a step: containers are part of the whole job.

    Raises HookError.
    """
    return slots_on(expand(_value(environment, "SLURM_JOB_NODELIST"), "SLURM_JOB_NODELIST"), environment)


def slots_on(hosts: list[str], environment: Mapping[str, str]) -> dict[str, int]:
    """Return the slots of the hosts of a whole Slurm job, in order. Raises HookError.

    If a job has one task per node, to start one container each, the number of processes is that of its GPUs or else of
    its CPUs.
    """
    counts = _slurm_counts(environment, "SLURM_TASKS_PER_NODE", len(hosts)) or [1] * len(hosts)
    if max(counts) == 1:
        gpus = _gpus(environment)
        if gpus > 0:
            counts = [gpus] * len(hosts)
        else:
            counts = _slurm_counts(environment, "SLURM_JOB_CPUS_PER_NODE", len(hosts)) or counts
    return dict(zip(hosts, counts))


def _gpus(environment: Mapping[str, str]) -> int:
    """Return the number of the job's GPUs on this node; 0 if unknown. A Prolog gets a list instead of a count."""
    count = environment.get("SLURM_GPUS_ON_NODE", "")
    if _GPUS.fullmatch(count):
        return int(count)
    return len(list(filter(None, environment.get("SLURM_JOB_GPUS", "").split(","))))


def _slurm_counts(environment: Mapping[str, str], name: str, hosts: int) -> list[int]:
    """Return the count of each host; empty if the variable is not set. Raises HookError."""
    text = environment.get(name, "")
    counts: list[int] = []
    for item in text.split(",") if text else []:
        found = _COUNTS.fullmatch(item)
        repeated = int(found.group(2) or 1) if found else 0
        if found is None or int(found.group(1)) == 0 or not 0 < repeated <= hosts - len(counts):
            raise HookError(ARGUMENTS_WRONG, f"{name} is '{printable(text)}', not a list of counts for {hosts} hosts")
        counts += [int(found.group(1))] * repeated
    if counts and len(counts) < hosts:
        raise HookError(ARGUMENTS_WRONG, f"{name} is '{printable(text)}', not a list of counts for {hosts} hosts")
    return counts


def _pbs_slots(environment: Mapping[str, str]) -> dict[str, int]:
    """Read PBS_NODEFILE, which lists a host once per process.

    If each host has one process, NCPUS is used instead: the job's CPUs on this host.
    """
    slots = _count(host for host, _slots in read_slots(_value(environment, "PBS_NODEFILE"), "PBS_NODEFILE"))
    cpus = environment.get("NCPUS", "")
    if max(slots.values()) == 1 and _is_count(cpus):
        slots = dict.fromkeys(slots, int(cpus))
    return slots


def _lsf_slots(environment: Mapping[str, str]) -> dict[str, int]:
    """Read hosts and their numbers of processes from LSB_MCPU_HOSTS: ``hostA 4 hostB 2``.

    Otherwise LSB_DJOB_HOSTFILE is the path of a file, and LSB_HOSTS a list, with one host per process.
    """
    if environment.get("LSB_MCPU_HOSTS"):
        return _lsf_pairs(environment["LSB_MCPU_HOSTS"].split())
    if environment.get("LSB_DJOB_HOSTFILE"):
        return _count(host for host, _slots in read_slots(environment["LSB_DJOB_HOSTFILE"], "LSB_DJOB_HOSTFILE"))
    words = (environment.get("LSB_HOSTS") or _value(environment, "LSB_MCPU_HOSTS")).split()
    return _count(host for word in words for host in expand(word, "LSB_HOSTS"))


def _lsf_pairs(words: list[str]) -> dict[str, int]:
    """Return the slots of hosts from ``hostA 4 hostB 2``. Raises HookError."""
    if len(words) % 2:
        raise HookError(
            ARGUMENTS_WRONG,
            f"LSB_MCPU_HOSTS ends with the host '{printable(words[-1])}', without a number of processes",
        )
    slots: dict[str, int] = {}
    for name, count in zip(words[::2], words[1::2]):
        if not _is_count(count):
            raise HookError(ARGUMENTS_WRONG, f"LSB_MCPU_HOSTS has '{printable(count)}', not a number of processes")
        for host in expand(name, "LSB_MCPU_HOSTS"):
            slots[host] = slots.get(host, 0) + int(count)
    return slots


def _count(hosts: Iterable[str]) -> dict[str, int]:
    """Return how often each host is listed, in order of first appearance."""
    slots: dict[str, int] = {}
    for host in hosts:
        slots[host] = slots.get(host, 0) + 1
    return slots


def _is_count(text: str) -> bool:
    return is_decimal(text, 5) and int(text) > 0


def _value(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise HookError(ARGUMENTS_WRONG, f"{name} is not set: give the hosts with --hosts")
    return value
