"""Nodes whose /proc shows users no processes of others."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attached
import openssh
import pytest
from containers import (
    ALICE,
    ALICES_DOORS,
    LAUNCHER,
    as_user,
    keys,
    listening,
    run,
    run_in_time,
    running,
    wait_for,
)
from enroot import Enroot
from hook_log import Syslog
from refusals import assert_refused
from starter import Start, Starter

PORT_ANNOTATION = "com.hooks.ssh.port"


@pytest.fixture(autouse=True)
def hidepid(request: pytest.FixtureRequest) -> Iterator[None]:
    """The bed's /proc hides processes for a while."""
    run(["mount", "-o", f"remount,hidepid={getattr(request, 'param', 2)}", "/proc"]).checked()
    yield
    run(["mount", "-o", "remount,hidepid=0", "/proc"]).checked()


# Engines, and options of podman, with each kind of user namespace.
STARTS: dict[str, tuple[str, list[str]]] = {
    "crun": ("crun", []),
    "runc": ("runc", []),
    "podman-crun": ("podman-crun", []),
    "podman-crun-pid-host": ("podman-crun", ["--pid=host"]),
    "podman-crun-uidmap": ("podman-crun", ["--uidmap=0:0:65534", "--gidmap=0:0:65534"]),
    "podman-runc": ("podman-runc", []),
    "podman-runc-uidmap": ("podman-runc", ["--uidmap=0:0:65534", "--gidmap=0:0:65534"]),
    "rootless": ("rootless", []),
    "rootless-pid-host": ("rootless", ["--pid=host"]),
    "rootless-runc": ("rootless", ["--runtime=runc"]),
    "rootless-another-uid": ("rootless", ["--user=1000"]),
    "keep-id": ("rootless", ["--userns=keep-id"]),
    "keep-id-pid-host": ("rootless", ["--userns=keep-id", "--pid=host"]),
    "keep-id-runc": ("rootless", ["--userns=keep-id", "--runtime=runc"]),
    "keep-id-another-uid": ("rootless", ["--userns=keep-id:uid=1000,gid=1000"]),
    "nomap": ("rootless", ["--userns=nomap"]),
}


@pytest.mark.parametrize("hidepid", [1, 2], indirect=True)
@pytest.mark.parametrize(("engine", "options"), STARTS.values(), ids=STARTS)
def test_start_and_stop(start: Start, engine: str, options: list[str]) -> None:
    container = start(engine, "busybox", options=options)
    session = container.exec("ssh", "127.0.0.1", "echo here")
    assert session.checked().text == "here"
    container.stop().checked()  # whatever is left fails the test


def sessions() -> int:
    """The number of sessions that alice's only container has, as she sees it."""
    status = run_in_time(as_user(ALICE, LAUNCHER, "status", "--json")).checked().text
    (found,) = json.loads(status)["containers"]
    return int(found["sessions"])


@pytest.mark.parametrize("engine", ["crun", "rootless"])
@pytest.mark.parametrize("hidepid", [0, 1, 2], indirect=True)
def test_doctor_tells_what_it_costs(request: pytest.FixtureRequest, start: Start, tmp_path: Path, engine: str) -> None:
    """Nobody may trace a daemon that logs logins, nor what it starts; a rootless one logs none here."""
    is_hidden = request.node.callspec.params["hidepid"] > 0
    container = start(engine)
    answers = run_in_time(as_user(ALICE, LAUNCHER, "doctor", "--json")).text
    (kernel,) = (answer for answer in json.loads(answers) if answer["check"] == "kernel")
    assert kernel["result"] == ("warning" if is_hidden else "ok")
    assert ("/proc hides processes (hidepid)" in kernel["text"]) is is_hidden
    key = openssh.convert(keys() / "id_dropbear", tmp_path / "key")
    session = [*openssh.client(key), "alice@127.0.0.1", "exec sleep 4322"]
    with subprocess.Popen(session) as client:
        try:
            wait_for(lambda: running("sleep", "4322"), "the session")
            # More for a moment, until the process of a connection that somebody tried before has ended.
            wait_for(lambda: sessions() == (0 if is_hidden and engine == "crun" else 1), "the session alone")
        finally:
            client.kill()
    container.stop().checked()


@pytest.mark.parametrize("engine", ["ch-run", "podman", "podman-another-uid"])
def test_attach_and_detach(nothing_left: None, tmp_path: Path, engine: str) -> None:
    attached.WHERE.mkdir()
    container = attached.start(engine, attached.make_image("image"), 345691)
    try:
        attached.attach(container)
        key = openssh.convert(keys() / "id_dropbear", tmp_path / "key")
        assert openssh.login(key, "ssh 127.0.0.1 echo here", port=attached.PORT).checked().text == "here"
        attached.hook("detach").checked()
        assert attached.PORT not in listening()
    finally:
        attached.stop(container)
        shutil.rmtree(attached.WHERE)


def test_port_of_another_users(start: Starter, syslog: Syslog) -> None:
    """Its process is not named to a user who may not see it; one of her own is."""
    annotations = {PORT_ANNOTATION: "16001"}
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 16001))
        holder.listen()
        message = assert_refused(start, syslog, "crun", "16001", "by a process of uid 0", annotations=annotations)
        assert f"process {os.getpid()}" not in message
    listen = f"import socket, time; s = socket.create_server(('', 16001)); print(flush=True); time.sleep({60})"
    command = ["setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups", "python3", "-c", listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as own:
        assert own.stdout is not None
        own.stdout.readline()
        try:
            assert_refused(start, syslog, "crun", f"by process {own.pid} (python3)", annotations=annotations)
        finally:
            own.kill()


@pytest.mark.parametrize("remap", [False, True])
def test_enroot(nothing_left: None, tmp_path: Path, remap: bool) -> None:
    """The container's own first process can be seen: with --root by the watcher's capabilities, as can its sessions."""
    key = openssh.convert(keys() / "id_dropbear", tmp_path / "id")
    container = Enroot(remap=remap, env={"HOME": "/root"} if remap else {})
    try:
        container.wait_until_it_runs()
        session = [*openssh.client(key), "alice@127.0.0.1", "exec sleep 4321"]
        with subprocess.Popen(session) as client:
            try:
                wait_for(lambda: running("sleep", "4321"), "the session")
                container.end()
                wait_for(lambda: not running("sleep", "4321"), "the end of the session")
            finally:
                client.kill()
    finally:
        container.remove()


@pytest.mark.parametrize("hidepid", [1, 2], indirect=True)
def test_a_second_container_of_enroot(nothing_left: None) -> None:
    """It does not see the first one's daemon, and leaves its door."""
    first = Enroot().wait_until_it_runs()
    try:
        (door,) = ALICES_DOORS.iterdir()
        second = Enroot(requests={"OCIHOOKS_SSH": "1", "OCIHOOKS_SSH_PORT": "16001"}).wait_until_it_runs()
        try:
            assert len(list(ALICES_DOORS.iterdir())) == 2
            assert door.exists()
        finally:
            second.remove()
    finally:
        first.remove()


def test_pyxis_is_refused(nothing_left: None) -> None:
    """Its tasks have joined and not yet executed when its first process ends, and cannot be seen before that."""
    container = Enroot(requests={"OCIHOOKS_SSH": "1", "PYXIS_RUNTIME_PATH": "/run/pyxis"})
    try:
        assert container.fails().startswith("ssh_hook: error: the node's /proc hides other users' processes (hidepid)")
    finally:
        container.remove()
