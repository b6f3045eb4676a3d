"""Prolog and Epilog of a job: they record it and forget it, and never hold a node up. Mounts are the hook's tests'."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

import pytest
from patience import within
from ssh_hook import system_log
from ssh_hook.dispatch import dispatch
from ssh_hook.errors import ARGUMENTS_WRONG, SYSTEM, HookError
from ssh_hook.node import job_place, job_record, locks, places
from ssh_hook.schedulers import node_call, pbs

# What slurmd gives a Prolog.
SLURM = {
    "SLURM_JOB_ID": "1234",
    "SLURM_JOB_UID": "2001",
    "SLURM_JOB_NODELIST": "nid[001-002],login1",
    "SLURM_JOB_CPUS_PER_NODE": "72(x2),8",
    "SLURM_CLUSTER_NAME": "alps",
}

# What the hook of PBS in docs/schedulers.md gives.
PBS = {
    "PBS_JOBID": "1234.server",
    "PBS_JOB_UID": "2001",
    "PBS_EXEC_HOST2": "node1:15002/0*8+node2:15002/3*8",
    "PBS_SCHEDSELECT": "2:ncpus=8:mpiprocs=2",
}

LIMITS = {name: getattr(node_call, name) for name in ("_WORK", "_REPORT")}


@pytest.fixture(name="mounted", autouse=True)
def fixture_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file for each user for whom a directory was mounted, as a child does."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    monkeypatch.setattr(job_place, "make", lambda uid: (mounted / str(uid)).touch())
    monkeypatch.setattr(node_call, "_require_root", lambda: None)
    return mounted


def jobs(uid: int = 2001) -> list[str]:
    """Names of the user's jobs that are on record."""
    return sorted(job_record.name_in(text) for _path, text in places.entries(uid, False, places.JOBS))


def recorded(**variables: str) -> job_record.JobRecord:
    assert dispatch("prolog", [], {**SLURM, **variables}) == 0
    found = job_record.read(variables.get("SLURM_JOB_ID", "1234"), 2001, is_rootless=False)
    assert found is not None
    return found


def test_a_job_is_recorded_and_forgotten(capfd: pytest.CaptureFixture[str]) -> None:
    before = int(time.time())
    found = recorded()
    assert (found.uid, found.cluster, found.leader) == (2001, "alps", 1234)
    assert found.hosts == {"nid001": 72, "nid002": 72, "login1": 8}
    assert before <= found.start <= time.time()
    for _again in range(2):
        assert dispatch("epilog", [], SLURM) == 0
    assert jobs() == []
    assert capfd.readouterr() == ("", "")


def recorded_of_pbs(**variables: str) -> job_record.JobRecord:
    assert dispatch("prolog", [], {**PBS, **variables}) == 0
    found = job_record.read(variables.get("PBS_JOBID", "1234.server"), 2001, is_rootless=False)
    assert found is not None
    return found


def test_a_job_of_pbs_is_recorded_and_forgotten(mounted: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = int(time.time())
    found = recorded_of_pbs()
    assert (found.uid, found.cluster, found.leader) == (2001, "server", 1234)
    assert found.hosts == {"node1": 2, "node2": 2}
    assert before <= found.start <= time.time()
    assert recorded_of_pbs(PBS_JOBID="1234[7].server").leader == 1241
    assert jobs() == ["1234.server", "1234[7].server"]
    assert (mounted / "2001").exists()
    for job in ("1234.server", "1234[7].server"):
        assert dispatch("epilog", [], {"PBS_JOBID": job, "PBS_JOB_UID": "2001"}) == 0
    assert jobs() == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("chunks", "select", "hosts"),
    [
        ("node1/0*8+node2/0*8", "2:ncpus=8", {"node1": 8, "node2": 8}),
        ("node1/0", "1:ncpus=1", {"node1": 1}),
        ("node1/0+node1/1+node2/0", "3:ncpus=1", {"node1": 2, "node2": 1}),
        ("node1/0*2+node2/0*4", "ncpus=2:mpiprocs=2+1:ncpus=4:mpiprocs=1", {"node1": 2, "node2": 1}),
        ("node1/0*2+node1/1*0", "1:ncpus=2:mpiprocs=2+1:ncpus=0:mpiprocs=0", {"node1": 2}),
        ("node1/0*0", "1:ncpus=0:mpiprocs=0", {"node1": 1}),
        # Hosts that the job has given back.
        ("node1/0*4", "2:ncpus=4:mpiprocs=2", {"node1": 4}),
        ("node1/0*4+node2/0*4", "", {"node1": 4, "node2": 4}),
        ("node1/0*4", "1:ncpus=4:mpiprocs=x", {"node1": 4}),
        ("node1/0*200000", "1:ncpus=200000", {"node1": 65535}),
    ],
)
def test_processes_of_a_job_of_pbs(chunks: str, select: str, hosts: dict[str, int]) -> None:
    assert recorded_of_pbs(PBS_EXEC_HOST2=chunks, PBS_SCHEDSELECT=select).hosts == hosts


def test_a_job_of_pbs_that_asks_for_any_number_of_chunks_costs_no_memory() -> None:
    wanted = "+".join(["999999:ncpus=1"] * 60)
    assert pbs._processes(wanted, 2) == [1, 1, 1]


def test_components_of_a_heterogeneous_job_have_their_leader() -> None:
    assert recorded(SLURM_JOB_ID="1235", SLURM_HET_JOB_ID="1234").leader == 1234


def test_a_version_of_slurm_with_another_name_for_the_nodes() -> None:
    found = recorded(SLURM_JOB_NODELIST="", SLURM_NODELIST="nid[001-002],login1")
    assert list(found.hosts) == ["nid001", "nid002", "login1"]


def test_the_hosts_are_as_many_as_the_jobs_nodes() -> None:
    assert len(recorded(SLURM_JOB_NUM_NODES="3").hosts) == 3


def test_a_user_with_a_job_has_a_directory_for_doors(mounted: Path) -> None:
    """But root needs none."""
    for uid in ("2001", "2002", "0"):
        assert dispatch("prolog", [], {**SLURM, "SLURM_JOB_UID": uid}) == 0
        assert jobs(int(uid)) == ["1234"]
    assert sorted(path.name for path in mounted.iterdir()) == ["2001", "2002"]


def test_a_user_without_a_directory_for_doors_has_a_record(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_uid: int) -> None:
        raise HookError(SYSTEM, "cannot mount it")

    monkeypatch.setattr(job_place, "make", fail)
    assert recorded().uid == 2001
    assert capfd.readouterr().err == "ssh_hook: error: the Prolog of job 1234: cannot mount it [system]\n"


def test_a_process_of_the_user_that_has_the_lock_is_an_error_in_time(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    locked: Callable[[int, int], AbstractContextManager[None]],
) -> None:
    """As a start of another job that Slurm has suspended. Other users' jobs go on."""
    monkeypatch.setattr(locks, "_OF_A_PROLOG", 0.01)
    assert dispatch("prolog", [], {**SLURM, "SLURM_JOB_ID": "7"}) == 0
    with locked(2001, locks.CHANGES):
        assert dispatch("prolog", [], SLURM) == 0
        assert dispatch("epilog", [], {**SLURM, "SLURM_JOB_ID": "7"}) == 0
        assert dispatch("prolog", [], {**SLURM, "SLURM_JOB_UID": "2002"}) == 0
    assert (jobs(2001), jobs(2002)) == ([], ["1234"])
    (line,) = capfd.readouterr().err.splitlines()  # the Epilog needs no lock
    assert line.startswith("ssh_hook: error: the Prolog of job 1234: ")
    assert "has the lock of uid 2001" in line


def test_gpus_of_a_prolog() -> None:
    assert set(recorded(SLURM_JOB_GPUS="0,1,2,3").hosts.values()) == {4}


@pytest.mark.parametrize(
    ("called", "variables", "words"),
    [
        ("the job", {"SLURM_JOB_ID": ""}, "SLURM_JOB_ID is not set"),
        ("job ../../x", {"SLURM_JOB_ID": "../../x"}, "SLURM_JOB_ID is '../../x'"),
        ("job 1234", {"SLURM_JOB_UID": "alice"}, "SLURM_JOB_UID is 'alice'"),
        ("job 1234", {"SLURM_JOB_UID": "4294967295"}, "SLURM_JOB_UID is 4294967295, not the uid of a user"),
        ("job 1234", {"SLURM_HET_JOB_ID": "x"}, "SLURM_HET_JOB_ID is 'x'"),
        (
            "job 1234",
            {"SLURM_JOB_NODELIST": ""},
            "SLURM_JOB_NODELIST is not set: slurmd must call this, as its Prolog [",
        ),
        (
            "job 1234",
            {"SLURM_JOB_NODELIST": "nid001", "SLURM_JOB_NUM_NODES": "3"},
            "SLURM_JOB_NODELIST lists 1 of the job's 3 nodes, as if for a single step: set PrologFlags=Alloc or "
            "PrologFlags=Contain in slurm.conf [",
        ),
        ("job 1234", {"SLURM_JOB_NODELIST": "a[1-20000]", "SLURM_JOB_CPUS_PER_NODE": ""}, "the job has 20000 hosts"),
    ],
)
def test_a_failure_is_one_line_and_no_failure_of_the_prolog(
    capfd: pytest.CaptureFixture[str], called: str, variables: dict[str, str], words: str
) -> None:
    assert dispatch("prolog", [], {**SLURM, **variables}) == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"ssh_hook: error: the Prolog of {called}: ")
    assert words in line
    assert jobs() == []


@pytest.mark.parametrize(
    ("called", "variables", "words"),
    [
        ("job 1234", {"PBS_JOBID": "1234"}, "PBS_JOBID is '1234', not a job ID such as 1234.server ["),
        ("job ../1.a", {"PBS_JOBID": "../1.a"}, "PBS_JOBID is '../1.a', not a job ID"),
        ("job 1234.server", {"PBS_JOB_UID": "alice"}, "PBS_JOB_UID is 'alice', not a number ["),
        ("job 1234.server", {"PBS_JOB_UID": "4294967295"}, "PBS_JOB_UID is 4294967295, not the uid of a user ["),
        (
            "job 1234.server",
            {"PBS_EXEC_HOST2": ""},
            "PBS_EXEC_HOST2 has '', not a chunk of a job such as node1:15002/0*8",
        ),
        ("job 1234.server", {"PBS_EXEC_HOST2": "a[1]/0*8"}, "PBS_EXEC_HOST2 has 'a[1]/0*8', not a chunk"),
        ("job 1234.server", {"PBS_EXEC_HOST2": "-a/0*8"}, "PBS_EXEC_HOST2 has '-a/0*8', not a chunk"),
    ],
)
def test_a_failure_in_a_job_of_pbs_is_one_line(
    capfd: pytest.CaptureFixture[str], called: str, variables: dict[str, str], words: str
) -> None:
    assert dispatch("prolog", [], {**PBS, **variables}) == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"ssh_hook: error: the Prolog of {called}: ")
    assert words in line
    assert jobs() == []


def test_the_systems_log_has_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what follows the end of a line would be fields of journald's."""

    def fail(*_arguments: object) -> NoReturn:
        raise ValueError("first\nPRIORITY=0")

    monkeypatch.setattr(system_log, "send", lambda _severity, text, _fields: (tmp_path / "log").write_text(text))
    monkeypatch.setattr(job_record, "checked_number", fail)
    assert dispatch("prolog", [], SLURM) == 0
    assert "PRIORITY=0" in (tmp_path / "log").read_text()
    assert "\n" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("number", "field"), [("1234", "1234"), ("7[1].a", "7[1].a"), ("x", ""), ("1" * 19, "")])
def test_the_systems_log_has_the_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: str,
    field: str,
) -> None:
    """And the job as a field, if it is a number."""

    def keep(severity: int, text: str, fields: dict[str, str]) -> None:
        (tmp_path / "log").write_text(f"{severity} {fields} {text}")

    monkeypatch.setattr(system_log, "send", keep)
    for command, words in (("prolog", "the Prolog of"), ("epilog", "the Epilog of")):
        monkeypatch.setattr(job_record, "checked_number", refuse)
        assert dispatch(command, [], {**SLURM, "SLURM_JOB_ID": number}) == 0
        line = f"{words} job {number}: no [arguments-wrong]"
        fields = {"kind": "arguments-wrong", "job": field}
        assert (tmp_path / "log").read_text() == f"{system_log.ERROR} {fields} {line}"
        assert capfd.readouterr().err == f"ssh_hook: error: {line}\n"


def refuse(*_arguments: object) -> int:
    raise HookError(ARGUMENTS_WRONG, "no")


def sleep_long(*_arguments: object) -> None:
    time.sleep(100)


@pytest.mark.parametrize(
    "stops",
    [
        lambda patch: patch.setattr(job_record, "write", sleep_long),
        lambda patch: (patch.setattr(job_record, "write", sleep_long), patch.setattr(system_log, "send", sleep_long)),
        lambda patch: (patch.setattr(job_record, "write", sleep_long), patch.setattr(node_call, "log", sleep_long)),
    ],
    ids=["file system", "system's log", "standard error"],
)
def test_nothing_holds_it_up(monkeypatch: pytest.MonkeyPatch, stops: Callable[[pytest.MonkeyPatch], object]) -> None:
    for name, limit in LIMITS.items():
        monkeypatch.setattr(node_call, name, limit)
    stops(monkeypatch)
    begun = time.monotonic()
    assert dispatch("prolog", [], SLURM) == 0
    assert time.monotonic() - begun < within(8)


def test_a_prolog_that_is_late_is_of_no_home(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job_record, "write", sleep_long)
    monkeypatch.setattr(node_call, "_WORK", LIMITS["_WORK"])
    assert dispatch("prolog", [], SLURM) == 0
    words = "the Prolog of job 1234 timed out after 1 s: /run hangs, or the node is overloaded [system]"
    assert capfd.readouterr().err == f"ssh_hook: error: {words}\n"


def test_a_process_that_cannot_be_started_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError

    monkeypatch.setattr("ssh_hook.linux.syscalls.fork", fail)
    assert dispatch("prolog", [], SLURM) == 0
    assert dispatch("epilog", [], SLURM) == 0


def test_others_than_root_are_told_so(
    node: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 2001)
    assert dispatch("epilog", [], SLURM) == 0
    assert "only root can write job records" in capfd.readouterr().err
    assert not (node / "entries").exists()
