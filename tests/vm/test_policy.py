"""podman under a distribution's own SELinux policy, enforcing: it labels containers, of root's and of alice's."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slurmd
from containers import (
    ALICE,
    ALICES_DOORS,
    DOORS,
    LAUNCHER,
    Container,
    Engine,
    Podman,
    StartFailed,
    as_user,
    keys,
    podman_start,
    processes,
    records,
    run,
    wait_for,
)
from domains import PROGRAMS, Domains, watched
from hook_log import Syslog
from labels import assert_all_labelled, assert_lands_by_door, assert_logged, label
from recorded import age
from starter import Start

HOME = ["--volume", "/home/alice:/home/alice"]  # which rootful containers have anyway
ENGINES: dict[str, dict[str, Any]] = {
    "podman-crun": {},
    "podman-runc": {},
    "rootless": {"options": HOME},
    "rootless with the own uid": {"options": [*HOME, "--userns=keep-id"], "user": "2001:2001"},
}
ENFORCE = Path("/sys/fs/selinux/enforce")
ENGINES_DOMAIN = "container_runtime_t"
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


def file_type(path: str | Path) -> str:
    return os.getxattr(path, "security.selinux").decode("ascii").split(":")[2]


def assert_in_engines_domain(domains: Domains, *programs: str) -> None:
    """These programs were seen, and in the engine's domain alone."""
    for program in programs:
        assert {text.split(":")[2] for text in domains.of(program)} == {ENGINES_DOMAIN}, (program, domains)


@pytest.fixture
def unit() -> Iterator[list[str]]:
    """A command that starts another as a unit of systemd's does, whose output systemd reads.

    A file of this type is the only one whose program becomes systemd's domain.
    """
    program = Path("/run/init-of-test")
    shutil.copy("/bin/sh", program)
    os.setxattr(program, "security.selinux", b"system_u:object_r:init_exec_t:s0")
    systemd = f"runcon system_u:system_r:init_t:s0 {program} -c 'exec \"$@\"' -"
    yield ["bash", "-o", "pipefail", "-c", f'{systemd} "$@" </dev/null 2>&1 | cat', "-"]
    program.unlink()


@pytest.fixture
def no_keys() -> Iterator[Path]:
    """Alice has no keys yet: the directory that her first container makes."""
    top = keys().parents[1]
    aside = top.with_name("aside")
    top.rename(aside)
    yield top
    if top.exists():
        shutil.rmtree(top)
    aside.rename(top)


def doors() -> list[Path]:
    return [path for directory in (DOORS, ALICES_DOORS) if directory.exists() for path in directory.iterdir()]


def socket_type(door: Path) -> str:
    """User, role and type of the socket that listens there. A connection of it has the caller's categories."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(door))
        told = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERSEC, 256).decode("ascii")
    return ":".join(told.split(":")[:3])


def runtime_of(engine: str) -> str:
    return "runc" if engine.endswith("runc") else "crun"


def begin(start: Start, engine: str, **options: object) -> Container:
    return start(engine.split()[0], "busybox", **{**ENGINES[engine], **options})


def test_programs_are_labelled_by_the_policy() -> None:
    """As a package's installation labels them. The types lead to the engine's domain."""
    for program in PROGRAMS:
        path = shutil.which(program)
        assert path
        assert run(["restorecon", "-n", "-v", "-F", path]).checked().text == ""
        assert file_type(path) in ("container_runtime_exec_t", "conmon_exec_t")


@pytest.mark.parametrize("engine", ENGINES)
def test_labels(start: Start, engine: str) -> None:
    with watched() as domains:
        container = begin(start, engine)
    assert_in_engines_domain(domains, "podman", "conmon", runtime_of(engine), "hook")
    known = label(container.init())
    assert ":container_t:s0:c" in known
    assert_all_labelled(container, known)
    assert_lands_by_door(known)
    assert container.ssh("echo x >/home/alice/x").status == 1  # its volume was not labelled for it
    with watched() as domains:
        container.stop().checked()
        wait_for(lambda: not doors(), "end of the door")
    assert_in_engines_domain(domains, "hook")


@pytest.fixture
def unlabelled() -> Iterator[None]:
    """The engine's programs have the type that the policy gives to those of no domain."""
    paths = [path for path in map(shutil.which, PROGRAMS) if path]
    before = {path: os.getxattr(path, "security.selinux") for path in paths}
    try:
        for path in paths:
            os.setxattr(path, "security.selinux", b"system_u:object_r:bin_t:s0")
        yield
    finally:
        for path, known in before.items():
            os.setxattr(path, "security.selinux", known)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_without_its_types(start: Start, unlabelled: None, engine: str) -> None:
    """SELinux then keeps from Dropbear what the hook has opened for it: such a container does not start."""
    with pytest.raises(StartFailed) as failure:
        begin(start, engine)
    assert "the SSH daemon does not listen" in str(failure.value)
    assert "SELinux profile" in str(failure.value)
    assert not doors()
    assert not processes()
    denied = [line for line in run(["dmesg"]).checked().text.splitlines() if "avc:  denied  { read }" in line]
    run(["dmesg", "--clear"]).checked()
    assert any('comm="dropbear"' in line and "mountinfo" in line for line in denied), denied


@pytest.mark.parametrize("engine", ["podman-crun", "rootless"])
def test_logins_leave_lines(start: Start, syslog: Syslog, engine: str) -> None:
    """Dropbear sends them through a socket that the hook has made, so of the engine's domain."""
    assert_logged(begin(start, engine), syslog)


@pytest.mark.parametrize("network", ["host", "none"])
@pytest.mark.parametrize("engine", ENGINES)
def test_door_alone(start: Start, engine: str, network: str) -> None:
    container = begin(start, engine, network=network, annotations={"com.hooks.ssh.port": "none"})
    (door,) = doors()
    known = label(container.init())
    assert known.startswith(f"{socket_type(door)}:s0:c")
    assert_lands_by_door(known)


@pytest.mark.parametrize("name", ["podman-crun", "podman-runc", "rootless"])
def test_unit(nothing_left: None, unit: list[str], name: str) -> None:
    """A unit of systemd's starts podman, rootless with User=alice."""
    engine = Engine(name)
    usual = engine.podman
    podman = [*unit, "podman", "--runtime", engine.runtime]
    engine.podman = as_user(ALICE, *podman) if name == "rootless" else podman
    with watched() as domains:
        container = podman_start(engine, "busybox")
    engine.podman = usual
    try:
        assert_in_engines_domain(domains, "podman", "conmon", engine.runtime, "hook")
        assert {text.rpartition(":s0")[0] for text in domains.of("conmon")} == {f"system_u:system_r:{ENGINES_DOMAIN}"}
        assert_all_labelled(container, label(container.init()))
        assert_lands_by_door(label(container.init()))
    finally:
        container.remove()


def test_first_keys(start: Start, no_keys: Path) -> None:
    """The hook makes them in the engine's domain; a login of alice's has those that it finds there."""
    with watched() as domains:
        container = begin(start, "rootless")
    assert_in_engines_domain(domains, "podman", "conmon", "crun", "hook")
    assert {file_type(path) for path in (no_keys, *no_keys.rglob("*"))} == {"user_home_t"}
    assert_all_labelled(container, label(container.init()))


def test_the_directory_of_a_job(start: Start) -> None:
    """A service makes it, and starts the step of alice's whose container has its door there."""
    slurmd.call("prolog", 4242, AS_SERVICE).checked()
    engine = slurmd.rootless_in(slurmd.step(4242))
    engine.podman = [*AS_SERVICE, *engine.podman]
    try:
        with watched() as domains:
            container = podman_start(engine, "busybox")
        try:
            assert_in_engines_domain(domains, "podman", "conmon", "crun", "hook")
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


def test_sweep_after_a_kill(start: Start) -> None:
    """Nobody is left who would call poststop."""
    container = begin(start, "podman-crun")
    assert isinstance(container, Podman)
    init = container.init()
    os.kill(int(container.inspect("{{.State.ConmonPid}}")), signal.SIGKILL)
    os.kill(init, signal.SIGKILL)
    wait_for(lambda: not processes(), "end of the daemon")
    assert doors()
    assert records()
    age()  # a sweep leaves young records alone
    run([*AS_SERVICE, LAUNCHER, "sweep"]).checked()
    wait_for(lambda: not doors() and not records(), "end of what was left")
    container.podman("rm", "-f", "-t0", container.name)  # podman complains once that conmon is gone
