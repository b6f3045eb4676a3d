"""What slurmd does for jobs of alice's: it calls `ssh_hook prolog` and `epilog` as root."""

from __future__ import annotations

from pathlib import Path

from containers import ALICE, LAUNCHER, Result, run

DOORS = Path("/run/ocihooks-ssh/users", str(ALICE))  # alice's directory, while she has jobs


def call(command: str, job: int, **variables: str) -> Result:
    """Call `ssh_hook prolog` or `epilog` for a job on three nodes."""
    slurm = {"SLURM_JOB_ID": str(job), "SLURM_JOB_UID": str(ALICE), "SLURM_JOB_NODELIST": "127.0.0.1,nid[001-002]"}
    words = [f"{name}={value}" for name, value in {**slurm, **variables}.items()]
    return run(["env", "-i", *words, LAUNCHER, command])
