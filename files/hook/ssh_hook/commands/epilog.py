# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook epilog``: remove the record of the job that ends on this node, and with the last job of its user's there
the directory for doors. Slurm's slurmd calls it, by its Epilog, or PBS's mom, by a hook.

It exits with 0 within two seconds, as ``ssh_hook prolog`` does.
"""

from __future__ import annotations

from ..linux.fast_stdlib import TYPE_CHECKING
from ..node import job_doors, job_record
from . import begun_job
from .prolog import bounded, require_root

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

DESCRIPTION = """Remove what 'ssh_hook prolog' recorded for a job. Slurm's Epilog or a PBS hook calls this, as root.
Always exits with 0."""
EXAMPLE = "ssh_hook epilog"
FLAGS: dict[str, str] = {}


def run(_arguments: Namespace, settings: dict[str, str]) -> int:
    """Remove the record, and the directory; return 0."""
    return bounded(lambda: _remove(settings), "the Epilog of", settings)


def _remove(environment: Mapping[str, str]) -> None:
    require_root()
    job_record.remove(begun_job.name_of(environment))  # also where the user is not known
    job_doors.leave(begun_job.user_of(environment))
