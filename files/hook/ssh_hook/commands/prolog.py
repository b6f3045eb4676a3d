# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook prolog``: record the job that starts on this node, and create its user's directory for doors.

It is called as root: by Slurm's slurmd in its Prolog, or by PBS's MoM in a hook.

It exits with 0 within two seconds, whatever fails or hangs: slurmd drains a node whose Prolog fails.
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING
from ..node import job_place, job_record
from ..schedulers import jobs
from ..schedulers.node_call import bounded

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

DESCRIPTION = """Record the job that starts on this node. Its containers then get the list of hosts, the port, and a
socket on the node through which their user logs in without a key. Slurm's Prolog or a PBS hook calls this, as root.
Always exits with 0."""
EXAMPLE = "ssh_hook prolog"
FLAGS: dict[str, str] = {}


def run(_arguments: Namespace, settings: dict[str, str]) -> int:
    """Write the record, and create the directory; return 0."""
    return bounded(lambda: _record(settings), "the Prolog of", settings)


def _record(environment: Mapping[str, str]) -> None:
    record = jobs.record_of(environment)
    try:
        job_record.write(jobs.name_of(environment), record)
    finally:  # also for a job without a record
        if record.uid:
            job_place.make(record.uid)
