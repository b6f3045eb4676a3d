"""However a container ends, the daemon and all of its sessions end with it, and nothing stays."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import lives
import openssh
import pytest
from containers import (
    ALICE,
    BOB,
    ENGINES,
    LAUNCHER,
    PORT,
    SETTINGS,
    Container,
    Podman,
    StartFailed,
    keys,
    listening,
    processes,
    records,
    run,
    running,
    wait_for,
)
from patience import within
from recorded import age
from starter import Start

PODMAN = ("podman-crun", "podman-runc", "rootless")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path_factory.mktemp("keys") / "id")


def gone() -> bool:
    return not processes() and PORT not in listening() and not records()


def ended(container: Container) -> None:
    wait_for(gone, f"end of {processes()} {records()} of {container.name}")


class Session:
    """A login from the bed that stays open, in which `sleep` runs."""

    def __init__(self, key: Path) -> None:
        self.client = subprocess.Popen(
            [*openssh.client(key), "alice@127.0.0.1", "echo open; exec sleep 987654"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.client.stdout is not None
        assert self.client.stdout.readline() == b"open\n"

    @staticmethod
    def sleeps() -> set[str]:
        return running("sleep", "987654")

    def close(self) -> None:
        self.client.kill()
        self.client.wait()
        assert self.client.stdout is not None
        self.client.stdout.close()


@pytest.fixture
def session(key: Path) -> Iterator[list[Session]]:
    opened: list[Session] = []
    yield opened
    for one in opened:
        one.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pid", ["private", "host"])
def test_open_sessions_end_at_stop(start: Start, session: list[Session], key: Path, engine: str, pid: str) -> None:
    if engine in PODMAN:
        container = start(engine, options=["--pid=host"] if pid == "host" else [])
    else:
        container = start(engine, change=lambda config: without_namespace(config, "pid") if pid == "host" else None)
    session.append(Session(key))
    wait_for(session[0].sleeps, "the session's command")
    container.stop().checked()
    ended(container)
    wait_for(lambda: not session[0].sleeps(), "end of the session")
    session[0].client.wait(within(10))


END = """
import sys
from ansible_collections.ocihooks.ssh.plugins.module_utils import _daemons
found = _daemons.processes_of({int(sys.argv[1])}, [], sys.argv[2])
print(len(found), _daemons.end(found))
"""


@pytest.mark.parametrize("engine", ["crun", "podman-crun", "rootless"])
def test_daemon_and_sessions_of_a_user_end_and_the_container_goes_on(
    start: Start, session: list[Session], key: Path, engine: str, with_collection: dict[str, str]
) -> None:
    """By the code with which the playbook revoke ends them on a node."""
    container = start(engine)
    session.append(Session(key))
    wait_for(session[0].sleeps, "the session's command")
    for user, least in ((BOB, 0), (ALICE, 2)):  # the daemon and the session, with what logs it
        command = ["/usr/bin/python3", "-B", "-c", END, str(user), SETTINGS["DROPBEAR_DIR"]]
        done = subprocess.run(command, env=with_collection, capture_output=True, text=True, check=True)
        number, left = done.stdout.split()
        assert (int(number) >= least, bool(int(number)), left) == (True, bool(least), "[]")
    assert session[0].client.wait(within(10)) == 255
    assert PORT not in listening()
    assert os.path.exists(f"/proc/{container.init()}/exe")
    container.stop().checked()
    ended(container)


def without_namespace(config: dict[str, object], kind: str) -> None:
    linux = config["linux"]
    assert isinstance(linux, dict)
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != kind]


@pytest.mark.parametrize("engine", PODMAN)
def test_podman_kill(start: Start, engine: str) -> None:
    container = start(engine)
    assert isinstance(container, Podman)
    container.podman("kill", container.name).checked()
    ended(container)


@pytest.mark.parametrize("engine", PODMAN)
def test_podman_rm_of_a_running_container(start: Start, engine: str) -> None:
    container = start(engine)
    assert isinstance(container, Podman)
    container.podman("rm", "-f", "-t0", container.name).checked()
    ended(container)


@pytest.mark.parametrize("engine", PODMAN)
def test_podman_restart(start: Start, engine: str) -> None:
    container = start(engine)
    assert isinstance(container, Podman)
    first = container.daemon()
    container.podman("restart", "-t0", container.name).checked()
    assert container.daemon() != first
    assert not os.path.exists(f"/proc/{first}")
    assert container.ssh("echo again").checked().text == "again"
    container.stop().checked()
    ended(container)


@pytest.mark.parametrize("engine", PODMAN)
def test_podman_run_rm_that_ends_by_itself(start: Start, engine: str) -> None:
    container = start(
        engine, options=["--rm"], command=["/bin/sh", "-c", "while [ ! -e /tmp/stop ]; do sleep 0.05; done"]
    )
    assert container.ssh("echo works").checked().text == "works"
    container.ssh("touch /tmp/stop")  # it may be gone before podman has its exit status
    ended(container)


def test_container_whose_first_process_is_killed(start: Start) -> None:
    container = start("podman-crun")
    os.kill(container.init(), signal.SIGKILL)
    ended(container)


def test_command_that_is_not_in_the_image(start: Start) -> None:
    with pytest.raises(StartFailed) as failure:
        start("podman-crun", command=["/bin/no-such-program"])
    assert failure.value.hook == ""
    wait_for(lambda: not processes() and PORT not in listening(), "end of the daemon")
    age()  # podman calls no poststop here, and removes the bundle with the record: the copy is a sweep's
    run([LAUNCHER, "sweep"]).checked()
    assert gone()


def test_daemon_that_died_before_the_stop(start: Start) -> None:
    container = start("crun")
    os.kill(container.daemon(), signal.SIGKILL)
    wait_for(lambda: PORT not in listening(), "end of the daemon")
    container.stop().checked()
    ended(container)


def test_container_ends_although_the_daemon_runs(start: Start) -> None:
    """Nothing of the hook keeps a container from ending when its process does."""
    container = start("crun", change=lambda config: config["process"].update(args=["/bin/sh", "-c", "exec sleep 0.5"]))
    init = container.init()
    wait_for(lambda: not os.path.exists(f"/proc/{init}"), "end of the container")
    wait_for(lambda: not processes(), "end of the daemon")


def test_hook_does_nothing_without_its_annotation(start: Start) -> None:
    container = start("podman-crun", annotations={"com.hooks.ssh.enabled": "false"})
    assert not processes()
    assert not records()
    assert not container.path("/opt/oci-hooks").exists()


@pytest.mark.parametrize("engine", PODMAN)
def test_no_key_is_in_the_layer_or_in_a_commit(start: Start, engine: str) -> None:
    container = start(engine)
    assert isinstance(container, Podman)
    assert container.ssh("true").status == 0
    changes = container.podman("diff", container.name).checked().text.split("\n")
    assert [change for change in changes if "dropbear" in change or "environment" in change] == []
    image = "localhost/ssh-test/committed"
    container.podman("commit", "--quiet", container.name, image).checked()
    try:
        search = "find / -xdev -type f '(' -path '*/.ssh/*' -o -path '/opt/oci-hooks/*' ')'"
        found = container.podman("run", "--rm", "--pull=never", "--network=none", "--user=0", image, "sh", "-c", search)
        assert found.checked().text == ""
    finally:
        container.podman("rmi", image).checked()


def test_a_release_that_is_installed_meanwhile_fails_no_start(start: Start) -> None:
    """The link to the installed release is replaced all the time, as an upgrade does once."""
    link = Path(SETTINGS["DROPBEAR_DIR"])
    releases = [link.with_name("release-1"), link.with_name("release-2")]
    shutil.copytree(link, releases[1], symlinks=True)
    link.rename(releases[0])
    link.symlink_to(releases[0])
    ended = threading.Event()

    def replace() -> None:
        for release in itertools.cycle(releases):
            if ended.wait(0.001):
                break
            (link.parent / "new").symlink_to(release)
            (link.parent / "new").rename(link)

    upgrades = threading.Thread(target=replace)
    upgrades.start()
    try:
        for _number in range(20):
            container = start("crun")
            assert container.ssh("true").status == 0
            container.stop().checked()
    finally:
        ended.set()
        upgrades.join()
        link.unlink()
        releases[0].rename(link)
        shutil.rmtree(releases[1])


def test_forty_starts_and_stops_leave_the_node_as_it_was() -> None:
    """Of all engines, eight at a time, each with sessions. A thousand of them: make soak."""
    lives.warm_up()
    before = lives.node()
    assert lives.live_all(40) == []
    lives.await_same(before)
