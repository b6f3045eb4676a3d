"""The hook called through the CDI device ocihooks.org/ssh=on: podman and Docker, and what names the hook twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dockerd
import pytest
from containers import (
    ALICE,
    BOB,
    LAUNCHER,
    PORT,
    SETTINGS,
    WORK,
    Container,
    Engine,
    Result,
    StartFailed,
    as_user,
    hook_json,
    listening,
    plain_create,
    podman_start,
    processes,
    records,
    run,
    run_in_time,
    shell_around,
    wait_for,
)
from dockerd import OF_CDI, SPEC
from hook_log import Syslog
from patience import within
from recorded import describe, write_record
from refusals import assert_one_line, assert_refused
from starter import Start

DEVICE = ["--device", "ocihooks.org/ssh=on"]
USER = "com.hooks.ssh.user"
NAMED = {USER: "alice"}
BY_DEVICE_ALONE = {"com.hooks.ssh.enabled": "false"}  # what hooks.d asks for is not there


@pytest.fixture(scope="module", autouse=True)
def spec() -> Iterator[None]:
    with dockerd.cdi_spec():
        yield


def assert_one_daemon(container: Container) -> None:
    """A login works, and there is one daemon."""
    assert container.ssh("exit 7").status == 7
    assert container.ssh("id -u").checked().text == container.exec("id", "-u").checked().text
    wait_for(lambda: dropbears() == 2 * ["dropbear"], "one daemon with its server, and the end of the sessions")


def dropbears() -> list[str]:
    """The names of the processes of Dropbear: daemons, their servers, and sessions that have not ended yet."""
    return [name for name in processes().values() if name.startswith("dropbear")]


def assert_nothing_after(container: Container) -> None:
    """Its end leaves nothing."""
    container.stop().checked()
    wait_for(lambda: not processes() and PORT not in listening() and not records(), "end of the daemon and its record")


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "rootless"])
def test_login_by_the_device_alone(start: Start, engine: str) -> None:
    annotations = BY_DEVICE_ALONE if engine == "rootless" else {**BY_DEVICE_ALONE, **NAMED}
    container = start(engine, "busybox", options=DEVICE, annotations=annotations)
    assert_one_daemon(container)
    assert_nothing_after(container)


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "rootless"])
def test_device_and_hooks_directory_start_one_daemon(start: Start, engine: str) -> None:
    container = start(engine, "busybox", options=DEVICE, annotations=NAMED)
    config = json.loads((container.bundle() / "config.json").read_text(encoding="utf-8"))
    assert [hook["path"] for hook in config["hooks"]["createRuntime"]] == [LAUNCHER, LAUNCHER]
    assert_one_daemon(container)
    assert_nothing_after(container)


def test_a_restart_starts_another_daemon(start: Start) -> None:
    container = start("podman-crun", "busybox", options=DEVICE, annotations=NAMED)
    first = container.daemon()
    run(["podman", "restart", "-t0", container.name]).checked()
    assert container.daemon() != first
    assert_one_daemon(container)


@pytest.mark.parametrize("order", [(SETTINGS, OF_CDI), (OF_CDI, SETTINGS)], ids=["hooks.d first", "device first"])
@pytest.mark.parametrize("stage", ["createRuntime", "createContainer"])
@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_both_orders(start: Start, runtime: str, stage: str, order: tuple[Mapping[str, str], ...]) -> None:
    log = WORK / "twice"
    launcher = shell_around(WORK / "twice-hook", f'exec >>{log}; hook "$@"; status=$?; echo "$status"; exit "$status"')

    def twice(config: dict[str, Any]) -> None:
        join = {"JOIN_NAMESPACES": "true" if stage == "createRuntime" else "false"}
        hooks = [hook_json({**settings, **join}, launcher) for settings in order]
        config["hooks"] = {stage: hooks, "poststop": hooks}

    try:
        container = start(runtime, "busybox", change=twice, annotations={**NAMED, "com.hooks.logging.level": "1"})
        assert_one_daemon(container)
        assert_nothing_after(container)
        said = log.read_text(encoding="utf-8")
    finally:
        log.unlink()
    assert re.findall("listens on port|nothing to do|^[0-9]+$", said, re.MULTILINE) == [
        *("listens on port", "0", "nothing to do", "0"),
        *("0", "0"),  # poststop
    ]


def test_the_record_of_an_earlier_start_does_not_count(canary: Any) -> None:
    container = plain_create("crun", "busybox")
    try:
        write_record(container.directory, {**describe(canary.pid), "bundle": container.directory})
        container.start().checked()
        assert_one_daemon(container)
        assert_nothing_after(container)
    finally:
        container.remove()


def test_a_rootful_engine_without_a_login_has_the_user_named(start: Start, syslog: Syslog) -> None:
    options: dict[str, Any] = {"image": "busybox", "options": DEVICE, "annotations": BY_DEVICE_ALONE}
    assert_refused(start, syslog, "podman-crun", f"{USER}=alice", "its image may have chosen", **options)


def test_a_rootful_engine_of_a_login_knows_the_user() -> None:
    engine = Engine("podman-crun")
    as_alice = ["sh", "-c", f'echo {ALICE} >/proc/self/loginuid && exec "$@"', "-"]
    engine.podman = [*as_alice, *engine.podman]
    container = podman_start(engine, "busybox", options=DEVICE, annotations=BY_DEVICE_ALONE)
    engine.podman = engine.podman[len(as_alice) :]
    try:
        assert_one_daemon(container)
    finally:
        container.remove()


# Containers that a file declares, as the docs show it.

IMAGE = "localhost/ssh-test/busybox"
ANNOTATION = "com.hooks.ssh.enabled"
POD = """
apiVersion: v1
kind: Pod
metadata:
  name: solver
  annotations:
    com.hooks.ssh.enabled: "true"
spec:
  hostNetwork: true
  containers:
    - {name: main, image: IMAGE, imagePullPolicy: Never, command: [/bin/sleep, "1000"]}
"""
# Two containers, one with the device.
TWO = """
apiVersion: v1
kind: Pod
metadata:
  name: solver
spec:
  hostNetwork: true
  containers:
    - name: main
      image: IMAGE
      imagePullPolicy: Never
      command: [/bin/sleep, "1000"]
      resources: {limits: {ocihooks.org/ssh=on: 1}}
    - {name: other, image: IMAGE, imagePullPolicy: Never, command: [/bin/sleep, "1000"]}
"""
COMPOSE = """
services:
  solver:
    image: plain
    command: [/bin/sleep, "1000"]
    user: "2001:2001"
    network_mode: host
    annotations: {com.hooks.ssh.user: alice}
    deploy:
      resources:
        reservations:
          devices: [{driver: cdi, device_ids: ["ocihooks.org/ssh=on"], capabilities: [gpu]}]
"""


def alices_podman(*arguments: str, stdin: str = "") -> Result:
    return run(as_user(ALICE, "podman", *arguments), stdin=stdin.encode(), cwd="/run")


def served() -> list[str]:
    """Names of alice's containers with SSH, by `ssh_hook status`."""
    lines = run_in_time(as_user(ALICE, LAUNCHER, "status")).checked().text.splitlines()
    return [line.split()[2] for line in lines if " podman " in line]


@contextmanager
def played(declared: str) -> Iterator[None]:
    """Meanwhile the pods that `declared` describes run."""
    try:
        alices_podman("kube", "play", "-", stdin=declared).checked()
        yield
    finally:
        alices_podman("kube", "down", "-", stdin=declared).checked()


@pytest.mark.parametrize("pod", [POD, TWO], ids=["annotation", "device of one of two"])
def test_kube_play(nothing_left: None, pod: str) -> None:
    with played(pod.replace("IMAGE", IMAGE)):
        assert alices_podman("exec", "solver-main", "ssh", "127.0.0.1", "echo there").checked().text == "there"
        assert served() == ["solver-main"]


def test_kube_generate(nothing_left: None) -> None:
    """What it writes has neither the device nor an annotation that calls the hook, and `status` says so."""
    with played(POD.replace("IMAGE", IMAGE)):
        generated = alices_podman("kube", "generate", "solver").checked().text
    with played(generated.replace("Always", "Never")):
        assert served() == []
        said = run_in_time(as_user(ALICE, LAUNCHER, "status")).checked().err.decode()
        assert "com.hooks.ssh.enabled instead of com.hooks.ssh.enabled/solver-main" in said


LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]  # buildah's own may be above the machine's


def test_buildah_without_root_calls_no_hook(nothing_left: None) -> None:
    """podman gives the image that it makes SSH."""

    def buildah(*arguments: str) -> Result:
        return run(as_user(ALICE, "buildah", *arguments), cwd="/run")

    name = buildah("from", "--pull-never", *LIMITS, IMAGE).checked().text
    try:
        buildah("config", "--annotation", f"{ANNOTATION}=true", name).checked()
        said = buildah("run", "--network=host", name, "sh", "-c", "ssh 127.0.0.1 echo there || ls /opt")
        assert said.status != 0 and b"ssh: not found" in said.err and b"/opt: No such file" in said.err, said
        buildah("commit", name, "localhost/built").checked()
    finally:
        buildah("rm", name).checked()
    options = ["--rm", "--network=host", f"--annotation={ANNOTATION}=true"]
    assert alices_podman("run", *options, "localhost/built", "ssh", "127.0.0.1", "echo there").checked().text == "there"
    alices_podman("rmi", "localhost/built").checked()


def test_buildah_of_root_takes_the_images_annotation(nothing_left: None) -> None:
    """It calls the hook where the image has the annotation; podman looks at its own command line alone."""
    made = run(["buildah", "from", "--pull-never", *LIMITS, IMAGE]).checked().text
    run(["buildah", "config", "--annotation", f"{ANNOTATION}=true", made]).checked()
    run(["buildah", "commit", "--rm", made, "localhost/built"]).checked()
    name = run(["buildah", "from", "--pull-never", *LIMITS, "localhost/built"]).checked().text
    try:
        ssh = ["ssh", "127.0.0.1", "echo there"]
        options = ["--user", f"{ALICE}:{ALICE}", "--network", "host"]
        assert run(["buildah", "run", *options, name, "--", *ssh]).checked().text == "there"
        by_podman = run(
            ["podman", "run", "--rm", "--user", f"{ALICE}:{ALICE}", "--network=host", "localhost/built", *ssh]
        )
        assert by_podman.status == 127 and b"`ssh` not found" in by_podman.err, by_podman
    finally:
        run(["buildah", "rm", name]).checked()
        run(["podman", "rmi", "localhost/built"]).checked()


@pytest.fixture(scope="module")
def docker() -> Iterator[None]:
    """Docker, in whose configuration the role has switched on CDI, with images that have users of their own."""
    with dockerd.installed():
        yield


@pytest.fixture
def started(docker: None, nothing_left: None) -> Iterator[list[dockerd.Docker]]:
    """Containers of Docker that are removed at the end."""
    containers: list[dockerd.Docker] = []
    yield containers
    for container in containers:
        container.remove()


HOME = ["--volume", "/home/alice:/home/alice", "--env", "HOME=/home/alice"]


@pytest.mark.parametrize(
    ("image", "options"),
    [("plain", ["--user", f"{ALICE}:{ALICE}", *HOME]), ("plain", ["--user", f"{ALICE}:{ALICE}"]), ("alices", [])],
    ids=["with her home", "without a home", "user of the image"],
)
def test_docker_login(started: list[dockerd.Docker], image: str, options: list[str]) -> None:
    container = dockerd.start(image, options, NAMED)
    started.append(container)
    assert_one_daemon(container)
    assert_nothing_after(container)


def test_docker_with_an_entrypoint_that_exports(started: list[dockerd.Docker]) -> None:
    entry = WORK / "entry"
    entry.write_text('#!/bin/sh\nexport EXPORTED="it\'s new"\nexec "$@"\n', encoding="utf-8")
    entry.chmod(0o755)
    try:
        container = dockerd.start("alices", ["--volume", f"{entry}:/entry:ro", "--entrypoint", "/entry"], NAMED)
        started.append(container)
        program = Path(f"/proc/{container.init()}/comm")
        wait_for(lambda: program.read_text(encoding="utf-8") == "sleep\n", "the container's program")
        assert container.ssh("echo $EXPORTED").checked().text == "it's new"
    finally:
        entry.unlink()


def test_docker_login_in_a_network_of_its_own(started: list[dockerd.Docker]) -> None:
    container = dockerd.start("alices", annotations=NAMED, network="none")
    started.append(container)
    assert PORT not in listening()
    assert_one_daemon(container)
    assert_nothing_after(container)


def test_docker_restart(started: list[dockerd.Docker]) -> None:
    container = dockerd.start("alices", annotations=NAMED)
    started.append(container)
    first = container.daemon()
    dockerd.docker("restart", "--time", "0", container.name).checked()
    assert container.daemon() != first
    assert_one_daemon(container)
    assert_nothing_after(container)


def test_docker_compose(docker: None, nothing_left: None, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(COMPOSE, encoding="utf-8")
    program = f"{dockerd.TREE}/usr/libexec/docker/cli-plugins/docker-compose"
    environment = {"DOCKER_HOST": f"unix://{dockerd.SOCKET}", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}

    def compose(*arguments: str) -> Result:
        return run([program, "--project-name", "job", "--file", file, *arguments], env=environment)

    try:
        compose("up", "--detach").checked()
        there = ("exec", "-T", "solver", "ssh", "127.0.0.1", "id -u")
        assert compose(*there).checked().text == str(ALICE)
    finally:
        compose("down", "--timeout", "0").checked()


@pytest.fixture
def held() -> Iterator[Path]:
    """A file while which there is, the device hold.test/start=on holds a start up, after createRuntime."""
    file, spec = WORK / "held", SPEC.with_name("hold.json")
    file.touch()
    wait = f"for i in $(seq 2400); do [ -e {file} ] || exit 0; sleep 0.05; done; exit 1"
    hook = {"hookName": "createContainer", "path": "/bin/sh", "args": ["sh", "-c", wait]}
    device = {"name": "on", "containerEdits": {"hooks": [hook]}}
    text = json.dumps({"cdiVersion": "0.6.0", "kind": "hold.test/start", "devices": [device]})
    spec.write_text(text, encoding="utf-8")
    yield file
    spec.unlink()
    file.unlink(missing_ok=True)


def test_docker_serves_nobody_before_the_program_runs(started: list[dockerd.Docker], held: Path) -> None:
    with ThreadPoolExecutor() as pool:
        starting = pool.submit(dockerd.start, "alices", ["--device", "hold.test/start=on"], NAMED)
        try:
            wait_for(lambda: PORT in listening(), "the daemon")
            with socket.create_connection(("127.0.0.1", PORT), timeout=0.5) as early:
                with pytest.raises(TimeoutError):
                    early.recv(64)
                held.unlink()
                early.settimeout(within(5))
                assert early.recv(64).startswith(b"SSH-2.0-")
        finally:
            held.unlink(missing_ok=True)
        started.append(starting.result())
    assert_one_daemon(started[0])


def test_docker_without_the_device(started: list[dockerd.Docker]) -> None:
    """Its user, who may ask Docker, is told, and no other user of it is."""
    started.append(dockerd.start("alices", annotations={"com.hooks.ssh.enabled": "true"}, device=False))
    assert not processes()
    path = f"PATH={dockerd.TREE}/usr/bin:/usr/bin:/bin"
    docker = [path, f"DOCKER_HOST=unix://{dockerd.SOCKET}", f"HOME={dockerd.WORK}"]
    os.chmod(dockerd.SOCKET, 0o666)
    try:
        told = run_in_time(as_user(ALICE, "env", *docker, LAUNCHER, "status")).checked().err.decode()
        others = run_in_time(as_user(BOB, "env", *docker, LAUNCHER, "status")).checked().err.decode()
    finally:
        os.chmod(dockerd.SOCKET, 0o660)
    assert f"your container {started[0].name} (docker, " in told
    assert (
        "Docker ignores the annotation com.hooks.ssh.enabled: start it again with --device ocihooks.org/ssh=on" in told
    )
    assert others == ""


def test_podman_that_is_called_docker(start: Start) -> None:
    """It is not asked, since it would make a store: its containers are known already."""
    silent = start("rootless", "busybox", enabled=False, annotations={"com.hooks.ssh.enable": "true"})
    home = WORK / "home"
    home.mkdir()
    os.chown(home, ALICE, ALICE)
    try:
        variables = [f"PATH={dockerd.TREE}/emulated/usr/bin:/usr/bin:/bin", f"HOME={home}"]
        told = run_in_time(as_user(ALICE, "env", *variables, LAUNCHER, "status")).checked().err.decode()
        (warning,) = told.splitlines()
        assert f"your container {silent.name} (podman, " in warning
        assert not (home / ".local").exists()
    finally:
        shutil.rmtree(home)


@pytest.mark.parametrize(
    ("image", "options", "annotations", "words"),
    [
        ("alices", [], {}, (f"alice (uid {ALICE})", "its image may have chosen", f"{USER}=alice")),
        ("plain", ["--user", str(ALICE)], {}, (f"{USER}=alice",)),
        ("bobs", [], {}, (f"bob (uid {BOB})", f"{USER}=bob")),  # a label is no annotation
        ("bobs", [], NAMED, (f"{USER} is 'alice'", f"bob (uid {BOB})")),
        ("plain", [], NAMED, (f"{USER} is 'alice'", "root (uid 0)")),
        ("plain", ["--user", "4711"], NAMED, ("no user has the uid 4711",)),
    ],
    ids=["image", "option", "label", "image of another", "root", "nobody"],
)
def test_docker_refuses(
    docker: None,
    nothing_left: None,
    image: str,
    options: list[str],
    annotations: dict[str, str],
    words: tuple[str, ...],
) -> None:
    with pytest.raises(StartFailed) as failure:
        dockerd.start(image, options, annotations)
    assert failure.value.status == 125
    assert_one_line(failure.value.hook + "\n", *words)
