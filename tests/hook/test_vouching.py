"""Whose container it is: an image may have chosen the uid, and its user's keys are nobody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from containers import ALICE, BOB, ENABLED, LAUNCHER, SETTINGS, WORK, Engine, after_login_of, run, shell_around
from hook_log import Syslog
from kinds import separate
from refusals import assert_refused
from starter import Start, Starter

USER = "com.hooks.ssh.user"
REQUIRE = {"REQUIRE_USER_ANNOTATION": "true"}
UNSET = 2**32 - 1
# As containerd and CRI-O have them, of a tenant's pod.
OF_KUBERNETES = {
    "io.kubernetes.cri.sandbox-id": "0a1b2c",
    "io.kubernetes.cri.sandbox-namespace": "tenant",
    "io.kubernetes.cri-o.SandboxName": "k8s_POD_web_tenant_0",
    "io.kubernetes.pod.namespace": "tenant",
}


@pytest.mark.parametrize("engine", ["crun", "runc"])
@pytest.mark.parametrize("settings", [{}, REQUIRE], ids=["uid", "annotation"])
def test_who_started_the_engine_gets_her_own_container(start: Start, engine: str, settings: dict[str, str]) -> None:
    container = start(engine, "busybox", launcher=after_login_of(ALICE), settings=settings)
    assert container.ssh("id -u").checked().text == str(ALICE)


@pytest.mark.parametrize("annotations", [{}, {USER: "alice"}], ids=["uid", "annotation"])
@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_nobody_gets_anothers(start: Starter, syslog: Syslog, engine: str, annotations: dict[str, str]) -> None:
    launcher = after_login_of(BOB)
    words = (f"alice (uid {ALICE})", f"uid {BOB} started its engine", f"--user {BOB}")
    assert_refused(start, syslog, engine, *words, launcher=launcher, annotations=annotations)


@pytest.mark.parametrize("uid", [0, UNSET], ids=["root", "no login"])
def test_without_a_login_the_site_says_what_it_takes(start: Starter, syslog: Syslog, uid: int) -> None:
    launcher = after_login_of(uid)
    assert start("crun", "busybox", launcher=launcher).ssh("id -u").checked().text == str(ALICE)
    for container in start._started:
        container.remove()
    start._started.clear()
    assert_refused(start, syslog, "crun", f"{USER}=alice", "its image", launcher=launcher, settings=REQUIRE)
    container = start("crun", "busybox", launcher=launcher, settings=REQUIRE, annotations={USER: "alice"})
    assert container.ssh("id -u").checked().text == str(ALICE)


@pytest.mark.parametrize("engine", ["crun", "podman-crun", "rootless"])
def test_the_name_must_be_the_containers_users(start: Starter, syslog: Syslog, engine: str) -> None:
    assert_refused(start, syslog, engine, f"{USER} is 'bob'", "alice", annotations={USER: "bob"})


def test_a_rootless_engine_is_its_users(start: Start) -> None:
    """Whatever uid an image names, the keys are those of whoever runs the engine."""
    container = start("rootless", "busybox", user="1000:1000", annotations={USER: "alice"})
    assert container.exec("ssh", "127.0.0.1", "id -u").checked().text == "1000"


@pytest.mark.parametrize("name", OF_KUBERNETES)
@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_containers_of_kubernetes_are_refused(start: Starter, syslog: Syslog, engine: str, name: str) -> None:
    annotations = {name: OF_KUBERNETES[name], USER: "alice"}
    assert_refused(start, syslog, engine, "Kubernetes", name, annotations=annotations)


def test_a_user_namespace_of_another_container_is_refused(start: Starter, syslog: Syslog) -> None:
    """Who has CAP_SYS_ADMIN there can have the kernel run another program in place of the daemon's (binfmt_misc)."""

    def own(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        mapping = [{"containerID": 0, "hostID": 0, "size": 65536}]
        config["linux"].update(uidMappings=mapping, gidMappings=mapping)

    first = start("crun", "busybox", network="private", change=own)

    def shared(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "user", "path": f"/proc/{first.init()}/ns/user"})

    assert_refused(start, syslog, "crun", "shares the user namespace", network="private", change=shared)


def test_handlers_that_execute_nothing_are_refused(start: Starter, syslog: Syslog) -> None:
    annotations = {"run.oci.handler": "krun"}  # crun's; runc does not know it
    assert_refused(start, syslog, "runc", "run.oci.handler", "krun", annotations=annotations)


@pytest.fixture
def pod() -> Iterator[str]:
    """A pod of podman's whose containers share their processes."""
    podman = Engine("podman-crun").podman
    name = "hook-test-pod"
    run([*podman, "pod", "create", "--name", name, "--share", "net,ipc,uts,pid"]).checked()
    yield name
    run([*podman, "pod", "rm", "--force", "--time=0", name]).checked()


def test_podmans_pods_go_on_working(pod: str) -> None:
    """They carry annotations of CRI-O's."""
    podman = Engine("podman-crun").podman
    options = ["--detach", "--pod", pod, "--name", f"{pod}-member", "--user", f"{ALICE}:{ALICE}"]
    options += ["--volume", "/home/alice:/home/alice", "--env", "HOME=/home/alice"]
    for key, value in ENABLED.items():
        options += ["--annotation", f"{key}={value}"]
    run([*podman, "run", *options, "localhost/ssh-test/busybox", "/bin/sleep", "1000"]).checked()
    config = Path(run([*podman, "inspect", "--format", "{{.OCIConfigPath}}", f"{pod}-member"]).checked().text)
    annotations = json.loads(config.read_text(encoding="utf-8"))["annotations"]
    assert [name for name in annotations if name.startswith("io.kubernetes.cri-o.")]
    said = run([*podman, "exec", f"{pod}-member", "ssh", "127.0.0.1", "id -u"])
    assert said.checked().text == str(ALICE)


def hidden(script: str, name: str) -> str:
    """A launcher of the hook in a mount namespace of its own, where `script` has changed what the node says."""
    inner = shell_around(WORK / f"{name}-inner", f'{script}\nhook "$@"')
    path = WORK / name
    path.write_text(f'#!/bin/sh\nexec /usr/bin/unshare --mount {inner} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_a_node_where_users_can_trace_what_they_cannot_read(start: Starter, syslog: Syslog) -> None:
    value = WORK / "suid_dumpable"
    value.write_text("1\n", encoding="ascii")
    launcher = hidden(f"/usr/bin/mount --bind {value} /proc/sys/fs/suid_dumpable", "traceable")
    assert_refused(start, syslog, "crun", "fs.suid_dumpable is 1", "sysctl", launcher=launcher)


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_a_bundle_whose_configuration_is_a_pipe(engine: str, tmp_path: Path) -> None:
    run(["mkfifo", tmp_path / "config.json"]).checked()
    state: dict[str, Any] = {"ociVersion": "1.0", "id": engine, "status": "creating", "pid": 1, "bundle": str(tmp_path)}
    done = run([LAUNCHER, "start-ssh-daemon"], json.dumps(state).encode(), env=dict(SETTINGS))
    assert done.status == 1
    said = f"ssh_hook: error: {tmp_path}/config.json is not a regular file"
    assert separate(done.err.decode()) == (said, "config-wrong")
