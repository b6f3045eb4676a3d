"""One user's containers of every engine that can be had here, which go by ssh from each to each; prints the matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import dockerd
import podman_hpc
import pytest
from containers import (
    LAUNCHER,
    SETTINGS,
    Container,
    Plain,
    Podman,
    Result,
    plain_start,
    podman_start,
    processes,
    wait_for,
)
from containers import Engine as Runtime
from enroot import Enroot
from install import template

DEVICE = ["--device", "ocihooks.org/ssh=on"]
SPEC = Path("/etc/cdi/ocihooks-ssh.json")
FIRST_PORT = 15300
BY_DEVICE = {"com.hooks.ssh.enabled": "false", "com.hooks.ssh.user": "alice"}
MODULE = """[containers]
netns = "host"
pidns = "host"
utsns = "host"
cgroupns = "host"
cgroups = "no-conmon"
[engine]
hooks_dir = ["/usr/share/containers/oci/hooks.d"]
"""


class Engine(NamedTuple):
    """A way to start a container of alice's in busybox. `start` gets the port."""

    name: str
    start: Callable[[int], Container]


def port_of(port: int) -> dict[str, str]:
    return {"com.hooks.ssh.port": str(port)}


def of_podman(engine: str, port: int, *options: str, **annotations: str) -> Podman:
    return podman_start(Runtime(engine), "busybox", options, annotations={**port_of(port), **annotations})


def of_runtime(runtime: str, port: int) -> Plain:
    return plain_start(runtime, "busybox", annotations=port_of(port))


def of_docker(port: int) -> Container:
    return dockerd.start("alices", annotations={**port_of(port), "com.hooks.ssh.user": "alice"})


def of_podman_hpc(port: int) -> Container:
    return podman_hpc.start("--ssh", "--network", "host", "--annotation", f"com.hooks.ssh.port={port}")


def of_enroot(port: int) -> Container:
    return Enroot(requests={"OCIHOOKS_SSH": "1", "OCIHOOKS_SSH_PORT": str(port)}).wait_until_it_runs()


def of_sarus_suite(port: int) -> Container:
    engine = Runtime("rootless")
    engine.podman = [*engine.podman, "--module", "hpc"]
    return podman_start(engine, "busybox", annotations=port_of(port))


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
    module = Path("/etc/containers/containers.conf.modules/hpc")
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(MODULE, encoding="utf-8")
    with ExitStack() as stack:
        stack.enter_context(dockerd.installed())
        stack.enter_context(podman_hpc.installed())
        yield
    SPEC.unlink()
    module.unlink()


def cell(source: Container, port: int) -> str:
    done: Result = source.exec("ssh", "-p", str(port), "127.0.0.1", "echo $0-$((6*7))")
    return "ok" if done.status == 0 and done.text.endswith("-42") else f"exit status {done.status}"


def matrix(rows: dict[str, list[str]]) -> str:
    width = max(map(len, rows))
    head = " " * (width + 4) + " ".join(f"{number:>3}" for number in range(1, len(rows) + 1))
    lines = [
        f"{number:>2}  {name:<{width}}" + " ".join(f"{value:>3}" for value in values)
        for number, (name, values) in enumerate(rows.items(), 1)
    ]
    return "\n".join(["", "ssh from the container of each row to that of each column:", head, *lines])


def test_from_each_to_each(site: None, nothing_left: None, capsys: pytest.CaptureFixture[str]) -> None:
    started: list[Container] = []
    try:
        for number, engine in enumerate(ENGINES):
            started.append(engine.start(FIRST_PORT + number))
        ports = range(FIRST_PORT, FIRST_PORT + len(ENGINES))
        rows = {engine.name: [cell(container, port) for port in ports] for engine, container in zip(ENGINES, started)}
        with capsys.disabled():
            print(matrix(rows))
        assert {value for values in rows.values() for value in values} == {"ok"}
    finally:
        for container in reversed(started):
            container.stop()
            container.remove()
    wait_for(lambda: not processes(), "end of the daemons")
