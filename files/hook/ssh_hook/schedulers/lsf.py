# SPDX-License-Identifier: GPL-3.0-or-later
"""LSF: the job in the variables of a process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..errors import ARGUMENTS_WRONG, HookError, printable
from ..linux.job_names import is_number
from ..linux.process import is_decimal
from .host_notation import add_up, expand, is_count, read_slots, required

JOB = "LSB_JOBID"
_HOSTS, _FILE = "LSB_MCPU_HOSTS", "LSB_DJOB_HOSTFILE"


def number(environment: Mapping[str, str]) -> int:
    """Return the job's number. Tasks of an array may run at the same time, so the index is added. Raises HookError."""
    if not is_number(environment[JOB]):
        raise HookError(ARGUMENTS_WRONG, f"{JOB} is '{printable(environment[JOB])}', not a job ID")
    index = environment.get("LSB_JOBINDEX", "")  # 0 outside arrays
    return int(environment[JOB]) + (int(index) if is_decimal(index, 9) else 0)


def slots(environment: Mapping[str, str]) -> dict[str, int]:
    """Read hosts and their numbers of processes from LSB_MCPU_HOSTS: ``hostA 4 hostB 2``.

    Otherwise LSB_DJOB_HOSTFILE is the path of a file, and LSB_HOSTS a list, with one host per process. Raises
    HookError.
    """
    if environment.get(_HOSTS, "").strip():
        return add_up(_pairs(environment[_HOSTS].split()))
    if environment.get(_FILE):
        return add_up(read_slots(environment[_FILE], _FILE))
    words = (environment.get("LSB_HOSTS") or required(environment, _HOSTS)).split()
    if not words:
        raise HookError(ARGUMENTS_WRONG, "the scheduler's variables list no host: give the hosts with --hosts")
    return add_up((host, None) for word in words for host in expand(word, "LSB_HOSTS"))


def _pairs(words: list[str]) -> Iterator[tuple[str, int]]:
    """Yield the slots of hosts from ``hostA 4 hostB 2``. Raises HookError."""
    if len(words) % 2:
        raise HookError(
            ARGUMENTS_WRONG, f"{_HOSTS} ends with the host '{printable(words[-1])}', without a number of processes"
        )
    for name, count in zip(words[::2], words[1::2]):
        if not is_count(count):
            raise HookError(ARGUMENTS_WRONG, f"{_HOSTS} has '{printable(count)}', not a number of processes")
        for host in expand(name, _HOSTS):
            yield host, int(count)
