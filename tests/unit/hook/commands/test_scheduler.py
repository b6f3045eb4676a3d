"""In which job and step of Slurm's a process is, by its cgroups."""

from __future__ import annotations

import pytest
from ssh_hook.commands.scheduler import step_of_cgroup


@pytest.mark.parametrize(
    ("cgroup", "step"),
    [
        ("9:freezer:/slurm/uid_2001/job_7/step_0\n1:name=systemd:/user.slice\n", "7.0"),
        ("9:memory:/slurm/uid_2001/job_7/step_12/task_3\n", "7.12"),
        ("0::/system.slice/slurmstepd.scope/job_1234/step_5/user/task_0\n", "1234.5"),
        ("0::/system.slice/node1_slurmstepd.scope/job_1234/step_5/user\n", "1234.5"),
        ("9:freezer:/slurm/uid_2001/job_7/step_batch\n", ""),
        ("9:freezer:/slurm/uid_2001/job_7/step_extern\n", ""),
        ("0::/system.slice/slurmstepd.scope/job_7/step_interactive/user/task_0\n", ""),
        ("0::/user.slice/job_7\n", ""),
        ("", ""),
    ],
)
def test_steps(cgroup: str, step: str) -> None:
    assert step_of_cgroup(cgroup) == step
