"""`ssh_hook connect`: from a login node into the user's container by the node's own sshd, with no port to know.

More of its way by the door: test_door.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import node_sshd
import pytest
from containers import (
    ALICE,
    ALICES_DOORS,
    BOB,
    DOORS,
    LAUNCHER,
    Result,
    as_user,
    run,
    run_in_time,
    wait_for,
    wait_until_found,
)
from held import NO_MEMORY, held
from patience import within
from starter import Start

HOME = Path("/home/alice")
CLIENT = HOME / ".oci-hooks/ssh/client"
NODE = "node002"  # the bed's own sshd stands for it


@pytest.fixture(scope="module", autouse=True)
def configured() -> Iterator[None]:
    """What a user does once; alice's ssh finds the bed's sshd where it looks for a node."""
    told = run(as_user(ALICE, LAUNCHER, "client-config")).checked().text.splitlines()
    with node_sshd.configured(HOME / ".ssh", NODE, told[1]):
        yield
    shutil.rmtree(CLIENT)


def ssh(host: str, *arguments: str, stdin: bytes = b"", path: str = "") -> Result:
    """Run alice's ssh on the login node; `path` comes before the others in PATH."""
    command = ["ssh", "-o", "BatchMode=yes", host, *arguments]
    if path:
        command = ["env", f"PATH={path}:/usr/bin:/bin", *command]
    wait_until_found()
    return run(as_user(ALICE, *command), stdin)


def assert_lands(result: Result, name: str) -> None:
    assert (result.status, result.out) == (7, f"{name}\n".encode()), result.err


def where(name: str) -> dict[str, Any]:
    """The option that gives a container the variable by which it tells where a session landed."""
    return {"env": {"LANDED": name}}


def close_doors() -> None:
    """Leave no way but ports, as after a logout."""
    for directory in (DOORS, ALICES_DOORS):
        for door in directory.glob("*-*-*"):
            door.unlink()


SAY = "echo $LANDED; exit 7"


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "rootless", "crun", "runc"])
def test_only_container_on_a_node(start: Start, engine: str) -> None:
    start(engine, annotations={"com.hooks.ssh.port": "16789"}, **where("it"))
    assert_lands(ssh(f"{NODE}.container", SAY), "it")


@pytest.mark.parametrize(
    "options", [[], ["--userns=keep-id"], ["--user", "1000"]], ids=lambda it: "".join(it) or "root"
)
def test_rootless_container_with_a_network_of_its_own(start: Start, options: list[str]) -> None:
    """No port of it is published: without a door the command joins the network."""
    start("rootless", options=options, network="pasta", **where("it"))
    close_doors()
    assert_lands(ssh(f"{NODE}.container", SAY), "it")


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc"])
def test_rootful_container_with_a_network_of_its_own(start: Start, engine: str) -> None:
    container = start(engine, network="bridge", options=["--publish", "15263:15263"], **where("it"))
    close_doors()
    assert_lands(ssh(f"{NODE}.container", SAY), "it")
    container.stop()
    start(engine, network="bridge")
    close_doors()
    refused = ssh(f"{NODE}.container", SAY)
    assert refused.status == 255
    assert b"it has its own network: publish its port (podman: --publish 15263:15263" in refused.err
    assert refused.err.count(b"ssh_hook: error: ") == 1


def test_processes_that_do_not_answer(start: Start) -> None:
    """Three that could be daemons, by their name: a read of their command lines hangs. Nobody reads them."""
    start("rootless", **where("it"))
    with held(Path("/"), NO_MEMORY):
        result = ssh(f"{NODE}.container", SAY)
        assert_lands(result, "it")
        told = run(as_user(ALICE, LAUNCHER, "status", "--json")).checked()
        doctor = run_in_time(as_user(ALICE, LAUNCHER, "doctor"))
    for said in (result.err, told.err, doctor.err):
        assert b"cannot read the memory" not in said
    (found,) = json.loads(told.out)["containers"]
    assert found["port"] == 15263
    assert "containers with an SSH daemon: 1, all respond" in doctor.text


def test_several_containers(start: Start) -> None:
    first = start("rootless", **where("first"))
    second = start("podman-crun", annotations={"com.hooks.ssh.port": "16801"}, **where("second"))
    refused = ssh(f"{NODE}.container", SAY)
    assert refused.status == 255
    for word in (
        "you have 2 containers on",
        "choose one with --name NAME or PID in the ProxyCommand",
        first.name,
        second.name,
        "port 16801",
    ):
        assert word.encode() in refused.err, refused.err
    for container, name in ((first, "first"), (second, "second")):
        assert f"{container.daemon()} ({container.name}".encode() in refused.err
        for chosen in (container.name, str(container.daemon()), container.bundle().parent.name[:12]):
            proxy = f"-oProxyCommand={LAUNCHER} connect --name {chosen} {NODE}"
            assert_lands(ssh(f"{NODE}.container", proxy, SAY), name)


def scheduler(directory: Path, script: str) -> str:
    """Put a command squeue into `directory`; returns that."""
    directory.chmod(0o755)
    for parent in directory.parents:
        if str(parent).startswith("/tmp/pytest"):
            parent.chmod(0o755)
    (directory / "squeue").write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    (directory / "squeue").chmod(0o755)
    return str(directory)


def test_container_of_a_job(start: Start, tmp_path: Path) -> None:
    """By the name that the guide gives it, by the job's variables, and by nothing that another job has."""
    start("rootless", name="job1234", **where("by name"))
    start("rootless", annotations={"com.hooks.ssh.port": "16801"}, env={"SLURM_JOB_ID": "98", "LANDED": "by variable"})
    task = {"SLURM_JOB_ID": "1239", "SLURM_ARRAY_JOB_ID": "1238", "SLURM_ARRAY_TASK_ID": "5", "LANDED": "by task"}
    start("rootless", annotations={"com.hooks.ssh.port": "16802"}, env=task)
    script = f"""case $3 in
    7) echo "7 7 PENDING " ;;
    1238) echo "1238 1238_[6-9] PENDING "; echo "1239 1238_5 RUNNING {NODE}" ;;
    1238_5) echo "1239 1238_5 RUNNING {NODE}" ;;
    *) echo "$3 $3 RUNNING {NODE},node003" ;;
esac"""
    path = scheduler(tmp_path, script)
    for host in ("job1238_5", "job1238"):
        assert_lands(ssh(host, SAY, path=path), "by task")
    for host in ("job1238_5", "job1238"):  # by the container's variables
        assert_lands(ssh(f"{NODE}.{host}", SAY), "by task")
    assert_lands(ssh("job1234", SAY, path=path), "by name")
    assert_lands(ssh(f"{NODE}.job98", SAY), "by variable")
    other = ssh(f"{NODE}.job12", SAY)
    assert b"no container of job 12 has an SSH daemon on" in other.err
    assert b"your containers there: " in other.err
    assert b"job 7 has no node yet (pending)" in ssh("job7", SAY, path=path).err
    for container in ("job1234",):
        run(as_user(ALICE, "podman", "rm", "-f", "-t0", container)).checked()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "Slurm has no job 5: slurm_load_jobs"),
        ("exit 0", "job 5 has ended: see sacct --jobs 5"),
    ],
)
def test_job_that_slurm_does_not_know(tmp_path: Path, script: str, words: str) -> None:
    assert words.encode() in ssh("job5", SAY, path=scheduler(tmp_path, script)).err


def test_no_container(start: Start) -> None:
    refused = ssh(f"{NODE}.container", SAY)
    assert refused.status == 255
    assert b"you have no container with an SSH daemon on" in refused.err
    assert b"'ssh_hook why'" in refused.err


def test_containers_of_others_are_not_seen(start: Start) -> None:
    start("podman-crun", user=f"{ALICE}:{ALICE}")
    done = run(as_user(BOB, LAUNCHER, "connect", "localhost", name="bob"))
    assert done.status == 1
    assert b"you have no container with an SSH daemon" in done.err


@pytest.mark.parametrize("word", ["-oProxyCommand=x", "a b", "$(id)", "a;id", "`id`", "x" * 300])
def test_nothing_of_a_name_reaches_a_shell(word: str) -> None:
    for words in (["--", word], ["--name", word, NODE], ["--job", word, NODE]):
        done = run(as_user(ALICE, LAUNCHER, "connect", *words))
        assert done.status == 1
        assert done.err.startswith(b"ssh_hook: error: "), done.err
        assert done.err.count(b"\n") == 1


def test_much_data_both_ways(start: Start) -> None:
    """By the port."""
    start("rootless", network="pasta")
    close_doors()
    data = os.urandom(1 << 24)
    assert ssh(f"{NODE}.container", "cat", stdin=data).out == data
    assert ssh(f"{NODE}.container", "head -c 20000000 /dev/zero | wc -c").text == "20000000"


def test_what_an_editor_does(start: Start) -> None:
    """A shell on standard input, a file by scp, a forward to a loopback port, several sessions on one connection."""
    start("podman-crun", **where("it"))
    host = f"{NODE}.container"
    assert b"it\n" in ssh("-T", host, "sh", stdin=b"echo $LANDED\n").out
    source = HOME / "source"
    source.write_bytes(b"content")
    try:
        run(as_user(ALICE, "scp", "-q", "-o", "BatchMode=yes", str(source), f"{host}:/tmp/copy")).checked()
        assert ssh(host, "cat /tmp/copy").out == b"content"
    finally:
        source.unlink()
    control = f"-oControlPath={HOME}/control"
    master = as_user(ALICE, "ssh", "-MN", control, "-L", "18123:127.0.0.1:15263", host)
    with subprocess.Popen(master) as process:
        try:
            wait_for(lambda: ssh(host, control, "-O", "check").status == 0, "the shared connection")
            sessions = [subprocess.Popen(as_user(ALICE, "ssh", control, host, "exit 7")) for _number in range(10)]
            assert [session.wait(within(20)) for session in sessions] == [7] * 10
            answer = run(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/18123; head -c 4 <&3"]).checked()
            assert answer.out == b"SSH-"
        finally:
            process.terminate()


PAGE = """use Socket;
socket(my $server, PF_UNIX, SOCK_STREAM, 0);
umask(0077);
bind($server, sockaddr_un("/tmp/page"));
listen($server, 5);
while (accept(my $client, $server)) { syswrite($client, "HTTP/1.0 200 OK\\r\\n\\r\\nit"); close($client); }
"""


def test_a_page_at_a_unix_socket_of_the_container(start: Start) -> None:
    """As Jupyter serves it where other users share the node: the container has no port that they could connect to."""
    container = start("rootless", command=["perl", "-e", PAGE])
    wait_for(lambda: container.exec("test", "-S", "/tmp/page").status == 0, "the page")
    with subprocess.Popen(as_user(ALICE, "ssh", "-N", "-L", "18888:/tmp/page", f"{NODE}.container")) as forward:
        try:
            wait_for(lambda: run(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/18888"]).status == 0, "the forward")
            assert run(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/18888; cat <&3"]).checked().text.endswith("it")
        finally:
            forward.terminate()


def test_nothing_is_left_when_ssh_is_killed(start: Start) -> None:
    container = start("podman-crun")
    with subprocess.Popen(as_user(ALICE, "ssh", f"{NODE}.container", "echo; sleep 1000"), stdout=subprocess.PIPE) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == b"\n"
        assert connects() > 0
        it.kill()
    wait_for(lambda: connects() == 0, "end of ssh_hook connect")
    container.stop().checked()


def connects() -> int:
    """The number of processes that are `ssh_hook connect` on the node."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            lines.append(path.read_bytes().split(b"\0"))
    return sum(b"connect" in line for line in lines)


def test_status_logs_in_as_users_do(start: Start, tmp_path: Path) -> None:
    container = start("rootless", network="host")
    wait_until_found()
    told = run_in_time(as_user(ALICE, LAUNCHER, "status", "--json")).checked()
    assert (json.loads(told.out)["containers"][0]["login_problem"], told.err) == ("", b"")
    with tempfile.TemporaryDirectory(dir="/run") as base:  # a home with other keys
        home = Path(base, "alice")
        home.mkdir(mode=0o700)
        Path(base).chmod(0o755)
        os.chown(home, ALICE, ALICE)
        others = as_user(ALICE, "env", f"HOOK_BASE_DIR={base}", LAUNCHER)
        run([*others, "keygen"]).checked()
        told = run([*others, "status"]).checked()
    expected = (
        f"cannot log in to the container {container.name}, port 15263: not your container, or one that started before"
    )
    assert expected in told.err.decode(), told.err


def test_status_of_hosts(start: Start) -> None:
    container = start("rootless")
    wait_until_found()
    done = run(as_user(ALICE, LAUNCHER, "status", "--hosts", f"{NODE},no-such-node"))
    assert done.status == 1
    assert b"ssh_hook: error: no-such-node: " in done.err
    assert done.text.splitlines()[-1].split()[:3] == [NODE, "15263", container.name]
