"""What is found in /proc, where FIFOs stand for the memory of processes that does not answer."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from patience import within
from ssh_hook.commands import daemons
from ssh_hook.commands.connect import choose
from ssh_hook.errors import SYSTEM, LateError
from ssh_hook.linux.memory import read_memory
from ssh_hook.linux.process import pid_namespace
from ssh_hook.node import job_record
from ssh_hook.node.door import name_of
from ssh_hook.oci import container_paths as paths
from ssh_hook.oci.settings import NO_PORT

NAMESPACE = pid_namespace()

PATIENCE = 0.5  # seconds for what hangs


@pytest.fixture(name="proc")
def fixture_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /proc. What hangs there is soon given up."""

    def read(directory: int, name: str, what: str, size: int, timeout: float) -> bytes:
        is_fifo = stat.S_ISFIFO(os.stat(name, dir_fd=directory).st_mode)
        return read_memory(directory, name, what, size, PATIENCE if is_fifo else timeout)

    monkeypatch.setattr(daemons, "read_memory", read)
    monkeypatch.setattr(daemons, "_PROC", tmp_path)
    return tmp_path


def make(
    proc: Path, pid: int, *, parent: int = 1, name: str = "dropbear", cmdline: str = "", environ: str = ""
) -> Path:
    """Make the directory of a process; return it."""
    process = proc / str(pid)
    (process / "ns").mkdir(parents=True)
    (process / "ns/net").touch()
    fields = " ".join(["S", str(parent), *["0"] * 17, str(pid), *["0"] * 20])
    (process / "stat").write_text(f"{pid} ({name}) {fields}\n", encoding="utf-8")
    (process / "comm").write_text(f"{name}\n", encoding="utf-8")
    (process / "status").write_text("Uid:\t1000\t1000\t1000\t1000\n", encoding="utf-8")
    (process / "cmdline").write_text(cmdline, encoding="utf-8")
    (process / "environ").write_text(environ, encoding="utf-8")
    return process


def command(port: int) -> str:
    return f"{paths.SERVER}\0-F\0-p\0{port}\0"


def hang(process: Path, name: str) -> None:
    (process / name).unlink()
    os.mkfifo(process / name)


def found_in_time() -> list[daemons.Daemon]:
    begin = time.monotonic()
    found = daemons.find_daemons()
    assert time.monotonic() - begin < within(20)
    return found


def test_daemon_with_sessions(proc: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make(proc, 10, name="conmon", cmdline="/usr/bin/conmon\0-c\0" + "a" * 64 + "\0-n\0it\0", environ="SLURM_JOB_ID=7\0")
    make(proc, 11, parent=10, cmdline=command(15263))
    for pid, parent in ((12, 11), (13, 11), (14, 12)):
        make(proc, pid, parent=parent, cmdline=command(15263))
    (daemon,) = daemons.find_daemons()
    assert (daemon.pid, daemon.uid, daemon.port, daemon.sessions) == (11, 1000, 15263, 2)
    assert (daemon.engine, daemon.id, daemon.name, daemon.job) == ("podman", "a" * 64, "it", "7")
    assert capfd.readouterr().err == ""


def test_daemon_that_logs_logins(proc: Path) -> None:
    """A child accepts its connections: nobody may inspect that one."""
    make(proc, 11, cmdline=command(15263) + "-L\x004,5\0")
    make(proc, 12, parent=11, name="first")
    (make(proc, 13, parent=11, cmdline=command(15263)) / "ns/net").unlink()
    for pid in (14, 15, 16):
        make(proc, pid, parent=13, cmdline=command(15263))
    make(proc, 17, parent=14, name="bash")
    (daemon,) = daemons.find_daemons()
    assert (daemon.pid, daemon.sessions) == (11, 3)


def test_daemon_that_could_not_log_logins(proc: Path) -> None:
    """It has emptied the option, and accepts connections itself."""
    make(proc, 11, cmdline=command(15263) + "-L\0\0\0\0")
    make(proc, 12, parent=11, cmdline=command(15263))
    make(proc, 13, parent=12, name="bash")
    (daemon,) = daemons.find_daemons()
    assert (daemon.pid, daemon.sessions) == (11, 1)


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
def test_task_of_an_array(proc: Path, of: str, variables: str, cgroup: str, expected: tuple[str, str]) -> None:
    environ = variables.replace(" ", "\0") + "\0"
    make(proc, 10, name="conmon", cmdline="conmon\0-n\0it\0", environ=environ if of == "engine" else "")
    process = make(proc, 11, parent=10, cmdline=command(15263), environ=environ if of == "container" else "")
    if cgroup:
        path = f"0::/system.slice/slurmstepd.scope/job_{cgroup}/step_0\n"
        (process / "cgroup").write_text(path, encoding="ascii")
    (daemon,) = daemons.find_daemons()
    assert (daemon.job, daemon.task) == expected


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
def test_step_of_a_job(proc: Path, variables: str, cgroup: str, expected: tuple[str, str]) -> None:
    process = make(proc, 11, cmdline=command(15263), environ=variables.replace(" ", "\0") + "\0")
    if cgroup:
        (process / "cgroup").write_text(f"0::/system.slice/slurmstepd.scope/{cgroup}/user/task_0\n", encoding="ascii")
    (daemon,) = daemons.find_daemons()
    assert (daemon.job, daemon.step) == expected


def test_component_of_a_heterogeneous_job(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = job_record.JobRecord(1000, "", {"a": 1}, 0, 1234)
    monkeypatch.setattr(job_record, "read", lambda number, _is_rootless: record if number == "1236" else None)
    for pid, job in ((11, 1236), (12, 1300)):
        process = make(proc, pid, cmdline=command(15263))
        (process / "cgroup").write_text(f"0::/system.slice/slurmstepd.scope/job_{job}/step_0\n", encoding="ascii")
    found = {daemon.pid: daemon for daemon in daemons.find_daemons()}
    assert (found[11].leader, found[12].leader) == ("1234", "")
    assert choose(list(found.values()), "1234", None) is found[11]
    assert choose(list(found.values()), "1236", None) is found[11]


def test_others_are_no_daemons(proc: Path) -> None:
    make(proc, 10, name="sleep", cmdline=command(15263))
    make(proc, 11, cmdline="/usr/sbin/dropbear\0-p\00022\0")
    make(proc, 12, cmdline=command(70000))
    (make(proc, 13, cmdline=command(15263)) / "ns/net").unlink()  # as for a caller who may not inspect it
    make(proc, 14, name="a) S 1 (dropbear", cmdline=command(15263))
    assert daemons.find_daemons() == []


def test_memory_of_other_processes_is_not_read(proc: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for pid in range(10, 110):
        process = make(proc, pid, name="stuck")
        hang(process, "cmdline")
        hang(process, "environ")
    make(proc, 200, parent=50, cmdline=command(15263))
    assert [daemon.pid for daemon in found_in_time()] == [200]
    assert capfd.readouterr().err == ""


def test_what_a_process_calls_itself_is_read_up_to_a_bound(proc: Path) -> None:
    memory = daemons._Memory()
    for pid, size in ((10, 1 << 20), (11, 3 << 20)):
        make(proc, pid, cmdline="x" * size)
    assert len(memory.read(10, "cmdline")) == 1 << 20
    assert len(memory.read(11, "cmdline")) == (1 << 20) + 1  # a byte more tells that there is more


def test_what_does_not_answer_is_skipped(proc: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hang(make(proc, 10), "cmdline")
    make(proc, 11, parent=10, cmdline=command(15263))  # its session: not asked for
    make(proc, 20, cmdline=command(15264))
    assert [daemon.pid for daemon in found_in_time()] == [20]
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("ssh_hook: warning: cannot read the memory of these processes within 60 s")
    assert said.endswith(": 10\n")


def test_environment_that_does_not_answer(proc: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hang(make(proc, 10, cmdline=command(15263)), "environ")
    (daemon,) = found_in_time()
    assert (daemon.pid, daemon.port, daemon.job) == (10, 15263, "")
    assert capfd.readouterr().err.endswith(": 10\n")


def test_all_that_do_not_answer_cost_one_deadline(
    proc: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []

    def late(_directory: int, _name: str, _what: str, _size: int, timeout: float) -> bytes:
        waited.append(timeout)
        raise LateError(SYSTEM, "no answer")

    monkeypatch.setattr(daemons, "read_memory", late)
    monkeypatch.setattr(daemons, "time", SimpleNamespace(monotonic=lambda: sum(waited)))
    for pid in range(10, 110):
        make(proc, pid)
    assert daemons.find_daemons() == []
    assert sum(waited) < daemons._TIMEOUT + 1
    assert capfd.readouterr().err.endswith(": 10, 11, 12, 13, 14, 15, 16, 17 and 92 more\n")


@pytest.fixture(name="caller")
def fixture_caller(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Who the caller is on the node."""
    caller = SimpleNamespace(host_uid=1000, is_rootless=False)
    monkeypatch.setattr(daemons, "Engine", lambda: caller)
    return caller


def test_the_door_of_a_daemon(proc: Path, caller: SimpleNamespace) -> None:
    """Its name is the process's; of what the process says itself only counts that it has one."""
    make(proc, 10, cmdline=f"{command(15263)}-O\x007,1000\0")
    make(proc, 11, cmdline=command(15264))
    with_door, without = daemons.find_daemons()
    assert with_door.doors[0] == f"/run/ocihooks-ssh/doors/{name_of(10, 10, NAMESPACE)}"
    assert {Path(path).name for path in with_door.doors} == {name_of(10, 10, NAMESPACE)}
    assert without.doors == []


def test_root_has_no_way_by_the_door_of_another(proc: Path, caller: SimpleNamespace) -> None:
    caller.host_uid = 0
    make(proc, 10, cmdline=f"{command(15263)}-O\x007,1000\0")
    of_root = make(proc, 11, cmdline=f"{command(15264)}-O\x007,0\0")
    (of_root / "status").write_text("Uid:\t0\t0\t0\t0\n", encoding="utf-8")
    own = f"/run/ocihooks-ssh/doors/{name_of(11, 11, NAMESPACE)}"
    assert [daemon.doors for daemon in daemons.find_daemons()] == [[], [own]]


def test_a_daemon_with_a_door_alone(proc: Path, caller: SimpleNamespace) -> None:
    make(proc, 10, cmdline=f"{paths.SERVER}\0-F\0-O\x007,1000\0")
    make(proc, 11, cmdline=f"{paths.SERVER}\0-F\0")  # what has neither is none
    (found,) = daemons.find_daemons()
    assert (found.pid, found.port, found.places) == (10, NO_PORT, [])
    assert found.doors != []


def test_rootless_docker_without_cgroups(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it may use no cgroups, its containers have those of its daemon: the bundle shows the engine."""
    identity = "17fc882f" * 8
    bundle = f"/run/user/1000/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/{identity}"
    make(proc, 11, cmdline=command(15263))
    monkeypatch.setattr(daemons, "_bundles", lambda _caller: {11: bundle})
    (found,) = daemons.find_daemons()
    assert (found.engine, found.id) == ("docker", identity)
