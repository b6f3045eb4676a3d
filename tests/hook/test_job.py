"""Containers in a job of Slurm or PBS, whose cgroups are made here: their port, and what root's record tells."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import slurmd
from containers import (
    ALICE,
    ALICES_COPIES,
    ALICES_ENTRIES,
    BOB,
    COPIES,
    ENTRIES,
    LAUNCHER,
    PORT,
    Container,
    Engine,
    as_user,
    podman_start,
    run,
    text_of,
    wait_for,
)
from held import NO_END, held, never_let_go
from hook_log import Syslog
from refusals import assert_refused
from starter import Start

AUTOMATIC = {"SERVER_PORT_DEFAULT": "auto", "SERVER_PORT_WITHOUT_JOB": str(PORT)}
HOSTFILE = "/opt/oci-hooks/ssh/hostfile"
UNIT = Path(__file__).resolve().parents[2] / "roles/ssh_hook/templates/ssh-hook-sweep.service.j2"
KEPT = re.findall(r"^CapabilityBoundingSet=CAP_(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)[0].lower()
WITH_THE_UNITS_RIGHTS = ("setpriv", f"--bounding-set=-all,+{KEPT.replace(' cap_', ',+')}")
Change = Callable[[dict[str, Any]], None]


def records(uid: int = ALICE) -> dict[str, Path]:
    """Paths of the records of the user's jobs, by the jobs' names."""
    texts = {path: text_of(path) for path in (ENTRIES / str(uid)).glob("j[0-9]*")}
    return {text.split("\n")[1].partition("job=")[2]: path for path, text in texts.items() if text}


def in_step(job: int, step: str = "0") -> Change:
    """Have the runtime make the container's cgroups in a step of alice's job."""

    def change(config: dict[str, Any]) -> None:
        config["linux"]["cgroupsPath"] = f"/slurm/uid_{ALICE}/job_{job}/step_{step}/box"

    return change


def in_pbs_job(job: str) -> Change:
    """Have the runtime make the container's cgroups in those of a job of PBS's."""

    def change(config: dict[str, Any]) -> None:
        config["linux"]["cgroupsPath"] = f"/{slurmd.pbs_job(job)}/box"

    return change


@pytest.fixture(autouse=True)
def no_cgroups_are_left() -> Iterator[None]:
    yield
    slurmd.remove_cgroups()


@pytest.fixture(name="recorded")
def fixture_recorded() -> Iterator[Callable[..., None]]:
    """Records jobs of alice's on three nodes, and forgets them."""
    jobs: dict[int, dict[str, str]] = {}

    def record(job: int, **variables: str) -> None:
        jobs[job] = variables
        done = slurmd.call("prolog", job, **variables).checked()
        assert (done.out, done.err) == (b"", b"")

    yield record
    for job, variables in jobs.items():
        slurmd.call("epilog", job, **variables).checked()
    assert records() == records(BOB) == {}
    run([LAUNCHER, "sweep"]).checked()
    assert not slurmd.is_mounted() and not slurmd.is_mounted(BOB)


def test_a_record_is_for_its_user_alone(recorded: Callable[..., None]) -> None:
    recorded(4242)
    (path,) = records().values()
    assert run(as_user(ALICE, "cat", str(path))).checked().text.startswith("ssh_hook job 1\njob=4242\nuid=2001\n")
    assert run(as_user(BOB, "cat", str(path))).status != 0
    assert run(as_user(ALICE, "ls", str(path.parent))).status != 0
    assert run(as_user(ALICE, "sh", "-c", f"echo x >{path}")).status != 0


def test_a_user_has_a_bounded_directory_for_doors_while_she_has_jobs(recorded: Callable[..., None]) -> None:
    recorded(4242)
    door = slurmd.DOORS / "a door"
    run(as_user(ALICE, "touch", str(door))).checked()
    recorded(4243)
    assert door.exists()  # it is the same
    status, system = slurmd.DOORS.stat(), os.statvfs(slurmd.DOORS)
    assert (status.st_uid, status.st_mode & 0o777) == (ALICE, 0o700)
    assert (system.f_blocks * system.f_frsize, system.f_files) == (1 << 20, 1024)
    assert system.f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC) == os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
    assert b"No space left" in run(as_user(ALICE, "sh", "-c", f"head -c 2M /dev/zero >{slurmd.DOORS}/file")).err
    assert b"No space left" in run(as_user(ALICE, "sh", "-c", f"cd {slurmd.DOORS} && touch $(seq 1024)")).err
    assert run(as_user(BOB, "ls", str(slurmd.DOORS))).status != 0
    assert run(as_user(ALICE, "ls", str(slurmd.DOORS.parent))).status != 0
    slurmd.call("epilog", 4242).checked()
    run([*WITH_THE_UNITS_RIGHTS, LAUNCHER, "sweep"]).checked()
    assert door.exists()
    slurmd.call("epilog", 4243).checked()
    run([*WITH_THE_UNITS_RIGHTS, LAUNCHER, "sweep"]).checked()
    assert not slurmd.is_mounted()
    assert list(slurmd.DOORS.iterdir()) == []


def test_what_a_user_does_to_her_directory_holds_up_no_job(recorded: Callable[..., None]) -> None:
    """It has another owner, as after chown in her user namespace, and then a file system that never answers."""
    recorded(4242)
    os.chown(slurmd.DOORS, 100000, ALICE)
    recorded(4243)
    assert mounts_on(slurmd.DOORS) == 1
    with mute_fuse(slurmd.DOORS, 200):
        recorded(4244)
        for job in (4242, 4243, 4244):
            done = slurmd.call("epilog", job).checked()
            assert done.err == b""
    run([LAUNCHER, "sweep"])  # which is left behind if the user's file system never answers
    wait_for(lambda: not slurmd.is_mounted(), "end of the mounts")


@pytest.mark.parametrize("who", ["another user", "the user"])
def test_a_file_system_that_cannot_be_let_go_of_holds_up_no_job(recorded: Callable[..., None], who: str) -> None:
    """Another user has it in a mount namespace of her own, the user on her directory. A sweep unmounts that."""
    recorded(4242)
    hold = held(slurmd.DOORS, NO_END, BOB) if who == "another user" else never_let_go(slurmd.DOORS)
    with hold as process:
        assert slurmd.call("epilog", 4242).checked().err == b""
        left = 0 if who == "another user" else 1  # the process that unmounts one after the other hangs with the first
        run([LAUNCHER, "sweep"])
        wait_for(lambda: mounts_on(slurmd.DOORS) == left, "end of a mount")
        recorded(4243)
        assert mounts_on(slurmd.DOORS) == 1
        assert slurmd.call("epilog", 4243).checked().err == b""
        assert process.poll() is None
    wait_for(lambda: run([LAUNCHER, "sweep"]).status == 0, "the process that was left behind has ended")
    assert not slurmd.is_mounted()


def test_two_jobs_at_once_wait_for_no_other_user(recorded: Callable[..., None]) -> None:
    """Each user has a lock, which alice's frozen process has here."""
    recorded(4242)
    program = "import os, sys, time; f = os.open('/run/ocihooks-ssh/locks', 2); os.lseek(f, 2 * int(sys.argv[1]), 0); "
    program += "os.lockf(f, os.F_LOCK, 1); print(flush=True); time.sleep(1000)"
    command = ["python3", "-I", "-c", program, str(ALICE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as frozen:
        try:
            assert frozen.stdout is not None
            frozen.stdout.readline()
            recorded(4243, SLURM_JOB_UID=str(BOB))
            assert list(records(BOB)) == ["4243"]
            assert b"has the lock of uid 2001" in slurmd.call("prolog", 4244).checked().err
            assert slurmd.call("epilog", 4242).checked().err == b""
            assert records() == {}
        finally:
            frozen.kill()


def test_a_file_system_on_a_record_holds_up_nothing(recorded: Callable[..., None]) -> None:
    """Its user's: nobody else can look it up. It is overwritten."""
    recorded(4242)
    (path,) = records().values()
    with held(path, NO_END) as process:
        recorded(4242)
        make_old(path)
        run([LAUNCHER, "sweep"]).checked()
        assert records() == {}
        recorded(4243)
        assert records() == {"4243": path}
        assert slurmd.call("epilog", 4243).checked().err == b""
        assert process.poll() is None


def make_old(path: Path) -> None:
    path.write_text(re.sub("(?m)^start=.*", "start=1600000000", text_of(path)), encoding="ascii")
    os.utime(path, (0, 0))


def mounts_on(path: Path) -> int:
    return sum(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


@contextmanager
def mute_fuse(path: Path, layers: int) -> Iterator[None]:
    """Mount on `path` a file system of alice's whose server answers nothing, as she does by fusermount, and on that."""
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40700,user_id={ALICE},group_id={ALICE},allow_other"
    mount = ctypes.CDLL(None, use_errno=True).mount
    if mount(b"mute", bytes(path), b"fuse", 6, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "cannot mount FUSE")
    for _layer in range(layers - 1):
        assert mount(b"mute", bytes(path), b"tmpfs", 6, None) == 0
    try:
        yield
    finally:
        os.close(server)  # what waits for it fails


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize(("step", "port"), [("0", 24242), ("batch", 24242), ("1", 25345)])
def test_port_of_job_and_step(start: Start, runtime: str, step: str, port: int) -> None:
    container = start(runtime, "busybox", settings=AUTOMATIC, change=in_step(4242, step))
    assert container.ssh("echo served").checked().text == "served"
    config = container.exec("cat", "/opt/oci-hooks/ssh/ssh_config").checked().text
    assert f"Port {port}\n" in config
    assert "ConnectTimeout" not in config  # whose hosts are not known
    assert container.exec("test", "-e", HOSTFILE).status == 1


def test_port_of_the_annotation_and_outside_of_jobs(start: Start) -> None:
    asked = {"com.hooks.ssh.port": "auto"}
    inside = start("crun", "busybox", annotations=asked, change=in_step(4242))
    assert "Port 24242\n" in inside.exec("cat", "/opt/oci-hooks/ssh/ssh_config").checked().text
    outside = start("crun", "busybox", annotations=asked, settings=AUTOMATIC)
    assert f"Port {PORT}\n" in outside.exec("cat", "/opt/oci-hooks/ssh/ssh_config").checked().text
    assert outside.ssh("echo served").checked().text == "served"


def test_two_steps_share_a_node(start: Start) -> None:
    steps = ("0", "1")
    containers = [
        start("crun", "busybox", settings=AUTOMATIC, change=in_step(4242, step), env={"STEP": step}) for step in steps
    ]
    assert [container.ssh("echo $STEP").checked().text for container in containers] == list(steps)


def test_a_taken_port_is_told_with_both_jobs(start: Start, syslog: Syslog) -> None:
    start("crun", "busybox", settings=AUTOMATIC, change=in_step(4242))
    words = ("port 24242 of job 14242 is in use by process ", "(dropbear) of uid 2001 in job 4242: choose another with")
    assert_refused(start, syslog, "crun", *words, image="busybox", settings=AUTOMATIC, change=in_step(14242))


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_recorded_job_has_host_files_and_waits(start: Start, recorded: Callable[..., None], runtime: str) -> None:
    recorded(4242, SLURM_JOB_CPUS_PER_NODE="8(x3)", SLURM_HET_JOB_ID="4240")
    container = start(runtime, "busybox", settings=AUTOMATIC, change=in_step(4242))
    assert container.exec("cat", HOSTFILE).checked().text.splitlines() == [
        *("127.0.0.1 slots=8", "nid001 slots=8", "nid002 slots=8")
    ]
    config = container.exec("cat", "/opt/oci-hooks/ssh/ssh_config").checked().text
    assert "Port 24240\n" in config  # the leader's
    assert "ConnectTimeout 300" in config
    assert container.exec("test", "-x", "/opt/oci-hooks/ssh/bin/first").status == 0
    assert container.ssh("echo served").checked().text == "served"


def test_sessions_have_the_jobs_variables(start: Start, recorded: Callable[..., None]) -> None:
    recorded(4242, SLURM_JOB_CPUS_PER_NODE="8(x3)", SLURM_CLUSTER_NAME="alps", SLURM_PROCID="0")
    container = start("crun", "busybox", change=in_step(4242), env={"SLURM_CLUSTER_NAME": "mine"})
    assert slurms(container, "env") == [
        "SLURM_CLUSTER_NAME=mine",
        "SLURM_JOB_ID=4242",
        "SLURM_JOB_NODELIST=127.0.0.1,nid[001-002]",
        "SLURM_JOB_NUM_NODES=3",
        f"SLURM_JOB_UID={ALICE}",
    ]
    assert slurms(container, "exec sh -lc env") == slurms(container, "env")


def test_without_a_record_sessions_have_the_jobs_number(start: Start) -> None:
    assert slurms(start("crun", "busybox", change=in_step(4242)), "env") == ["SLURM_JOB_ID=4242"]


def test_lines_about_logins_name_the_job(start: Start, syslog: Syslog) -> None:
    """That of the container, also where the engine's variables name none, or another one."""
    container = start("crun", "busybox", change=in_step(4242))
    syslog.clear()
    container.ssh("true").checked()
    wait_for(lambda: len(syslog.logins()) == 2, "the lines about a session")
    assert [line["job"] for line in syslog.logins()] == ["4242", "4242"]


def slurms(container: Container, command: str) -> list[str]:
    lines = container.ssh(command).checked().text.splitlines()
    return sorted(line for line in lines if line.startswith(("SLURM", "OCIHOOKS")))


def test_what_the_user_asks_for_takes_precedence(start: Start, recorded: Callable[..., None]) -> None:
    recorded(4242)
    asked = {"com.hooks.ssh.hosts": "127.0.0.1:3", "com.hooks.ssh.wait": "7", "com.hooks.ssh.port": str(PORT)}
    container = start("crun", "busybox", settings=AUTOMATIC, annotations=asked, change=in_step(4242))
    assert container.exec("cat", HOSTFILE).checked().text == "127.0.0.1 slots=3"
    config = container.exec("cat", "/opt/oci-hooks/ssh/ssh_config").checked().text
    assert f"Port {PORT}\n" in config
    assert "ConnectTimeout 7" in config


def test_a_job_of_another_user_tells_nothing(start: Start, recorded: Callable[..., None]) -> None:
    recorded(4242, SLURM_JOB_UID=str(BOB))
    container = start("crun", "busybox", settings=AUTOMATIC, change=in_step(4242))
    assert container.exec("test", "-e", HOSTFILE).status == 1
    assert f"Port {PORT}\n" in container.exec("cat", "/opt/oci-hooks/ssh/ssh_config").checked().text


def test_a_record_that_others_can_write_to_is_not_read(start: Start, recorded: Callable[..., None]) -> None:
    recorded(4242)
    (path,) = records().values()
    path.chmod(0o666)
    try:
        container = start("crun", "busybox", change=in_step(4242))
        assert container.exec("test", "-e", HOSTFILE).status == 1
        said = run(as_user(ALICE, LAUNCHER, "why")).checked().text
        assert "is writable by users other than root" in said
    finally:
        path.chmod(0o640)


def test_roots_sweep_removes_the_records_of_lost_jobs(start: Start, recorded: Callable[..., None]) -> None:
    """Jobs that began long ago, but for one that has a container still."""
    for job in (4242, 4243, 4244):
        recorded(job)
    start("crun", "busybox", change=in_step(4243))
    recorded(4245, SLURM_JOB_UID=str(BOB))
    for path in (records()["4242"], records()["4243"], records(BOB)["4245"]):
        make_old(path)
    run(as_user(ALICE, LAUNCHER, "sweep")).checked()
    assert len(records()) == 3, "a user's sweep has nothing to do with them"
    said = run([*WITH_THE_UNITS_RIGHTS, LAUNCHER, "sweep", "--verbose"]).checked().text
    assert said.count("freed, since its container or job is gone") == 2
    assert (sorted(records()), records(BOB)) == (["4243", "4244"], {})
    assert (slurmd.is_mounted(), slurmd.is_mounted(BOB)) == (True, False)


def test_rootless_podman_in_a_job(recorded: Callable[..., None]) -> None:
    """podman, its hook and the container stay in the step's cgroup; root's record is nobody's in their namespace."""
    recorded(4242)
    container = podman_start(
        slurmd.rootless_in(slurmd.step(4242)), "busybox", annotations={"com.hooks.ssh.port": "auto"}
    )
    try:
        assert container.exec("cat", HOSTFILE).checked().text.splitlines()[0] == "127.0.0.1 slots=1"
        assert "Port 24242\n" in container.exec("cat", "/opt/oci-hooks/ssh/ssh_config").checked().text
        assert container.ssh("echo served").checked().text == "served"
        status = run(as_user(ALICE, LAUNCHER, "status")).checked().text
        assert "24242" in status
        assert "4242" in status.split("24242", 1)[1]
    finally:
        container.remove()


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "rootless"])
def test_after_a_job_and_the_next_sweep_nothing_of_it_is_in_use(engine: str) -> None:
    """Names that root keeps are free, and a second job uses the same."""
    before = kept()
    for number in (4242, 4243):
        known = kept()
        slurmd.call("prolog", number).checked()
        container = podman_start(
            slurmd.rootless_in(slurmd.step(number)) if engine == "rootless" else Engine(engine), "busybox"
        )
        try:
            assert container.ssh("echo served").checked().text == "served"
            used = {path: text for path, text in kept().items() if path not in before or before[path] != text}
            assert any("ssh_hook job 1" in text for text in used.values())
            assert any("\ndoor=" in text for text in used.values())
            assert slurmd.is_mounted()
        finally:
            container.remove()
            slurmd.call("epilog", number).checked()
        for door in ENTRIES.glob("*/*-*-*"):
            os.utime(door, (0, 0))  # a sweep lets a start finish
        run([LAUNCHER, "sweep"]).checked()
        assert not slurmd.is_mounted()
        after = kept()
        assert {path: text for path, text in after.items() if text and before.get(path) != text} == {}
        assert number == 4242 or set(after) == set(known)


def kept() -> dict[str, str]:
    """What the hook has where it keeps something: paths, with the texts of files that are not free."""
    places = (ENTRIES.parent, COPIES, ALICES_COPIES.parent, ALICES_ENTRIES.parent)
    paths = [path for place in places for path in place.rglob("*") if not {"locks", "seccomp"} & set(path.parts)]
    return {str(path): text_of(path) if path.is_file() else "a socket" * path.is_socket() for path in paths}


@pytest.fixture(name="recorded_of_pbs")
def fixture_recorded_of_pbs() -> Iterator[Callable[[str], None]]:
    """Records jobs of alice's on two nodes of PBS's, and forgets them."""
    jobs = []

    def record(job: str) -> None:
        jobs.append(job)
        done = slurmd.call_for_pbs("prolog", job).checked()
        assert (done.out, done.err) == (b"", b"")

    yield record
    for job in jobs:
        slurmd.call_for_pbs("epilog", job).checked()
    assert records() == {}
    run([LAUNCHER, "sweep"]).checked()
    assert not slurmd.is_mounted()


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_job_of_pbs_has_host_files_and_waits(
    start: Start, recorded_of_pbs: Callable[[str], None], runtime: str
) -> None:
    recorded_of_pbs("4242[7].server")
    recorded_of_pbs("4249.server")  # whose port would be the same
    container = start(runtime, "busybox", settings=AUTOMATIC, change=in_pbs_job("4242[7].server"))
    assert container.exec("cat", HOSTFILE).checked().text.splitlines() == ["127.0.0.1 slots=4", "node2 slots=4"]
    config = container.exec("cat", "/opt/oci-hooks/ssh/ssh_config").checked().text
    assert "Port 24249\n" in config
    assert "ConnectTimeout 300" in config
    assert container.exec("test", "-x", "/opt/oci-hooks/ssh/bin/first").status == 0
    variables = container.ssh("env").checked().text.splitlines()
    assert [line for line in variables if line.startswith(("PBS", "SLURM"))] == ["PBS_JOBID=4242[7].server"]


def test_without_a_record_a_job_of_pbs_has_a_port(start: Start, syslog: Syslog) -> None:
    container = start("crun", "busybox", settings=AUTOMATIC, change=in_pbs_job("4242.server"))
    assert container.ssh("env | grep PBS").checked().text == "PBS_JOBID=4242.server"
    assert container.exec("test", "-e", HOSTFILE).status == 1
    words = ("port 24242 of job 14242.server is in use", "in job 4242.server: choose another with")
    change = in_pbs_job("14242.server")
    assert_refused(start, syslog, "crun", *words, image="busybox", settings=AUTOMATIC, change=change)


def test_a_job_of_pbs_that_another_server_numbers_alike(start: Start, recorded_of_pbs: Callable[[str], None]) -> None:
    recorded_of_pbs("4242.server")
    container = start("crun", "busybox", settings=AUTOMATIC, change=in_pbs_job("4242.other"))
    assert container.exec("test", "-e", HOSTFILE).status == 1
    assert container.ssh("env | grep PBS").checked().text == "PBS_JOBID=4242.other"


def test_rootless_podman_in_a_job_of_pbs(recorded_of_pbs: Callable[[str], None]) -> None:
    recorded_of_pbs("4242.server")
    engine = slurmd.rootless_in(slurmd.pbs_job("4242.server"))
    container = podman_start(engine, "busybox", annotations={"com.hooks.ssh.port": "auto"})
    try:
        assert container.exec("cat", HOSTFILE).checked().text.splitlines()[0] == "127.0.0.1 slots=4"
        assert "Port 24242\n" in container.exec("cat", "/opt/oci-hooks/ssh/ssh_config").checked().text
        assert container.ssh("echo served").checked().text == "served"
        assert list(slurmd.DOORS.iterdir()) != [], "its door is in the job's directory"
        status = run(as_user(ALICE, LAUNCHER, "status")).checked().text
        assert "4242.server" in status
    finally:
        container.remove()
