"""podman under a distribution's own SELinux policy, enforcing: it labels containers, of root's and of alice's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slurmd
from containers import ALICES_DOORS, DOORS, LAUNCHER, Container, podman_start, run, wait_for
from labels import assert_all_labelled, assert_lands_by_door, label
from starter import Start

HOME = ["--volume", "/home/alice:/home/alice"]  # which rootful containers have anyway
ENGINES: dict[str, dict[str, Any]] = {
    "podman-crun": {},
    "podman-runc": {},
    "rootless": {"options": HOME},
    "rootless with the own uid": {"options": [*HOME, "--userns=keep-id"], "user": "2001:2001"},
}
ENFORCE = Path("/sys/fs/selinux/enforce")
# Of what systemd starts and the policy has no rule for, as slurmd and its steps.
AS_SERVICE = ["runcon", "system_u:system_r:unconfined_service_t:s0"]


@pytest.fixture(scope="module", autouse=True)
def enforcing() -> None:
    ENFORCE.write_text("1", encoding="ascii")
    assert ENFORCE.read_text(encoding="ascii") == "1"
    assert label(os.getpid()).startswith("unconfined_u:unconfined_r:unconfined_t:")


@pytest.fixture(autouse=True)
def no_denial(nothing_left: None) -> Iterator[None]:
    """The kernel denies nothing to the hook or to Dropbear."""
    run(["dmesg", "--clear"]).checked()
    yield
    denied = [line for line in run(["dmesg"]).checked().text.splitlines() if "avc:  denied" in line]
    assert [line for line in denied if 'comm="sh"' not in line] == []  # a session's shell


def doors() -> list[Path]:
    return [path for directory in (DOORS, ALICES_DOORS) if directory.exists() for path in directory.iterdir()]


def socket_type(door: Path) -> str:
    """User, role and type of the socket that listens there. A connection of it has the caller's categories."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(door))
        told = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERSEC, 256).decode("ascii")
    return ":".join(told.split(":")[:3])


def begin(start: Start, engine: str, **options: object) -> Container:
    return start(engine.split()[0], "busybox", **{**ENGINES[engine], **options})


@pytest.mark.parametrize("engine", ENGINES)
def test_labels(start: Start, engine: str) -> None:
    container = begin(start, engine)
    known = label(container.init())
    assert ":container_t:s0:c" in known
    assert_all_labelled(container, known)
    assert_lands_by_door(known)
    assert container.ssh("echo x >/home/alice/x").status == 1  # its volume was not labelled for it
    container.stop().checked()
    wait_for(lambda: not doors(), "end of the door")


@pytest.mark.parametrize("network", ["host", "none"])
@pytest.mark.parametrize("engine", ENGINES)
def test_door_alone(start: Start, engine: str, network: str) -> None:
    container = begin(start, engine, network=network, annotations={"com.hooks.ssh.port": "none"})
    (door,) = doors()
    known = label(container.init())
    assert known.startswith(f"{socket_type(door)}:s0:c")
    assert_lands_by_door(known)


def test_the_directory_of_a_job(start: Start) -> None:
    """A service makes it, and starts the step of alice's whose container has its door there."""
    slurmd.call("prolog", 4242, AS_SERVICE).checked()
    engine = slurmd.rootless_in(slurmd.step(4242))
    engine.podman = [*AS_SERVICE, *engine.podman]
    try:
        container = podman_start(engine, "busybox")
        try:
            assert len(list(slurmd.DOORS.iterdir())) == 1
            assert_all_labelled(container, label(container.init()))
            assert_lands_by_door(label(container.init()))
        finally:
            container.remove()
    finally:
        slurmd.call("epilog", 4242, AS_SERVICE).checked()
        slurmd.remove_cgroups()
    assert not slurmd.DOORS.exists()


def test_sweep(start: Start) -> None:
    """As the timer calls it."""
    container = begin(start, "podman-crun")
    run([*AS_SERVICE, LAUNCHER, "sweep"]).checked()
    assert_lands_by_door(label(container.init()))
