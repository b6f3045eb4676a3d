# SPDX-License-Identifier: GPL-3.0-or-later
"""PBS: the job in the variables of a process, or in those that a hook of PBS sets.

PBS's MoM passes its hooks a job object instead of variables. The script in docs/schedulers.md sets: PBS_JOBID;
PBS_JOB_UID, the uid of the job's user; PBS_EXEC_HOST2 and PBS_SCHEDSELECT, the job attributes of these names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import ARGUMENTS_WRONG, HookError, printable
from ..linux.job_names import is_pbs, number_of
from ..oci import host_list
from .host_notation import add_up, is_count, read_slots, required, whole_nodes

JOB = "PBS_JOBID"
# With or without its server. A task of an array is 1234[7], and before PBS 10 or in Torque 1234-7.
_JOB = re.compile(r"([0-9]{1,18})(?:\[([0-9]{0,9})\]|-([0-9]{1,9}))?(?:\..*)?")
_EXEC_HOST = "PBS_EXEC_HOST2"  # the MoM has no exec_host
_CHUNK = re.compile(r"([^:/+]+)(?::[0-9]+)?/[0-9]+(?:\*([0-9]{1,6}))?")  # node1:15002/0*8 has 8 CPUs, node1/0 has one
_NUMBER = re.compile(r"[0-9]{1,6}")


def number(environment: Mapping[str, str]) -> int:
    """Return the job's number. Tasks of an array may run at the same time, so the index is added. Raises HookError."""
    found = _JOB.fullmatch(environment[JOB])
    if found is None:
        raise HookError(ARGUMENTS_WRONG, f"{JOB} is '{printable(environment[JOB])}', not a job ID")
    return int(found.group(1)) + int(found.group(2) or found.group(3) or 0)


def slots(environment: Mapping[str, str]) -> dict[str, int]:
    """Return hosts and slots from PBS_NODEFILE, which lists a host once per process. Raises HookError.

    NCPUS has the job's CPUs on this host.
    """
    listed = add_up(read_slots(required(environment, "PBS_NODEFILE"), "PBS_NODEFILE"))
    cpus = environment.get("NCPUS", "")
    return whole_nodes(listed, lambda: dict.fromkeys(listed, int(cpus)) if is_count(cpus) else {})


def checked_name(name: str) -> str:
    """Return the name of the job that begins or ends on this node. Raises HookError."""
    if not is_pbs(name):
        raise HookError(ARGUMENTS_WRONG, f"{JOB} is '{printable(name)}', not a job ID such as 1234.server")
    return name


def begun(name: str, environment: Mapping[str, str]) -> tuple[str, dict[str, int], int]:
    """Return the server of the job `name`, its hosts with slots, and its number. Raises HookError.

    A host's slots equal its lines in PBS_NODEFILE: ``mpiprocs`` of each chunk, by default one.
    """
    chunks = _chunks(environment)
    processes = _processes(environment.get("PBS_SCHEDSELECT", ""), len(chunks))
    if len(processes) != len(chunks):  # a chunk spans several hosts, or the job has released one
        processes = [1] * len(chunks)
    each = zip([host for host, _cpus in chunks], processes)
    slots = whole_nodes(_within_limits(add_up(each)), lambda: _within_limits(add_up(chunks)))
    return name.partition(".")[2], slots, number_of(name)


def _within_limits(slots: dict[str, int]) -> dict[str, int]:
    return {host: min(max(count, 1), host_list.MAX_SLOTS) for host, count in slots.items()}


def _chunks(environment: Mapping[str, str]) -> list[tuple[str, int]]:
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


def _processes(select: str, chunks: int) -> list[int]:
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
