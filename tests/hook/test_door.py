"""The door: who is the user on the node enters the user's container without a key, by a Unix socket of the node's.

Alice's ssh has what `ssh_hook client-config --jump` prints and a key for the node's sshd, and no key of containers.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attached
import dockerd
import node_sshd
import pytest
import slurmd
from containers import (
    ALICE,
    ALICES_DOORS,
    BOB,
    DOORS,
    ENTRIES,
    LAUNCHER,
    PORT,
    Container,
    Result,
    StartFailed,
    as_user,
    call_hook,
    is_gone,
    listening,
    podman_start,
    processes,
    roots_doors,
    run,
    run_in_time,
    text_of,
    wait_for,
    wait_until_found,
)
from enroot import Enroot
from held import NO_END, held
from patience import within
from starter import Start
from taken import assert_nobody_takes

HOME = Path("/home/alice")
NODE = "node002"  # the bed's own sshd stands for it
HOST = f"{NODE}.container"
SAY = "echo $LANDED; exit 7"
# Connects to a door with the ids of whoever runs it, and prints the first bytes that it gets, or the error.
KNOCK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    try:
        client.connect(sys.argv[1])
        print(client.recv(8).decode() or "closed")
    except OSError as error:
        print(error.strerror)
"""
KNOCK_IN_CONTAINER = """
use Socket;
socket(my $client, AF_UNIX, SOCK_STREAM, 0) or die;
if (!connect($client, sockaddr_un($ARGV[0]))) { print $!; exit }
sysread($client, my $data, 8);
print $data || "closed";
"""


@pytest.fixture(scope="module", autouse=True)
def configured() -> Iterator[None]:
    """What a user does once; nothing of it is a key of the containers'."""
    lines = run(as_user(ALICE, LAUNCHER, "client-config", "--jump", f"alice@{NODE}")).checked().text
    assert not (HOME / ".oci-hooks/ssh/client").exists()
    with node_sshd.configured(HOME / ".ssh", NODE, lines):
        yield


def ssh(*arguments: str, stdin: bytes = b"") -> Result:
    """Run alice's ssh to her only container."""
    wait_until_found()
    return run(as_user(ALICE, "ssh", "-o", "BatchMode=yes", *arguments[:-1], HOST, arguments[-1]), stdin)


def assert_lands(name: str) -> None:
    result = ssh(SAY)
    assert (result.status, result.out) == (7, f"{name}\n".encode()), result.err
    assert b"door" not in result.err


def where(name: str) -> dict[str, Any]:
    """The option that gives a container the variable by which it tells where a session landed."""
    return {"env": {"LANDED": name}}


def door_in(directory: Path, pid: int) -> Path:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return directory / f"{pid}-{fields[19]}-{Path('/proc/self/ns/pid').stat().st_ino}"


def assert_alices_alone(door: Path) -> None:
    """Root's have an ACL for her, and are in a directory that only she may search: an owner could give them 64 kB."""
    status = door.stat()
    is_roots = door.parent == DOORS
    assert (status.st_uid, stat.filemode(status.st_mode)) == ((0, "srw-rw----") if is_roots else (ALICE, "srw-------"))


def knock(door: Path, uid: int) -> str:
    return run(["setpriv", f"--reuid={uid}", "--clear-groups", "python3", "-I", "-c", KNOCK, door]).checked().text


# Landing.


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "rootless", "crun", "runc"])
def test_no_key(start: Start, engine: str) -> None:
    container = start(engine, **where("it"))
    directory = ALICES_DOORS if engine == "rootless" else DOORS
    door = door_in(directory, container.daemon())
    assert_alices_alone(door)
    assert_lands("it")
    container.stop()
    wait_for(lambda: is_gone(door), "end of the door")


@pytest.mark.parametrize(
    "options", [[], ["--userns=keep-id"], ["--user", "1000"]], ids=lambda it: "".join(it) or "root"
)
def test_rootless_without_a_network(start: Start, options: list[str]) -> None:
    container = start("rootless", options=options, network="none", **where("it"))
    assert_alices_alone(door_in(ALICES_DOORS, container.daemon()))
    assert_lands("it")


@pytest.mark.parametrize("network", ["none", "bridge"])
def test_rootful_whose_port_is_not_published(start: Start, network: str) -> None:
    start("podman-crun", network=network, **where("it"))
    assert PORT not in listening()
    assert_lands("it")


def test_rootful_in_a_user_namespace(start: Start) -> None:
    """The kernel names alice by the uid that she has there. She may not see its processes, and so not look for it."""
    maps = [f"--{kind}map={ALICE}:{ALICE}:1" for kind in ("uid", "gid")]
    maps += [f"--{kind}map=0:300000:1000" for kind in ("uid", "gid")]
    door = door_in(DOORS, start("podman-crun", options=maps, network="none").daemon())
    assert_alices_alone(door)
    assert (knock(door, ALICE), knock(door, 0)) == ("SSH-2.0-", "closed")


NONE = {"com.hooks.ssh.port": "none"}


@pytest.mark.parametrize("engine", ["podman-crun", "rootless", "runc"])
def test_without_a_port(start: Start, engine: str) -> None:
    """On the node's network; status and doctor know it."""
    before = listening()
    container = start(engine, annotations=NONE, **where("it"))
    assert listening() == before
    assert_lands("it")
    (found,) = json.loads(run_in_time(as_user(ALICE, LAUNCHER, "status", "--json")).checked().out)["containers"]
    assert (found["pid"], found["port"]) == (container.daemon(), 0)
    assert "containers with an SSH daemon: 1, all respond" in run_in_time(as_user(ALICE, LAUNCHER, "doctor")).text


def test_without_a_port_there_has_to_be_a_door(start: Start) -> None:
    options = ["--userns=nomap", "--user", "1000"]
    with pytest.raises(StartFailed) as failed:
        start("rootless", options=options, annotations=NONE)
    assert (
        "the container has no door, through which its user logs in without a key: its user namespace"
        in failed.value.hook
    )
    container = start("rootless", options=options, network="pasta", **where("it"))
    assert b"-O\0" not in Path(f"/proc/{container.daemon()}/cmdline").read_bytes()


@pytest.fixture
def docker(nothing_left: None) -> Iterator[Callable[..., Container]]:
    started: list[Container] = []

    def call(*arguments: Any, **options: Any) -> Container:
        started.append(dockerd.start(*arguments, **options))
        return started[-1]

    with dockerd.cdi_spec(), dockerd.installed():
        yield call
        for container in started:
            container.remove()


def test_docker(docker: Callable[..., Container]) -> None:
    options = ["--user", f"{ALICE}:{ALICE}", "--env", "LANDED=it", "--env", "HOME=/home/alice"]
    container = docker("plain", options, {"com.hooks.ssh.user": "alice"}, network="none")
    door = door_in(DOORS, container.daemon())
    assert_alices_alone(door)
    assert_lands("it")
    container.stop()
    wait_for(lambda: is_gone(door), "end of the door")


def test_enroot(nothing_left: None) -> None:
    """Nobody there can remove the name, but alice's next start."""
    first = Enroot(env={"LANDED": "it"}).wait_until_it_runs()
    try:
        assert_lands("it")
        (door,) = ALICES_DOORS.iterdir()
        assert_alices_alone(door)
        first.end()
        wait_for(lambda: not Path("/proc", door.name.partition("-")[0]).exists(), "end of the daemon")
        second = Enroot(env={"LANDED": "it"}).wait_until_it_runs()
        try:
            (found,) = ALICES_DOORS.iterdir()
            assert found != door
        finally:
            second.remove()
    finally:
        first.remove()


@pytest.mark.parametrize("engine", ["bwrap", "podman-pasta"])
def test_attach(nothing_left: None, engine: str) -> None:
    shutil.rmtree(attached.WHERE, ignore_errors=True)
    attached.WHERE.mkdir()
    container = attached.start(engine, attached.make_image("image"), 310000)
    try:
        attached.attach(container)
        (door,) = ALICES_DOORS.iterdir()
        assert_alices_alone(door)
        result = ssh("echo here")
        assert (result.status, result.text) == (0, "here"), result.err
        attached.hook("detach", str(container.pid)).checked()
        assert not door.exists()
    finally:
        attached.stop(container)
        shutil.rmtree(attached.WHERE)


def test_what_an_editor_does(start: Start) -> None:
    """A file by scp, much data both ways, a forward."""
    start("rootless", network="none")
    data = os.urandom(1 << 24)
    assert ssh("cat", stdin=data).out == data
    source = HOME / "source"
    source.write_bytes(data)
    try:
        run(as_user(ALICE, "scp", "-q", "-o", "BatchMode=yes", str(source), f"{HOST}:/tmp/copy")).checked()
        assert ssh("cat /tmp/copy").out == data
    finally:
        source.unlink()
    forward = as_user(ALICE, "ssh", "-o", "BatchMode=yes", "-W", f"127.0.0.1:{PORT}", HOST)
    # It sends no end of its input: a client that has left is not served.
    with subprocess.Popen(forward, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        try:
            assert client.stdout is not None
            output = client.stdout.fileno()
            wait_for(lambda: select.select([output], [], [], 0)[0], "the server's first line")
            assert os.read(output, 16) == b"SSH-2.0-dropbear"
        finally:
            client.kill()


def test_an_old_client(start: Start) -> None:
    """OpenSSH 7.5, also on the way to the node."""
    start("rootless", network="none", **where("it"))
    with tempfile.TemporaryDirectory(dir="/run") as old:
        Path(old).chmod(0o755)
        program = Path(old, "ssh")
        program.write_text('#!/bin/sh\nexec ssh1 -2 "$@"\n', encoding="ascii")
        program.chmod(0o755)
        by_it = as_user(ALICE, "env", f"PATH={old}:/usr/bin:/bin", "ssh", "-o", "BatchMode=yes", "-v", HOST)
        wait_until_found()
        result = run([*by_it, SAY])
        assert (result.status, result.out) == (7, b"it\n"), result.err
        assert result.err.startswith(b"OpenSSH_7.5p1")
        data = os.urandom(1 << 22)
        assert run([*by_it, "cat"], data).out == data


def test_a_client_that_knows_no_alias(start: Start) -> None:
    """As of sshj, which is in JetBrains' IDEs: the host key is found by the name of the container."""
    start("rootless", network="none", **where("it"))
    lines = (HOME / ".ssh/config").read_text(encoding="ascii").replace("HostKeyAlias", "#")
    own = HOME / ".ssh/without_alias"
    own.write_text(lines, encoding="ascii")
    result = ssh("-F", str(own), SAY)
    assert (result.status, result.out) == (7, b"it\n"), result.err


# Refusals.


@pytest.mark.parametrize("engine", ["podman-crun", "rootless"])
def test_nobody_else(start: Start, engine: str) -> None:
    """Another user may not reach the name, and root, whom no mode keeps out, is not the user."""
    container = start(engine)
    door = door_in(ALICES_DOORS if engine == "rootless" else DOORS, container.daemon())
    assert knock(door, ALICE) == "SSH-2.0-"
    assert knock(door, BOB) == "Permission denied"
    assert knock(door, 0) == "closed"
    refused = run(as_user(BOB, LAUNCHER, "connect", "localhost", name="bob"))
    assert refused.status == 1
    assert b"you have no container with an SSH daemon" in refused.err


def runs_connect(pid: str) -> bool:
    """Tell whether the process is `ssh_hook connect` itself, and neither ssh nor a shell that runs it."""
    try:
        words = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return False
    return b"python3" in words[0] and b"connect" in words


def test_nobody_in_the_container_takes_what_connect_has_open(start: Start) -> None:
    """As who has the other end of its socket, and so its pidfd, might: as a process of the same uid."""
    start("podman-crun")
    wait_until_found()
    with subprocess.Popen(as_user(ALICE, "ssh", HOST, "echo; sleep 1000"), stdout=subprocess.PIPE) as session:
        try:
            assert session.stdout is not None
            assert session.stdout.readline() == b"\n"
            (connect,) = filter(runs_connect, os.listdir("/proc"))
            assert_nobody_takes(connect)
        finally:
            session.kill()
    wait_for(lambda: not Path("/proc", connect).exists(), "end of ssh_hook connect")


@pytest.mark.parametrize(
    ("options", "user", "told"),
    [
        ([], "0:0", "closed"),
        (["--uidmap=0:300000:1000", "--gidmap=0:300000:1000"], "0:0", "Permission denied"),
        ([], f"{BOB}:{BOB}", "Permission denied"),
        ([], f"{ALICE}:{ALICE}", "SSH-2.0-"),  # she is the user there too
    ],
    ids=["root", "root of a user namespace", "another user", "the user"],
)
def test_from_a_container_that_sees_the_nodes_run(start: Start, options: list[str], user: str, told: str) -> None:
    door = door_in(DOORS, start("podman-crun").daemon())
    other = start("podman-crun", options=[*options, "--volume", "/run:/run"], user=user, enabled=False)
    assert other.exec("perl", "-e", KNOCK_IN_CONTAINER, str(door)).text == told


def test_the_port_asks_for_a_key_as_ever(start: Start) -> None:
    container = start("rootless", **where("it"))
    door_in(ALICES_DOORS, container.daemon()).unlink()
    refused = ssh(SAY)
    assert refused.status == 255
    assert (
        b"the door of your container (a socket on the node) is gone: a logout or the end of a job removes it; "
        b"connecting to port 15263 instead" in refused.err
    )
    assert b"Permission denied (publickey)" in refused.err


# Places.


def test_the_directory_of_a_job(nothing_left: None) -> None:
    """Doors of its containers are there, not in /run/user/UID, which the user may lack. It goes with the job."""
    slurmd.call("prolog", 4242).checked()
    started: list[Container] = []
    try:
        engine = slurmd.rootless_in(slurmd.step(4242))
        started.append(podman_start(engine, "debian", **where("it")))
        assert_alices_alone(door_in(slurmd.DOORS, started[0].daemon()))
        assert_lands("it")
        started.append(podman_start(engine, "debian", network="none", annotations=NONE))
        door = door_in(slurmd.DOORS, started[1].daemon())
        started[1].stop()
        wait_for(lambda: not door.exists(), "end of the door")
        slurmd.call("epilog", 4242).checked()
        run([LAUNCHER, "sweep"]).checked()
        assert not slurmd.is_mounted()
        assert (
            b"the door of your container (a socket on the node) is gone: a logout or the end of a job removes it"
            in ssh(SAY).err
        )
    finally:
        slurmd.call("epilog", 4242).checked()
        run([LAUNCHER, "sweep"])
        for container in started:
            container.remove()
        slurmd.remove_cgroups()


def test_a_container_of_a_login_session_stays_open_when_a_job_ends(start: Start) -> None:
    slurmd.call("prolog", 4242).checked()
    try:
        container = start("rootless", network="none", annotations=NONE, **where("it"))
        assert_alices_alone(door_in(ALICES_DOORS, container.daemon()))
    finally:
        slurmd.call("epilog", 4242).checked()
        run([LAUNCHER, "sweep"]).checked()
    assert not slurmd.is_mounted()
    assert_lands("it")


@pytest.mark.parametrize("directory", [DOORS, ALICES_DOORS], ids=["root", "alice"])
def test_a_sweep_removes_what_no_daemon_has(start: Start, directory: Path) -> None:
    container = start("rootless" if directory == ALICES_DOORS else "podman-crun", **where("it"))
    door = door_in(directory, container.daemon())
    other = directory / f"{container.daemon()}-1-{door.name.rpartition('-')[2]}"
    other.touch()
    age_doors()
    sweep = [LAUNCHER, "sweep"]
    run(as_user(ALICE, *sweep) if directory == ALICES_DOORS else sweep).checked()
    assert list(directory.glob("*-*")) == [door]
    assert_lands("it")


def age_doors() -> None:
    """Have no door of root's be so young that its start may not have finished."""
    for path in DOORS.glob("*-*"):
        os.utime(path, (0, 0))


def test_a_container_that_was_killed_with_its_runtime_leaves_no_door(start: Start) -> None:
    """Poststop leaves the name to the next sweep."""
    container = start("crun")
    door = door_in(DOORS, container.daemon())
    os.kill(container.init(), 9)
    call_hook({"status": "stopped", "bundle": str(container.bundle())})
    wait_for(lambda: is_gone(door), "the end of the door")  # the kernel ends what is in the container meanwhile
    age_doors()
    run([LAUNCHER, "sweep"]).checked()
    assert list(DOORS.glob("*-*")) == []


def test_another_user_can_cover_no_name_of_root(start: Start) -> None:
    """But directories of users, which are never removed, and what all can see: nothing waits for these."""
    start("crun")
    (door,) = roots_doors()
    mounting = (
        "import ctypes, sys; path = sys.argv[1].encode(); bind = 4096; "
        "sys.exit(ctypes.CDLL(None).mount(path, path, None, bind, None) != 0)"
    )
    for path, may in ((door, False), (DOORS / "0", False), (DOORS / "error", False), (DOORS, True)):
        command = as_user(BOB, "unshare", "-Urm", "python3", "-I", "-c", mounting, str(path), name="bob")
        assert (run(command).status == 0) == may, f"{path}: may is {may}"


@pytest.mark.parametrize("name", ["door", "entry"])
def test_a_file_system_of_its_user_holds_up_no_end_of_a_container(start: Start, name: str) -> None:
    """In a mount namespace of her own: whoever removes the name waits until she ends."""
    container = start("crun")
    door = door_in(DOORS, container.daemon())
    os.kill(container.init(), 9)
    with held(door if name == "door" else DOORS / "0", NO_END) as process:
        begun = time.monotonic()
        call_hook({"status": "stopped", "bundle": str(container.bundle())})
        assert time.monotonic() - begun < within(4)
        assert is_gone(door)
        assert text_of(DOORS / "0") == ""
        assert process.poll() is None


def test_a_user_who_holds_what_is_left_costs_one_process_of_root(start: Start) -> None:
    """Whatever else ends or begins meanwhile: jobs and containers of others, and sweeps."""
    start("crun")
    (door,) = roots_doors()
    left = [door.with_name(f"{2**22 - number}-1-{door.name.rpartition('-')[2]}") for number in (1, 2)]
    for path in left:
        path.touch()
    age_doors()
    of_bob = {"SLURM_JOB_UID": str(BOB)}
    before = set(processes())
    with held(left[0], NO_END) as process, held(left[1], NO_END):
        for number in range(3):
            said = run([LAUNCHER, "sweep"])
            assert said.status == 3
            words = "no answer within 0.5 s" if number == 0 else "an earlier process is still blocked on a file system"
            assert f"for uid {ALICE}: cannot remove what uid {ALICE} does not need" in said.err.decode()
            assert words in said.err.decode()
            for job in range(5000 + 20 * number, 5020 + 20 * number):
                assert slurmd.call("prolog", job, **of_bob).checked().err == b""
                assert slurmd.call("epilog", job, **of_bob).checked().err == b""
        assert len(set(processes()) - before) == 1
        assert process.poll() is None
    wait_for(lambda: run([LAUNCHER, "sweep"]).status == 0, "the process that was left behind has ended")
    assert list(DOORS.glob("*-*")) == [door]
    assert not slurmd.is_mounted(BOB)
    assert [text_of(path) for path in ENTRIES.glob(f"{BOB}/*")] == [""]
