"""One user's containers of every engine that can be had here, which go by ssh from each to each; prints the matrix.

A second table shows that each engine keeps the same contract.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import attached
import containerd
import dockerd
import podman_hpc
import pytest
import suite
import tested
from containers import (
    ALICE,
    LAUNCHER,
    SETTINGS,
    Container,
    Plain,
    Podman,
    Result,
    as_user,
    plain_start,
    podman_start,
    processes,
    run,
    wait_for,
)
from containers import Engine as Runtime
from enroot import Enroot
from equality import LOGIN, environment
from install import template

DEVICE = ["--device", "ocihooks.org/ssh=on"]
SPEC = Path("/etc/cdi/ocihooks-ssh.json")
PART = "newest-engines" if "TREE" in os.environ else "engines"
VERSIONS = {
    "podman": ["podman", "--version"],
    "crun": ["crun", "--version"],
    "runc": ["runc", "--version"],
    "Docker": [str(dockerd.TREE / "usr/bin/docker"), "--version"],
    "containerd": [str(dockerd.TREE / "usr/bin/containerd"), "--version"],
    "podman-hpc": [str(podman_hpc.TREE / "bin/pip"), "show", "podman-hpc"],
    "Charliecloud": ["env", "USER=root", "ch-run", "--version"],
    "bubblewrap": ["bwrap", "--version"],
}
FIRST_PORT = 15300
WAIT = 7
# What a session sees, by which it is compared with its container's first process.
LOOK = "; echo ---; ".join(
    ("cat /proc/self/status", "cat /proc/self/environ", "echo $SSH_CONNECTION", "cat /opt/oci-hooks/ssh/ssh_config")
)
CONTRACT = ("login", "port", "environment", "confinement", "wait", "gate")
CONFINEMENT = ("CapInh", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Umask")
BY_DEVICE = {"com.hooks.ssh.enabled": "false", "com.hooks.ssh.user": "alice"}


class Engine(NamedTuple):
    """A way to start a container of alice's in busybox. `start` gets the port."""

    name: str
    start: Callable[[int], Container]


def asked(port: int) -> dict[str, str]:
    return {"com.hooks.ssh.port": str(port), "com.hooks.ssh.wait": str(WAIT)}


def asked_by_variables(port: int) -> dict[str, str]:
    return {"OCIHOOKS_SSH_PORT": str(port), "OCIHOOKS_SSH_WAIT": str(WAIT)}


def of_podman(engine: str, port: int, *options: str, **annotations: str) -> Podman:
    return podman_start(Runtime(engine), "busybox", options, annotations={**asked(port), **annotations})


def of_runtime(runtime: str, port: int) -> Plain:
    return plain_start(runtime, "busybox", annotations=asked(port))


def of_docker(port: int) -> Container:
    return dockerd.start("alices", annotations={**asked(port), "com.hooks.ssh.user": "alice"})


def of_ctr(port: int) -> Container:
    return containerd.start({**asked(port), "com.hooks.ssh.user": "alice"})


def of_podman_hpc(port: int) -> Container:
    annotations = [f"--annotation={name}={value}" for name, value in asked(port).items()]
    return podman_hpc.start("--ssh", "--network", "host", *annotations)


def of_enroot(port: int) -> Container:
    return Enroot(requests={"OCIHOOKS_SSH": "1", **asked_by_variables(port)}).wait_until_it_runs()


def of_sarus_suite(port: int) -> Container:
    return suite.start(asked(port))


def of_attach(engine: str, port: int) -> Container:
    """A container that has no SSH until its user attaches, in an image that has what its engine mounts on, at most."""
    image = attached.WHERE / engine
    if engine in attached.ENGINES:
        attached.make_image(engine, bare=True)
    variables = [f"{name}={value}" for name, value in asked_by_variables(port).items()]
    return attached.Attached(engine, image, 300000 + port, port, variables)


# To add an engine, add a line: it is started, reached from all others, reaches all others, and is ended.
ENGINES = (
    Engine("crun", lambda port: of_runtime("crun", port)),
    Engine("runc", lambda port: of_runtime("runc", port)),
    Engine("podman", lambda port: of_podman("podman-crun", port)),
    Engine("podman, CDI", lambda port: of_podman("podman-runc", port, *DEVICE, **BY_DEVICE)),
    Engine("rootless podman", lambda port: of_podman("rootless", port)),
    Engine("rootless podman, CDI", lambda port: of_podman("rootless", port, *DEVICE, **BY_DEVICE)),
    Engine("sarus-suite", of_sarus_suite),
    Engine("podman-hpc", of_podman_hpc),
    Engine("Docker, CDI", of_docker),
    Engine("enroot", of_enroot),
    Engine("ch-run, attach", lambda port: of_attach("ch-run", port)),
    Engine("ch-run --write, attach", lambda port: of_attach("ch-run-write", port)),
    Engine("bwrap, attach", lambda port: of_attach("bwrap", port)),
    Engine("rootless podman, attach", lambda port: of_attach("podman", port)),
    *([Engine("ctr, CDI", of_ctr)] if PART == "newest-engines" else []),  # containerd 1.7 refuses the name of a device
)


@pytest.fixture
def site() -> Iterator[None]:
    """What a site has that wants all engines."""
    SPEC.parent.mkdir(exist_ok=True)
    values = {
        "ssh_hook__launcher": LAUNCHER,
        "ssh_hook__cdi_environment": {**SETTINGS, "REQUIRE_USER_ANNOTATION": "true"},
        "ssh_hook_stages": ["createRuntime", "poststop"],
    }
    SPEC.write_text(template("cdi.json.j2", **values), encoding="utf-8")
    with ExitStack() as stack:
        stack.enter_context(dockerd.installed())
        stack.enter_context(podman_hpc.installed())
        stack.enter_context(suite.installed())
        attached.WHERE.mkdir()
        yield
        shutil.rmtree(attached.WHERE)
    SPEC.unlink()


def cell(source: Container, port: int) -> str:
    done: Result = source.exec("ssh", "-p", str(port), "127.0.0.1", "echo $0-$((6*7))")
    return "ok" if done.status == 0 and done.text.endswith("-42") else f"exit status {done.status}"


def contract(container: Container, port: int) -> list[str]:
    """What holds of CONTRACT in a session to a container from itself, by the port that is its own."""
    done = container.exec("ssh", "127.0.0.1", LOOK)
    if done.status != 0:
        return [f"exit status {done.status}"] * len(CONTRACT)
    status, variables, connection, configuration = done.out.split(b"---\n")
    first = Path(f"/proc/{container.init()}")
    wanted = environment((first / "environ").read_bytes())
    own = {name: value for name, value in wanted.items() if name.decode() not in LOGIN}
    holds = (
        True,
        connection.split()[-1] == str(port).encode(),
        own.items() <= environment(variables).items(),
        confinement(status) == confinement((first / "status").read_bytes()),
        f"ConnectTimeout {WAIT}\n".encode() in configuration,
        is_gated(port),
    )
    return ["ok" if value else "no" for value in holds]


def confinement(status: bytes) -> dict[str, str]:
    fields = dict(line.split(":\t", 1) for line in status.decode().splitlines())
    return {name: fields[name] for name in CONFINEMENT}


def is_gated(port: int) -> bool:
    """Tell whether the daemon of this port has the option of a gate; test_gate, test_cdi and test_enroot try gates."""
    lines = []
    for pid in processes():
        with suppress(OSError):  # it has ended
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    return any(b"-S" in line and str(port).encode() in line for line in lines)


def contracts(rows: dict[str, list[str]]) -> str:
    width = max(map(len, rows))
    lines = [
        f"{name:<{width}}  " + "  ".join(f"{value:<{len(what)}}" for what, value in zip(CONTRACT, values))
        for name, values in rows.items()
    ]
    return "\n".join(["", " " * (width + 2) + "  ".join(CONTRACT), *lines])


def matrix(rows: dict[str, list[str]]) -> str:
    width = max(map(len, rows))
    head = " " * (width + 4) + " ".join(f"{number:>3}" for number in range(1, len(rows) + 1))
    lines = [
        f"{number:>2}  {name:<{width}}" + " ".join(f"{value:>3}" for value in values)
        for number, (name, values) in enumerate(rows.items(), 1)
    ]
    return "\n".join(["", "ssh from the container of each row to that of each column:", head, *lines])


def test_the_sarus_suite_without_root(nothing_left: None) -> None:
    """Its shell gives podman a configuration below the user's home, which has no hooks of the site's."""
    home = Path("/home/alice/.local/state/sarus-suite/config-home")
    hooks = home / "containers/oci/hooks.d"
    settings = f'[engine]\nhooks_dir = ["{hooks}"]\n'
    alice = as_user(ALICE, "env", f"XDG_CONFIG_HOME={home}")
    run([*alice, "mkdir", "-p", str(hooks)]).checked()
    run([*alice, "sh", "-c", f"cat >{home}/containers/containers.conf"], stdin=settings.encode()).checked()
    run([*alice, "cp", "/usr/share/containers/oci/hooks.d/07-ssh-hook.json", str(hooks)]).checked()
    engine = Runtime("rootless")
    engine.podman = [*alice, "podman", "--runtime", "crun"]
    try:
        container = podman_start(engine, "busybox", annotations=asked(FIRST_PORT))
        try:
            assert container.exec("ssh", "127.0.0.1", "echo served").checked().text == "served"
        finally:
            container.stop()
            container.remove()
    finally:
        shutil.rmtree(home.parents[1])


def versions() -> dict[str, str]:
    return {name: tested.version(said(run(command).checked())) for name, command in VERSIONS.items()}


def said(done: Result) -> str:
    return (done.out + done.err).decode()


def test_the_readme_has_the_versions_of_these_engines() -> None:
    """Where they are newer, run tests/testbed/tested.py after test_from_each_to_each."""
    assert tested.lines()["engines"]["engines"] == tested.listing(versions())


def test_from_each_to_each(site: None, nothing_left: None, capsys: pytest.CaptureFixture[str]) -> None:
    started: list[Container] = []
    try:
        for number, engine in enumerate(ENGINES):
            started.append(engine.start(FIRST_PORT + number))
        ports = range(FIRST_PORT, FIRST_PORT + len(ENGINES))
        rows = {engine.name: [cell(container, port) for port in ports] for engine, container in zip(ENGINES, started)}
        held = {engine.name: contract(*pair) for engine, pair in zip(ENGINES, zip(started, ports))}
        with capsys.disabled():
            print(matrix(rows))
            print(contracts(held))
        assert {value for values in (*rows.values(), *held.values()) for value in values} == {"ok"}
    finally:
        for container in reversed(started):
            container.stop()
            container.remove()
    wait_for(lambda: not processes(), "end of the daemons")
    tested.note(PART, versions())
