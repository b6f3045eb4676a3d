# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of a container's SSH server: which one, and how users choose it.

Whether it is free is checked later, in the container's network namespace (port_check.py).
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING
from ..oci.annotations import PORT

if TYPE_CHECKING:
    from ..oci.annotations import Annotations
    from ..oci.settings import Settings
    from .job_hosts import Job

PORT_OPTION = f"the annotation {PORT} or --port of 'ssh_hook options'"  # how users choose the port
_FIRST_PORT = 20000
PORTS_OF_JOBS = range(_FIRST_PORT, 30000)  # below the ephemeral ports, which start at 32768
_STEP = 1103  # a prime, so that steps of one job, and successive jobs, have different ports


def choose_port(annotations: Annotations, settings: Settings, job: Job) -> tuple[int, str]:
    """Return the port to listen on, NO_PORT for none, and its job for messages, such as " of job 1234".

    The latter is empty if the port is not derived from the container's `job`. The user's annotation precedes the site's
    setting, and each of them may ask for the port of the job.
    """
    chooses_none = annotations.port is None and settings.has_automatic_port
    if job.name and (annotations.has_automatic_port or chooses_none):
        return job_port(job.leader, job.step + 1), f" of job {job.name}"
    return settings.port if annotations.port is None else annotations.port, ""


def job_port(job: int, number: int) -> int:
    """Return a port of the job with the number `job`: the first is for its containers, and its step 0.

    Step N has port number N + 1, and set N of `ssh_hook options` has port number N. Nodes agree on it without
    communication; it may be in use.
    """
    return _FIRST_PORT + (job + _STEP * (number - 1)) % len(PORTS_OF_JOBS)
