"""What the entry of a daemon says of its container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.errors import SYSTEM, HookError
from ssh_hook.linux.cgroups import job_and_step
from ssh_hook.node import job_record
from ssh_hook.node.job_record import JobRecord
from ssh_hook.node.record import DESCRIPTION
from ssh_hook.oci.settings import NO_PORT
from ssh_hook.start.description import describe, engine_of

OWNER = 1000


@pytest.fixture(name="process")
def fixture_process() -> Iterator[int]:
    process = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    yield process
    os.close(process)


def described(process: int, **changes: Any) -> dict[str, str]:
    """Describe a container; `cgroup` is its path below Slurm's."""
    path = changes.pop("cgroup", "")
    lines = [f"0::/system.slice/slurmstepd.scope/{path}"]
    number, step = job_and_step(lines)
    container, engine = (
        dict(word.split("=", 1) for word in changes.pop(name, "").split()) for name in ("container", "engine")
    )
    basis: Any = SimpleNamespace(
        job=SimpleNamespace(name=number, record=changes.pop("record", None)),
        cgroups=SimpleNamespace(job=(number, step)),
        container=SimpleNamespace(environment=container),
        engine=SimpleNamespace(host_uid=0, is_rootless=False),
        owner=SimpleNamespace(file_owner=SimpleNamespace(uid=OWNER)),
        server=changes.pop("server", SimpleNamespace(port=15263, addresses=[])),
        process=process,
    )
    name, attached = changes.pop("name", "it"), changes.pop("attached", "")
    assert not changes
    return describe(basis, "podman", "0" * 64, name, engine, attached)


def test_each_field_has_a_value(process: int) -> None:
    found = described(process)
    assert tuple(found) == DESCRIPTION
    assert found["network"] == str(os.stat("/proc/self/ns/net").st_ino)
    assert (found["engine"], found["name"], found["ports"], found["owner"]) == ("podman", "it", "15263", "1000")


@pytest.mark.parametrize(
    ("port", "addresses", "expected"),
    [
        (15263, ["10.1.1.1", "fd00::1"], "[10.1.1.1]:15263 [fd00::1]:15263"),
        (NO_PORT, [], ""),
        (NO_PORT, ["10.1.1.1"], ""),
    ],
)
def test_ports(process: int, port: int, addresses: list[str], expected: str) -> None:
    server = SimpleNamespace(port=port, addresses=addresses)
    assert described(process, server=server)["ports"] == expected


def test_as_many_ports_as_dropbear_has(process: int) -> None:
    addresses = [f"fd00:1111:2222:3333:4444:5555:6666:{number}" for number in range(7000, 7010)]
    found = described(process, server=SimpleNamespace(port=15263, addresses=addresses))["ports"]
    assert found.split() == [f"[{address}]:15263" for address in addresses]


@pytest.mark.parametrize("name", ["a\nowner=0", "x" * 1000])
def test_no_value_makes_a_line_of_its_own_or_a_long_one(process: int, name: str) -> None:
    assert described(process, name=name)["name"] == ""


@pytest.mark.parametrize(
    ("variables", "cgroup", "expected"),
    [
        ("SLURM_JOB_ID=1239 SLURM_ARRAY_JOB_ID=1234 SLURM_ARRAY_TASK_ID=5", "", ("1239", "1234_5")),
        ("SLURM_JOB_ID=1239 SLURM_ARRAY_JOB_ID=1234 SLURM_ARRAY_TASK_ID=5", "1239", ("1239", "1234_5")),
        ("SLURM_JOB_ID=1239 SLURM_ARRAY_JOB_ID=1234 SLURM_ARRAY_TASK_ID=5", "77", ("77", "")),  # of another job
        ("SLURM_JOB_ID=1239 SLURM_ARRAY_JOB_ID=1234", "1239", ("1239", "")),
        ("PBS_JOBID=1234[7].server", "", ("1234[7].server", "")),
        ("", "1239", ("1239", "")),
    ],
)
@pytest.mark.parametrize("of", ["engine", "container"])
def test_task_of_an_array(process: int, of: str, variables: str, cgroup: str, expected: tuple[str, str]) -> None:
    path = f"job_{cgroup}/step_0" if cgroup else ""
    found = described(process, cgroup=path, **{of: variables})
    assert (found["job"], found["task"]) == expected


@pytest.mark.parametrize(
    ("variables", "cgroup", "expected"),
    [
        ("SLURM_JOB_ID=7 SLURM_STEP_ID=1", "", ("7", "1")),
        ("SLURM_JOB_ID=7 SLURM_STEP_ID=1", "job_8/step_2", ("8", "2")),
        ("SLURM_JOB_ID=7 SLURM_STEP_ID=1", "job_7/step_batch", ("7", "")),
        ("SLURM_JOB_ID=7 SLURM_STEP_ID=4294967290", "", ("7", "")),  # interactive
        ("SLURM_STEP_ID=1", "", ("", "")),
        ("SLURM_JOB_ID=7", "", ("7", "")),
    ],
)
def test_step_of_a_job(process: int, variables: str, cgroup: str, expected: tuple[str, str]) -> None:
    found = described(process, cgroup=cgroup, container=variables)
    assert (found["job"], found["step"]) == expected


def test_component_of_a_heterogeneous_job(process: int, monkeypatch: pytest.MonkeyPatch) -> None:
    record = JobRecord(OWNER, "alps", {"a": 1}, 0, 1234)
    found = described(process, cgroup="job_1236/step_0", record=record)
    assert (found["leader"], found["cluster"]) == ("1234", "alps")

    def read(number: str, uid: int, _is_rootless: bool) -> JobRecord | None:
        assert uid == OWNER
        if number == "1300":
            raise HookError(SYSTEM, "damaged")
        return record if number == "1236" else None

    monkeypatch.setattr(job_record, "read", read)
    leaders = {job: described(process, engine=f"SLURM_JOB_ID={job}")["leader"] for job in ("1236", "1300", "7", "x")}
    assert leaders == {"1236": "1234", "1300": "", "7": "", "x": ""}


@pytest.mark.parametrize(
    ("line", "expected"),
    [("0::/system.slice/docker-abc.scope", "docker"), ("4:pids:/docker/abc", "docker"), ("0::/user.slice", "")],
)
def test_the_engine(line: str, expected: str) -> None:
    cgroups: Any = SimpleNamespace(lines=[line])
    assert engine_of(False, "abc", cgroups) == expected
    assert engine_of(True, "abc", cgroups) == "podman"
    assert engine_of(False, "", cgroups) == ""


def test_rootless_docker_without_cgroups() -> None:
    """Where it may use no cgroups, its containers have those of its daemon: the bundle shows the engine."""
    identity = "17fc882f" * 8
    bundle = f"/run/user/1000/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/{identity}"
    cgroups: Any = SimpleNamespace(lines=["0::/user.slice"])
    assert engine_of(False, identity, cgroups, bundle) == "docker"
