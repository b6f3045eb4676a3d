# SPDX-License-Identifier: GPL-3.0-or-later
"""The step of a Slurm job in which a command runs. When its tasks have ended, Slurm kills all processes of its cgroup.

So a supervisor that is to stay needs a task that stays: the command that has started it. A user cannot leave the
cgroup.
"""

from __future__ import annotations

import os
import signal

from ...linux.cgroups import job_and_step
from ...linux.fast_stdlib import fsdecode
from ...linux.process import Process


def foreign_step(process: Process) -> str:
    """Return the step that the caller is in, such as 1234.1; empty without one, or where `process` is in it too."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
            own = _step_of(file.read())
        return "" if own == _step_of(fsdecode(process.read("cgroup"))) else own
    except OSError:
        return ""  # the process has ended


def _step_of(cgroup: str) -> str:
    """Return Slurm's step in the content of /proc/PID/cgroup, such as 1234.1; empty without one."""
    job, step = job_and_step(cgroup.split("\n"))
    return f"{job}.{step}" if step else ""


def stay_with(supervisor: int, step: str) -> int:
    """Wait for the end of the child `supervisor`, and pass on to it what would end the caller; return its status."""

    def pass_on(*_: object) -> None:
        try:
            os.kill(supervisor, signal.SIGTERM)
        except ProcessLookupError:
            pass  # it has ended

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, pass_on)
    print(
        f"this command runs until the SSH server ends, since Slurm would kill the server at the end of step {step}",
        flush=True,
    )
    _pid, status = os.waitpid(supervisor, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1
