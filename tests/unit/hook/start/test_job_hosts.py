"""Which job a container is of, and what it is told of that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.errors import NOT_TRUSTED, HookError
from ssh_hook.log import WARNING
from ssh_hook.node import job_record
from ssh_hook.node.job_record import JobRecord
from ssh_hook.oci.settings import NO_PORT
from ssh_hook.start import job_hosts as module
from ssh_hook.start.job_hosts import find_job

HOSTS = {"nid001": 4, "nid002": 4}
RECORD = JobRecord(2001, "alps", HOSTS, 1764390000, 1230)


def cgroups(number: str = "1234", step: str = "1") -> Any:
    return SimpleNamespace(job=(number, step))


def annotations(*hosts: tuple[str, int], port: int | None = None) -> Any:
    return SimpleNamespace(hosts=list(hosts), port=port)


@pytest.fixture(name="known")
def fixture_known(monkeypatch: pytest.MonkeyPatch) -> dict[str, JobRecord]:
    """The records of jobs by their numbers."""
    known = {"1234": RECORD}

    def read(number: str, uid: int, _is_rootless: bool) -> JobRecord | None:
        return known.get(number) if uid == RECORD.uid else None

    monkeypatch.setattr(job_record, "read", read)
    monkeypatch.setattr(job_record, "is_anothers", lambda number, uid: number in known and uid != RECORD.uid)
    return known


def test_a_job_with_a_record(known: dict[str, JobRecord]) -> None:
    found = find_job(cgroups(), 2001, False, annotations())
    assert (found.name, found.step, found.leader) == ("1234", 1, 1230)
    assert found.hosts == [("nid001", 4), ("nid002", 4)]


def test_what_the_user_says_of_the_hosts_takes_precedence(known: dict[str, JobRecord]) -> None:
    found = find_job(cgroups(), 2001, False, annotations(("nid002", 1)))
    assert (found.leader, found.hosts) == (1230, [("nid002", 1)])


def test_a_container_without_a_port_has_no_hosts(known: dict[str, JobRecord]) -> None:
    found = find_job(cgroups(), 2001, False, annotations(port=NO_PORT))
    assert (found.name, found.hosts) == ("1234", [])
    assert found.variables["SLURM_JOB_NUM_NODES"] == "2"
    assert find_job(cgroups(), 2001, False, annotations(port=15263)).hosts != []


def test_without_a_record_the_number_alone_is_known(known: dict[str, JobRecord]) -> None:
    known.clear()
    found = find_job(cgroups(step=""), 2001, False, annotations())
    assert (found.name, found.step, found.leader, found.hosts) == ("1234", 0, 1234, [])


def test_a_job_of_another_user_is_none(known: dict[str, JobRecord]) -> None:
    found = find_job(cgroups(), 2002, False, annotations())
    assert (found.name, found.step, found.leader, found.hosts) == ("", 0, 0, [])
    found = find_job(cgroups(), 2002, True, annotations())  # who may not read root's
    assert (found.name, found.hosts) == ("1234", [])


def test_outside_of_jobs_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(job_record, "read")
    found = find_job(cgroups("", ""), 2001, False, annotations(("a", 1)))
    assert (found.name, found.leader, found.hosts) == ("", 0, [("a", 1)])


def test_a_record_that_is_not_roots_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, str, str]] = []

    def refuse(_number: str, _uid: int, _is_rootless: bool) -> None:
        raise HookError(NOT_TRUSTED, "it is not root's")

    monkeypatch.setattr(job_record, "read", refuse)
    monkeypatch.setattr(module, "log", lambda *message: said.append(message))
    found = find_job(cgroups(), 2001, False, annotations())
    assert (found.name, found.leader, found.hosts) == ("1234", 1234, [])
    assert said == [(WARNING, "it is not root's: the container does not know the hosts of its job", NOT_TRUSTED)]


def test_variables_of_the_job(known: dict[str, JobRecord]) -> None:
    assert find_job(cgroups(), 2001, False, annotations(("other", 1))).variables == {
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_UID": "2001",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "nid[001-002]",
        "SLURM_CLUSTER_NAME": "alps",
        "SLURM_HET_JOB_ID": "1230",
    }


def test_variables_that_are_not_known_are_left_out(known: dict[str, JobRecord]) -> None:
    known["1234"] = JobRecord(2001, "", {f"n{number}a": 1 for number in range(1, 32000, 2)}, 1764390000, 1234)
    assert find_job(cgroups(), 2001, False, annotations()).variables == {
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_UID": "2001",
        "SLURM_JOB_NUM_NODES": "16000",
    }
    known.clear()
    assert find_job(cgroups(), 2001, False, annotations()).variables == {"SLURM_JOB_ID": "1234"}
    assert find_job(cgroups("", ""), 2001, False, annotations()).variables == {}


def test_a_job_of_another_user_has_no_variables(known: dict[str, JobRecord]) -> None:
    assert find_job(cgroups(), 2002, False, annotations()).variables == {}


def test_a_job_of_pbs(known: dict[str, JobRecord]) -> None:
    """Tasks of an array run at once, and have ports of their own."""
    name = "1234[5].server"
    found = find_job(cgroups(name, ""), 2001, False, annotations())
    assert (found.name, found.step, found.leader, found.hosts) == (name, 0, 1239, [])
    known[name] = JobRecord(2001, "server", HOSTS, 1764390000, 1239)
    found = find_job(cgroups(name, ""), 2001, False, annotations())
    assert (found.name, found.leader, found.hosts) == (name, 1239, [("nid001", 4), ("nid002", 4)])
    assert found.variables == {"PBS_JOBID": name}
