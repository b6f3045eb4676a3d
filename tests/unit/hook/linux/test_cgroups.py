"""The limits of cgroups, of both versions, nested."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ssh_hook.linux import cgroups
from ssh_hook.linux.cgroups import NO_LIMIT, Cgroups, job_and_step

OURS = "0::/system.slice/engine\n"
Make = Callable[..., Cgroups]


@pytest.fixture(name="made")
def fixture_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make the cgroups of a process whose /proc/PID/cgroup has `lines`, in hierarchies with these files."""

    def make(lines: str, files: dict[str, str], rootless: bool = False) -> Cgroups:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n", encoding="ascii")
        monkeypatch.setattr(cgroups, "_lines", lambda path, _fd: (OURS if path != "cgroup" else lines).splitlines())
        mounts = [("", "/", f"{tmp_path}/v2"), ("pids", "/", f"{tmp_path}/pids"), ("memory", "/", f"{tmp_path}/memory")]
        mounts.append(("cpu,memory", "/docker", f"{tmp_path}/both"))
        monkeypatch.setattr(cgroups, "_cgroup_mounts", lambda: mounts)
        for _number, controllers, path in (line.split(":") for line in lines.splitlines()):
            if not controllers:
                (tmp_path / f"v2{path}").mkdir(parents=True, exist_ok=True)
        return Cgroups(os.open("/proc/self", os.O_RDONLY), rootless)

    return make


@pytest.mark.parametrize(
    ("pids", "expected"),
    [
        ({"job": "200", "job/step": "max", "job/step/box": "300"}, 200),
        ({"job": "max", "job/step": "400", "job/step/box": "300"}, 300),
        ({"job": "max", "job/step": "max", "job/step/box": "max"}, NO_LIMIT),
        ({"job/step": "70"}, 70),  # the controller is not everywhere
        ({}, NO_LIMIT),
    ],
)
def test_least_of_nested_ones(made: Make, pids: dict[str, str], expected: int) -> None:
    made_ones = made("0::/job/step/box\n", {f"v2/{path}/pids.max": limit for path, limit in pids.items()})
    assert made_ones.limit("pids") == expected
    assert made_ones.limit("memory") == NO_LIMIT


def test_version_1(made: Make) -> None:
    files = {
        "pids/job/pids.max": "max",
        "pids/job/box/pids.max": "20",
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/job/memory.limit_in_bytes": "1000000",
        "memory/job/box/memory.limit_in_bytes": "9223372036854771712",
    }
    made_ones = made("3:memory:/job/box\n2:pids:/job/box\n1:name=systemd:/job/box\n", files)
    assert (made_ones.limit("pids"), made_ones.limit("memory")) == (20, 1000000)


def test_part_of_a_hierarchy(made: Make) -> None:
    """Which is all that a container sees that runs an engine; what is above cannot be read."""
    made_ones = made("3:cpu,memory:/docker/box\n2:pids:/elsewhere\n", {"both/box/memory.limit_in_bytes": "77"})
    assert (made_ones.limit("pids"), made_ones.limit("memory")) == (NO_LIMIT, 77)


@pytest.mark.parametrize(("rootless", "expected"), [(True, 50), (False, 60)])
def test_engine_that_may_not_move_its_daemon(made: Make, rootless: bool, expected: int) -> None:
    files = {"v2/system.slice/engine/pids.max": "50", "v2/box/pids.max": "60"}
    assert made("0::/box\n", files, rootless).limit("pids") == expected


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("9:freezer:/slurm/uid_2001/job_7/step_0\n1:name=systemd:/user.slice\n", ("7", "0")),
        ("9:memory:/slurm/uid_2001/job_7/step_12/task_3\n", ("7", "12")),
        ("9:freezer:/slurm_nid001/uid_2001/job_8/step_1/user/task_0/libpod-0a\n", ("8", "1")),
        ("0::/system.slice/slurmstepd.scope/job_1234/step_5/user/task_0\n", ("1234", "5")),
        ("0::/system.slice/node1_slurmstepd.scope/job_1234/step_5/user\n", ("1234", "5")),
        ("0::/system.slice/slurmstepd.scope/job_7/step_3+1/user/task_0\n", ("7", "3")),
        ("9:freezer:/slurm/uid_2001/job_7/step_batch\n", ("7", "")),
        ("9:freezer:/slurm/uid_2001/job_7/step_extern\n8:cpu:/slurm/uid_2001/job_7/step_3\n", ("7", "3")),
        ("0::/system.slice/slurmstepd.scope/job_7/step_interactive/user/task_0\n", ("7", "")),
        ("0::/system.slice/slurmstepd.scope/job_7\n", ("7", "")),
        # What a user makes below the job's own cgroup does not count.
        ("0::/system.slice/slurmstepd.scope/job_7/step_0/user/slurmstepd.scope/job_8/step_1\n", ("7", "0")),
        ("0::/user.slice/job_7\n", ("", "")),
        ("0::/user.slice/job_7/step_0\n", ("", "")),
        ("0::/system.slice/slurmstepd.scope/job_7x/step_0\n", ("", "")),
        ("0::/system.slice/slurmstepd.scope/job_\n", ("", "")),
        ("0::/system.slice/slurmstepd.scope/job_\u0667\n", ("", "")),
        (f"0::/system.slice/slurmstepd.scope/job_{'9' * 19}\n", ("", "")),
        ("", ("", "")),
    ],
)
def test_job_and_step_of_slurm(cgroup: str, expected: tuple[str, str]) -> None:
    assert job_and_step(cgroup.split("\n")) == expected


@pytest.mark.parametrize(
    ("cgroup", "job"),
    [
        ("9:memory:/pbs_jobs.service/jobid/1234.server\n1:name=systemd:/user.slice\n", "1234.server"),
        ("9:cpuset:/pbs_jobs.service/jobid/1234[5].pbs-1.example.org/libpod-0a\n0::/\n", "1234[5].pbs-1.example.org"),
        ("9:memory:/docker/box/pbspro.service/jobid/7.a\n", "7.a"),
        # What a user makes below the job's own cgroup does not count.
        ("9:memory:/pbs_jobs.service/jobid/7.a/x.service/jobid/8.a\n", "7.a"),
        ("9:memory:/user.slice/jobid/7.a\n", ""),
        ("9:memory:/pbs_jobs.service/jobid\n", ""),
        ("9:memory:/pbs_jobs.service/jobid/7\n", ""),
        ("9:memory:/pbs_jobs.service/jobid/7.\n", ""),
        ("9:memory:/pbs_jobs.service/jobid/.a\n", ""),
        ("9:memory:/pbs_jobs.service/jobid/7[].a\n", ""),
        ("9:memory:/pbs_jobs.service/jobid/7[1.a\n", ""),
        ("9:memory:/pbs_jobs.service/jobid/7.a b\n", ""),
        ("9:memory:/pbs_jobs.service/jobid/\u0667.a\n", ""),
        (f"9:memory:/pbs_jobs.service/jobid/{'7' * 13}.a\n", ""),
        (f"9:memory:/pbs_jobs.service/jobid/7.{'a' * 200}\n", ""),
    ],
)
def test_job_of_pbs(cgroup: str, job: str) -> None:
    assert job_and_step(cgroup.split("\n")) == (job, "")


@given(st.text(alphabet="/job_step.7uid\n:slurmd\u0667[]", max_size=80))
@example("1:a:/.service/jobid/7[7].m")
def test_any_cgroup_gives_names_or_nothing(text: str) -> None:
    """Names that a file may have, and no others."""
    job, step = job_and_step(text.split("\n"))
    assert re.fullmatch(r"([0-9]+(\[[0-9]+\])?\.[a-z0-9._-]+|[0-9]*)", job, re.ASCII)
    assert re.fullmatch("[0-9]*", step, re.ASCII)
    assert job or not step


def test_the_job_is_the_containers_or_else_the_engines(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd may start a container in a scope of the user's, outside of the job in which its engine runs."""
    job = "0::/system.slice/slurmstepd.scope/job_7/step_1/user/task_0\n"
    assert made("0::/user.slice/libpod\n", {}).job == ("", "")
    assert made(job, {}).job == ("7", "1")
    monkeypatch.setattr(f"{__name__}.OURS", job.replace("job_7", "job_9"))
    assert made("0::/user.slice/libpod\n", {}).job == ("9", "1")
    assert made(job, {}).job == ("7", "1")
