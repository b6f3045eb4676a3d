"""Docker in a bed: Debian's dockerd beside a containerd of its own, without bridges and firewall rules."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from containers import (
    ALICE,
    BOB,
    IMAGES,
    LAUNCHER,
    ROOT,
    Container,
    Result,
    StartFailed,
    hook_lines,
    new_name,
    run,
    wait_for,
)
from containers import SETTINGS as SITE
from install import collection, template
from patience import within

SPEC = Path("/etc/cdi/ocihooks-ssh.json")
OF_CDI = {**SITE, "REQUIRE_USER_ANNOTATION": "true"}
TREE = Path("/") if Path("/usr/sbin/dockerd").exists() else ROOT / ".cache" / "docker"
SETTINGS = Path("/etc/docker/daemon.json")
WORK = Path("/run/docker-test")  # sockets and logs
CONTAINERD = WORK / "containerd.sock"
STATE = WORK / "containerd"
SOCKET = WORK / "docker.sock"
DOCKER = [str(TREE / "usr/bin/docker"), "--host", f"unix://{SOCKET}"]
# What a bed asks of Docker, and no word of CDI.
IN_A_BED = {
    "bridge": "none",
    "containerd": str(CONTAINERD),
    "hosts": [f"unix://{SOCKET}"],
    "ip6tables": False,
    "iptables": False,
    "storage-driver": "vfs",
}

CONFIGURATION = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'  # Kubernetes' way, with a TCP port


def docker(*arguments: str, stdin: bytes = b"") -> Result:
    """Run Docker's client."""
    return run([*DOCKER, *arguments], stdin, env={"PATH": os.environ["PATH"], "HOME": str(WORK)})


@contextmanager
def daemons() -> Iterator[None]:
    """Run containerd and dockerd, with the settings in daemon.json."""
    path = f"{TREE}/usr/bin:{TREE}/usr/sbin:{os.environ['PATH']}"
    configuration = WORK / "containerd.toml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    places = {"address": CONTAINERD, "config": configuration, "root": "/var/lib/containerd", "state": STATE}
    containerd = ["containerd", *(f"--{name}={place}" for name, place in places.items())]
    with (
        (WORK / "containerd.log").open("wb") as first_log,
        (WORK / "dockerd.log").open("wb") as second_log,
        subprocess.Popen(["env", f"PATH={path}", *containerd], stdout=first_log, stderr=first_log) as first,
        subprocess.Popen(["env", f"PATH={path}", "dockerd"], stdout=second_log, stderr=second_log) as second,
    ):
        try:
            log = WORK / "dockerd.log"
            wait_for(lambda: docker("version").status == 0 or second.poll() is not None, "Docker", seconds=60.0)
            assert second.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-2000:]
            yield
        finally:
            second.terminate()
            second.wait(within(30))
            first.terminate()
            first.wait(within(30))


class Docker(Container):
    """A container of Docker."""

    def __init__(self, name: str) -> None:
        self.name = name

    def exec(self, *command: str | bytes, stdin: bytes = b"") -> Result:
        return docker("exec", "-i", self.name, *map(os.fsdecode, command), stdin=stdin)

    def at_terminal(self, *command: str) -> list[str]:
        return [*DOCKER, "exec", "-it", self.name, *command]

    def init(self) -> int:
        return int(docker("inspect", "--format", "{{.State.Pid}}", self.name).checked().text)

    def bundle(self) -> Path:
        identity = docker("inspect", "--format", "{{.Id}}", self.name).checked().text
        return STATE / "io.containerd.runtime.v2.task" / "moby" / identity

    def stop(self) -> Result:
        return docker("stop", "--time", "0", self.name)

    def remove(self) -> None:
        docker("rm", "--force", self.name).checked()


def start(
    image: str,
    options: Sequence[str] = (),
    annotations: Mapping[str, str] | None = None,
    device: bool = True,
    network: str = "host",
) -> Docker:
    """`docker run --detach`. Raises StartFailed."""
    name = new_name()
    arguments = ["--detach", "--name", name, "--network", network]
    arguments += ["--device", "ocihooks.org/ssh=on"] * device
    for key, value in (annotations or {}).items():
        arguments += ["--annotation", f"{key}={value}"]
    done = docker("run", *arguments, *options, image, "/bin/sleep", "1000")
    if done.status != 0:
        docker("rm", "--force", name)
        said = hook_lines(done.err).removesuffix(": unknown.")  # containerd's kind of error
        raise StartFailed(done.status, said, done.err.decode(errors="replace"))
    return Docker(name)


def import_image(name: str, *changes: str) -> None:
    """Import the busybox image; `changes` are lines of a Dockerfile."""
    data = (IMAGES / "busybox.tar").read_bytes()
    docker("import", *(word for change in changes for word in ("--change", change)), "-", name, stdin=data).checked()


@contextmanager
def cdi_spec() -> Iterator[None]:
    """Have the role's CDI spec, by the role's own check."""
    values = {
        "ssh_hook__launcher": LAUNCHER,
        "ssh_hook__cdi_environment": OF_CDI,
        "ssh_hook_stages": ["createRuntime", "poststop"],
    }
    SPEC.parent.mkdir(exist_ok=True)
    text = template("cdi.json.j2", **values)
    assert collection("_oci_json").refusal(str(SPEC), "cdi", text) is None
    SPEC.write_text(text, encoding="utf-8")
    yield
    SPEC.unlink()


@contextmanager
def installed() -> Iterator[None]:
    """Run Docker with CDI as the role switches it on, and with images of alice and of bob."""
    WORK.mkdir(exist_ok=True)
    SETTINGS.parent.mkdir(exist_ok=True)
    SETTINGS.write_text(json.dumps(IN_A_BED), encoding="utf-8")
    assert collection("_docker").switch_on(str(SETTINGS), check=False) is not None
    with daemons():
        import_image("plain")
        import_image("alices", f"USER {ALICE}")
        import_image("bobs", f"USER {BOB}", "LABEL com.hooks.ssh.user=bob")
        yield
    SETTINGS.unlink()
