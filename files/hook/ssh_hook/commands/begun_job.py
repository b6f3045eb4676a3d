# SPDX-License-Identifier: GPL-3.0-or-later
"""The job that begins or ends on this node, from the variables of Slurm's Prolog and Epilog, or of a PBS hook.

PBS's MoM passes its hooks a job object instead of variables. The script in docs/schedulers.md sets: PBS_JOBID;
PBS_JOB_UID, the uid of the job's user; PBS_EXEC_HOST2 and PBS_SCHEDSELECT, the job attributes of these names.
"""

from __future__ import annotations

import re
import time

from ..errors import ARGUMENTS_WRONG, HookError, printable
from ..linux.fast_stdlib import TYPE_CHECKING
from ..linux.job_names import is_pbs, number_of
from ..linux.process import MAX_ID
from ..node import job_record
from ..node.job_record import JobRecord
from ..oci import host_list
from .hosts import expand
from .scheduler import HET_JOB, slots_on

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_CLUSTER = 64  # characters
_NODE_LISTS = "SLURM_JOB_NODELIST", "SLURM_NODELIST"  # Slurm 22.05 gives a Prolog only the latter
_EXEC_HOST = "PBS_EXEC_HOST2"  # the MoM has no exec_host
_CHUNK = re.compile(r"([^:/+]+)(?::[0-9]+)?/[0-9]+(?:\*([0-9]{1,6}))?")  # node1:15002/0*8 has 8 CPUs, node1/0 has one
_NUMBER = re.compile(r"[0-9]{1,6}")


def raw_name(environment: Mapping[str, str]) -> str:
    """Return the job's name as the variables have it, unchecked; empty if they have none."""
    return environment.get(_variable(environment), "")


def name_of(environment: Mapping[str, str]) -> str:
    """Return the job's name. Raises HookError."""
    name = raw_name(environment)
    if not _is_pbs(environment):
        job_record.checked_number(name, _variable(environment))
    elif not is_pbs(name):
        raise HookError(ARGUMENTS_WRONG, f"PBS_JOBID is '{printable(name)}', not a job ID such as 1234.server")
    return name


def user_of(environment: Mapping[str, str]) -> int:
    """Return the uid of the job's user. Raises HookError."""
    name = "PBS_JOB_UID" if _is_pbs(environment) else "SLURM_JOB_UID"
    uid = job_record.checked_number(environment.get(name, ""), name)
    if uid > MAX_ID:
        raise HookError(ARGUMENTS_WRONG, f"{name} is {uid}, not the uid of a user")
    return uid


def record_of(environment: Mapping[str, str]) -> JobRecord:
    """Return the record of a job that is about to start. Raises HookError."""
    name, uid, now = name_of(environment), user_of(environment), int(time.time())
    if _is_pbs(environment):
        return JobRecord(uid, _checked_cluster(name.partition(".")[2]), _pbs_slots(environment), now, number_of(name))
    leader = job_record.checked_number(environment.get(HET_JOB) or name, HET_JOB)
    slots = slots_on(_slurm_hosts(environment), environment)
    return JobRecord(uid, _checked_cluster(environment.get("SLURM_CLUSTER_NAME", "")), slots, now, leader)


def _is_pbs(environment: Mapping[str, str]) -> bool:
    return _variable(environment) == "PBS_JOBID"


def _variable(environment: Mapping[str, str]) -> str:
    """Return the name of the variable that names the job."""
    return "PBS_JOBID" if environment.get("PBS_JOBID") and not environment.get("SLURM_JOB_ID") else "SLURM_JOB_ID"


def _checked_cluster(name: str) -> str:
    return name if name.isprintable() and len(name) <= _MAX_CLUSTER else ""


def _slurm_hosts(environment: Mapping[str, str]) -> list[str]:
    """Return the hosts of the whole job. Raises HookError if they are unknown."""
    name = next(filter(environment.get, _NODE_LISTS), None)
    if name is None:
        raise HookError(ARGUMENTS_WRONG, f"{_NODE_LISTS[0]} is not set: slurmd must call this, as its Prolog")
    hosts = expand(environment[name], name)
    nodes = environment.get("SLURM_JOB_NUM_NODES")  # newer versions of Slurm set it
    if nodes and nodes != str(len(hosts)):
        raise HookError(
            ARGUMENTS_WRONG,
            f"{name} lists {len(hosts)} of the job's {printable(nodes)} nodes, as if for a single step: set "
            "PrologFlags=Alloc or "
            "PrologFlags=Contain in slurm.conf",
        )
    return hosts


def _pbs_slots(environment: Mapping[str, str]) -> dict[str, int]:
    """Return the hosts in order, each with the number of processes that launchers start on it. Raises HookError.

    It equals the host's lines in PBS_NODEFILE: ``mpiprocs`` of each chunk, by default one. If every host has one
    process, the number of its CPUs is used.
    """
    chunks = _pbs_chunks(environment)
    processes = _pbs_processes(environment.get("PBS_SCHEDSELECT", ""), len(chunks))
    if len(processes) != len(chunks):  # a chunk spans several hosts, or the job has released one
        processes = [1] * len(chunks)
    slots = _add_up([(host, count) for (host, _cpus), count in zip(chunks, processes)])
    return slots if max(slots.values()) > 1 else _add_up(chunks)


def _pbs_chunks(environment: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return the host and CPUs of each chunk of the job. Raises HookError."""
    chunks = []
    for item in environment.get(_EXEC_HOST, "").split("+"):
        found = _CHUNK.fullmatch(item)
        if found is None or not host_list.is_name(found.group(1)):
            raise HookError(
                ARGUMENTS_WRONG,
                f"{_EXEC_HOST} has '{printable(item)}', not a chunk of a job such as node1:15002/0*8",
            )
        chunks.append((found.group(1), int(found.group(2) or 1)))
    return chunks


def _pbs_processes(select: str, chunks: int) -> list[int]:
    """Return the processes of each requested chunk, but of at most `chunks` + 1."""
    processes: list[int] = []
    for item in select.split("+"):
        count, _colon, resources = item.partition(":")
        repeated, wanted = (int(count), resources) if _NUMBER.fullmatch(count) else (1, item)
        named = dict(resource.split("=", 1) for resource in wanted.split(":") if "=" in resource)
        each = named.get("mpiprocs", "1")
        missing = chunks + 1 - len(processes)  # a user may request any number
        processes += [int(each) if _NUMBER.fullmatch(each) else 1] * min(repeated, missing)
    return processes


def _add_up(counts: list[tuple[str, int]]) -> dict[str, int]:
    """Return the sum for each host, at least one and at most the limit of a host list."""
    sums: dict[str, int] = {}
    for host, count in counts:
        sums[host] = sums.get(host, 0) + count
    return {host: min(max(count, 1), host_list.MAX_SLOTS) for host, count in sums.items()}
