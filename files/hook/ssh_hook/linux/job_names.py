# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of schedulers' jobs: a Slurm job number, or a PBS job identifier: 1234.server, or in an array 1234[5].server.

The job's cgroup and the file with root's record of the job have this name.
"""

from __future__ import annotations

from .process import is_decimal

_MAX_DIGITS = 18  # of a Slurm job number
_MAX_PBS_DIGITS = 12  # of a PBS job number: max_job_sequence_id
_MAX_LENGTH = 200


def is_number(text: str) -> bool:
    """Return whether `text` is a Slurm job number, in decimal digits."""
    return is_decimal(text, _MAX_DIGITS)


def is_pbs(name: str) -> bool:
    """Return whether `name` is the name of a PBS job."""
    identifier, _dot, server = name.partition(".")
    sequence, bracket, index = identifier.partition("[")
    return (
        len(name) <= _MAX_LENGTH
        and is_decimal(sequence, _MAX_PBS_DIGITS)
        and (not bracket or (index.endswith("]") and is_decimal(index[:-1], _MAX_PBS_DIGITS)))
        and server.isascii()
        and server.replace(".", "").replace("-", "").replace("_", "").isalnum()
    )


def is_name(text: str) -> bool:
    """Return whether `text` is the name of a job."""
    return is_number(text) or is_pbs(text)


def number_of(name: str) -> int:
    """Return the number from which the port of the job `name` is derived.

    Jobs of a PBS array may run at the same time, so the index is added.
    """
    sequence, _bracket, index = name.partition(".")[0].partition("[")
    return int(sequence) + int(index[:-1] or 0)
