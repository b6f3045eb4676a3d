# SPDX-License-Identifier: GPL-3.0-or-later
"""The fields of the hook's messages in the system log: user, container and job.

Only a call that logs something looks for them. The sources are available even if a start fails at once: the uid that
may read the saved messages (last_messages.py), the cgroup, and the command line of podman's monitor.
"""

from __future__ import annotations

from ..errors import HookError
from ..fast_stdlib import fsdecode, read_file
from ..linux.cgroups import job_and_step
from ..log import log, one_line
from . import conmon, last_messages

_MAX_VALUE = 200  # characters


def fields() -> dict[str, str]:
    """Return the fields by name; an unknown value is empty."""
    identity, bundle = log.subject
    arguments, variables = conmon.find()
    found = {
        "user": log.user,
        "uid": _uid(bundle),
        "container": conmon.container_of(arguments)[1],
        "container_id": identity,
        "job": job(variables),
    }
    return {name: one_line(value)[:_MAX_VALUE] for name, value in found.items()}


def job(variables: dict[str, str]) -> str:
    """Return the scheduler's job: from the hook's cgroup, its environment, or else the monitor's `variables`."""
    return _job_of_cgroup() or conmon.job_by_variables(variables)


def _job_of_cgroup() -> str:
    try:
        number, _step = job_and_step(fsdecode(read_file("/proc/self/cgroup")).split("\n"))
    except OSError:
        return ""
    return number


def _uid(bundle: str) -> str:
    try:
        return str(last_messages.concerned_uid(bundle))
    except (HookError, OSError):
        return ""
