# SPDX-License-Identifier: GPL-3.0-or-later
"""The Slurm job step that a command runs in. When its tasks have exited, Slurm kills all processes in its cgroup.

So the supervisor lives only as long as a task: the command that started it keeps running. Users cannot leave the
cgroup.
"""

from __future__ import annotations

import os
import signal

from ...fast_stdlib import fsdecode
from ...linux.cgroups import job_and_step
from ...linux.process import Process


def foreign_step(process: Process) -> str:
    """Return the step that the caller is in, such as 1234.1; empty if there is none or `process` is in it too."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
            own = _step_of(file.read())
        return "" if own == _step_of(fsdecode(process.read("cgroup"))) else own
    except OSError:
        return ""  # the process has exited


def _step_of(cgroup: str) -> str:
    """Return the Slurm step in the content of /proc/PID/cgroup, such as 1234.1; empty if there is none."""
    job, step = job_and_step(cgroup.split("\n"))
    return f"{job}.{step}" if step else ""


def wait_for_supervisor(supervisor: int, step: str) -> int:
    """Wait for the child `supervisor`, forwarding signals that would end the caller; return its exit status."""

    def forward(*_: object) -> None:
        try:
            os.kill(supervisor, signal.SIGTERM)
        except ProcessLookupError:
            pass  # it has exited

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, forward)
    print(
        f"this command runs until the SSH daemon stops, since Slurm would kill the daemon at the end of step {step}",
        flush=True,
    )
    _pid, status = os.waitpid(supervisor, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1
