# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook epilog``: free a job's record when it ends. A sweep then unmounts the directory of a user without a job.

Slurm's slurmd calls it in its Epilog, PBS's MoM in a hook.

It exits with 0 within two seconds, as ``ssh_hook prolog`` does.
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING
from ..node import job_record
from ..schedulers import jobs
from ..schedulers.node_call import bounded

if TYPE_CHECKING:
    from argparse import Namespace

DESCRIPTION = """Remove what 'ssh_hook prolog' recorded for a job. Slurm's Epilog or a PBS hook calls this, as root.
Always exits with 0."""
EXAMPLE = "ssh_hook epilog"
FLAGS: dict[str, str] = {}


def run(_arguments: Namespace, settings: dict[str, str]) -> int:
    """Free the record; return 0."""
    return bounded(lambda: job_record.remove(jobs.name_of(settings), jobs.user_of(settings)), "the Epilog of", settings)
