# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of schedulers' jobs: a number of Slurm's, or an identifier of PBS's, 1234.server, in an array 1234[5].server.

A job's cgroup has its name, and root's record of the job is a file of that name.
"""

from __future__ import annotations

from .process import is_decimal

_MAX_DIGITS = 18  # of Slurm's number
_MAX_PBS_DIGITS = 12  # of a PBS server's numbers: max_job_sequence_id
_MAX_LENGTH = 200


def is_number(text: str) -> bool:
    """Tell whether `text` is a number as Slurm's jobs have them, in decimal digits."""
    return is_decimal(text, _MAX_DIGITS)


def is_pbs(name: str) -> bool:
    """Tell whether `name` is that of a job of PBS's."""
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
    """Tell whether `text` is the name of a job."""
    return is_number(text) or is_pbs(text)


def number_of(name: str) -> int:
    """Return the number by which the port of the job `name` is chosen.

    Jobs of an array of PBS's run at the same time: the index is added.
    """
    sequence, _bracket, index = name.partition(".")[0].partition("[")
    return int(sequence) + int(index[:-1] or 0)
