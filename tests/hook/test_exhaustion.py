"""A node or a container that is out of something: a session works all the same, or one sentence says what is wrong.

Elsewhere: a session that takes too much memory or starts too many processes (test_limits.py), the hook's own processes
killed as by the OOM killer, the container or its runtime killed while the hook works (test_faults.py), a root file
system or home that is read-only (test_odd_images.py), no keys for lack of room (tests/unit/test_keystore.py).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from changes import with_home, with_resources
from containers import (
    ALICE,
    COPIES,
    RECORD,
    WORK,
    Container,
    Plain,
    Podman,
    StartFailed,
    assert_alive,
    is_alone,
    processes,
    records,
    run,
    running,
    shell_around,
    wait_for,
)
from hook_log import Syslog
from refusals import assert_one_line, assert_refused
from starter import Start, Starter

Change = Callable[[dict[str, Any]], None]

CLOSED = r"Connection (closed|reset) by 127\.0\.0\.1 port \d+"
NOT_RUN = r"(exec|PTY allocation) request failed on channel 0"
NO_SPACE = "No space left on device"
RESOURCES = ("bytes", "inodes")


def assert_login_refused(container: Container, words: str, *arguments: str) -> None:
    """A session does not come about, and the client's last line says so."""
    result = container.ssh(*arguments, "echo never")
    assert (result.status, result.out) == (255, b"")
    assert re.fullmatch(words, result.err.decode().splitlines()[-1])


def with_limits(**limits: int | tuple[int, int]) -> Change:
    """Resource limits, hard and soft ones alike unless they are a pair (soft, hard)."""

    def change(config: dict[str, Any]) -> None:
        config["process"]["rlimits"] = [
            {"type": f"RLIMIT_{name}", "soft": soft, "hard": hard}
            for name, limit in limits.items()
            for soft, hard in [limit if isinstance(limit, tuple) else (limit, limit)]
        ]

    return change


# Processes


@pytest.mark.parametrize("engine", ["crun", "podman-crun"])
def test_no_room_for_the_daemon(start: Start, engine: str) -> None:
    """The kernel lets a process be moved into a cgroup that is full; it can start no other there, as runc's exec has
    to.
    """
    container = start(engine, "busybox", **with_pids(engine, 1))
    daemon = container.daemon()
    assert_login_refused(container, CLOSED)
    assert container.daemon() == daemon
    assert list(processes()) == [daemon]


@pytest.mark.parametrize("engine", ["crun", "podman-crun"])
def test_no_room_for_a_session(start: Start, engine: str) -> None:
    """Beside init, daemon and its server, a login takes its client, the connection's process and the command's."""
    container = start(engine, "busybox", **with_pids(engine, 8))
    assert isinstance(container, (Plain, Podman))
    daemon = container.daemon()
    fill(container, 2)
    assert_alive(container, daemon)
    fill(container, 1)
    assert_login_refused(container, NOT_RUN)
    fill(container, 1)
    assert_login_refused(container, CLOSED)
    killed = running("/bin/sleep", "777")
    for pid in killed:
        os.kill(int(pid), 9)
    # Until somebody has waited for them, they count.
    wait_for(lambda: not any(Path("/proc", pid).exists() for pid in killed), "end of what filled the container")
    wait_for(lambda: is_alone(daemon), "end of the login")
    assert_alive(container, daemon)


def with_pids(engine: str, limit: int) -> dict[str, Any]:
    """The options of a start with at most `limit` processes."""
    if engine.startswith("podman"):
        return {"options": ["--pids-limit", str(limit)]}
    return {"change": with_resources(pids={"limit": limit})}


def fill(container: Plain | Podman, count: int) -> None:
    """Add `count` processes to the container, when those of earlier logins have ended."""
    daemon = container.daemon()
    wait_for(lambda: is_alone(daemon), "end of earlier logins")
    for _number in range(count):
        command = ("exec", "--detach", container.name, "/bin/sleep", "777")
        (container.runtime if isinstance(container, Plain) else container.podman)(*command).checked()


def test_user_has_too_many_processes(start: Starter, syslog: Syslog, alices: object) -> None:
    assert_refused(start, syslog, "runc", "cannot start the SSH daemon", "RLIMIT_NPROC", change=with_limits(NPROC=1))


# Memory


def test_too_little_memory_for_the_daemon(start: Starter, syslog: Syslog, tmp_path: Path) -> None:
    """The OOM killer may take the container too, and crun's exit status is 0 then: what counts is the hook's."""
    launcher = shell_around(tmp_path / "hook", f'hook "$@" 2>{tmp_path}/said; echo $? >{tmp_path}/status')
    with suppress(StartFailed):
        start("crun", "busybox", change=with_resources(memory={"limit": 64 << 10, "swap": 64 << 10}), launcher=launcher)
    wait_for(lambda: not processes() and not records(), "end of the daemon")
    assert (tmp_path / "status").read_text(encoding="ascii") == "1\n"
    assert_one_line(
        (tmp_path / "said").read_text(encoding="utf-8"), "was killed by signal 9", "--memory", kind="no-memory"
    )
    wait_for(lambda: len(syslog.of_hook()) == 1, "the same in syslog")


@pytest.mark.parametrize("name", ["AS", "DATA", "STACK"])
def test_daemon_has_too_little_address_space(start: Starter, syslog: Syslog, name: str) -> None:
    assert_refused(
        start, syslog, "runc", "was killed by signal", "--ulimit", kind="no-memory", change=with_limits(**{name: 4096})
    )


@pytest.mark.parametrize("image", ["debian", "busybox"])
@pytest.mark.parametrize("name", ["AS", "DATA"])
def test_hook_takes_little_address_space(start: Start, name: str, image: str) -> None:
    """crun gives hooks the container's limits."""
    container = start("crun", image, change=with_limits(**{name: 32 << 20}))
    assert_alive(container, container.daemon())


@pytest.mark.parametrize("name", ["AS", "DATA"])
def test_hook_has_too_little_address_space(start: Starter, syslog: Syslog, name: str) -> None:
    def change(config: dict[str, Any]) -> None:
        with_limits(**{name: 24 << 20})(config)
        config["padding"] = "x" * (15 << 20)  # which the hook has to read

    assert_refused(start, syslog, "crun", "not enough memory", f"RLIMIT_{name}", kind="no-memory", change=change)


def test_hooks_interpreter_has_too_little_address_space(start: Starter) -> None:
    """Nothing of the hook runs then that could say so; crun does."""
    with pytest.raises(StartFailed) as failure:
        start("crun", change=with_limits(AS=1 << 20))
    assert failure.value.status == 1
    assert "error executing hook" in failure.value.engine


# Open files


@pytest.mark.parametrize("image", ["debian", "busybox"])
def test_as_few_descriptors_as_the_hook_takes(start: Start, image: str) -> None:
    container = start("crun", image, change=with_limits(NOFILE=64))
    assert container.ssh("ulimit -n").checked().text == "64"


@pytest.mark.parametrize("engine", ["crun", "podman-crun", "rootless"])
def test_fewer_descriptors_than_the_hook_takes(start: Starter, syslog: Syslog, engine: str) -> None:
    """crun gives hooks the container's limits."""
    options: dict[str, Any] = {"options": ["--ulimit", "nofile=32:32"]}
    if engine == "crun":
        options = {"change": with_limits(NOFILE=32)}
    assert_refused(start, syslog, engine, "RLIMIT_NOFILE", "from 32 to 64", **options)


def test_hook_is_not_held_to_soft_limits(start: Start) -> None:
    """And the session has them."""
    container = start("crun", change=with_limits(NOFILE=(16, 1024), FSIZE=(4096, 1 << 30)))
    assert container.ssh("ulimit -Sn; ulimit -Hn; ulimit -Sf").checked().text == "16\n1024\n4"  # bash counts kB


def test_few_descriptors_under_runc(start: Start) -> None:
    """It gives hooks the node's limits, and what counts are the daemon's."""
    container = start("runc", "busybox", change=with_limits(NOFILE=16))
    assert_alive(container, container.daemon())


def test_no_descriptors_for_a_session(start: Start) -> None:
    container = start("runc", "busybox", change=with_limits(NOFILE=11))
    daemon = container.daemon()
    assert_login_refused(container, NOT_RUN)
    assert container.daemon() == daemon


def test_files_may_not_be_as_large_as_the_hooks(start: Starter, syslog: Syslog) -> None:
    assert_refused(start, syslog, "crun", "RLIMIT_FSIZE", "from 4096 to 65536", change=with_limits(FSIZE=4096))


# Disks


def fill_disk(directory: Path, resource: str) -> None:
    """Take all bytes, or all inodes, of the file system of `directory`."""
    (directory / "filler").mkdir()
    try:
        for number in range(1 << 20):
            with (directory / f"filler/{number}").open("wb", buffering=0) as file:
                while resource == "bytes":
                    file.write(bytes(4096))
    except OSError as error:
        assert error.strerror == NO_SPACE
    else:
        raise AssertionError(f"{directory} is not full")


FILL = {
    "bytes": "dd if=/dev/zero of={0}/filler bs=4096 2>/dev/null",
    "inodes": "mkdir {0}/filler; n=0; while (: >{0}/filler/$n) 2>/dev/null; do n=$((n+1)); done",
}


def small(directory: Path, mode: str = "755") -> Iterator[Path]:
    """A small file system of its own at `directory`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", f"size=1m,nr_inodes=200,mode={mode}", "tmpfs", directory]).checked()
    yield directory
    run(["umount", directory]).checked()


@pytest.fixture
def bundles() -> Iterator[Path]:
    """Where the bundles are, and so the records."""
    yield from small(WORK)


@pytest.fixture(params=[COPIES, COPIES.parent], ids=lambda path: path.name)
def copies(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where the copies of records are, or the directory in which their own is to be made."""
    shutil.rmtree(COPIES.parent, ignore_errors=True)
    yield from small(request.param, "700")
    shutil.rmtree(COPIES.parent)


@pytest.fixture
def alices_home() -> Iterator[Path]:
    directory = Path("/run/hook-test-home")
    for path in small(directory):
        os.chown(path, ALICE, ALICE)
        yield path
    directory.rmdir()


@pytest.mark.parametrize("resource", RESOURCES)
def test_no_room_for_the_record(bundles: Path, start: Starter, syslog: Syslog, tmp_path: Path, resource: str) -> None:
    launcher = shell_around(
        tmp_path / "hook", f'{FILL[resource].format(".")}; hook "$@"; status=$?; rm -r filler; exit $status'
    )
    assert_refused(
        start,
        syslog,
        "runc",
        "cannot record the SSH daemon in",
        NO_SPACE,
        kind="disk-full",
        image="busybox",
        launcher=launcher,
    )


@pytest.mark.parametrize("resource", RESOURCES)
def test_no_room_for_the_copy_of_the_record(copies: Path, start: Start, resource: str) -> None:
    """poststop needs none."""
    fill_disk(copies, resource)
    container = start("crun", "busybox")
    assert not [path for path in records() if path.startswith(str(COPIES)) and "filler" not in path]
    daemon = container.daemon()
    assert_alive(container, daemon)
    container.stop().checked()
    wait_for(lambda: not Path(f"/proc/{daemon}").exists(), "end of the daemon")
    assert not [path for path in copies.glob("**/*") if path.is_file() and "filler" not in str(path)]
    shutil.rmtree(copies / "filler")


@pytest.mark.parametrize("resource", RESOURCES)
def test_disks_that_are_full_at_poststop(bundles: Path, copies: Path, start: Start, resource: str) -> None:
    container = start("crun", "busybox")
    assert (container.bundle() / RECORD).exists()
    for directory in (bundles, copies):
        fill_disk(directory, resource)
    container.stop().checked()
    wait_for(lambda: not processes(), "end of the daemon")
    assert {path for path in records() if "filler" not in path} == set()
    shutil.rmtree(copies / "filler")


@pytest.mark.parametrize("resource", RESOURCES)
def test_no_room_for_the_seccomp_filter(start: Start, resource: str) -> None:
    """It is made anew each time, and never left out."""

    def change(config: dict[str, Any]) -> None:
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO"}],
        }

    kept = Path("/run/ocihooks-ssh/seccomp")
    kept.parent.mkdir(mode=0o700, exist_ok=True)
    for directory in small(kept, "700"):
        fill_disk(directory, resource)
        container = start("crun", "busybox", change=change)
        assert container.ssh("grep ^Seccomp: /proc/self/status").checked().text.split() == ["Seccomp:", "2"]
        assert b"not permitted" in container.ssh("mkdir /tmp/new").err
        assert [path.name for path in directory.iterdir()] == ["filler"]


def test_writable_layer_without_bytes(start: Start) -> None:
    """The hook makes only mount points there, which take none."""
    container = start("crun", "debian", prepare=lambda root: fill_layer(root, "size=4k"))
    assert_alive(container, container.daemon())
    assert NO_SPACE.encode() in container.ssh("head -c 100000 /dev/zero >/tmp/new").err


def fill_layer(root: Path, option: str) -> None:
    run(["mount", "-o", f"remount,{option}", root.parent / "layer"]).checked()


def test_writable_layer_without_inodes(start: Starter, syslog: Syslog, tmp_path: Path) -> None:
    """The runtime has made its own mount points by then."""

    def prepare(root: Path) -> None:
        status = os.statvfs(root.parent / "layer")
        fill_layer(root, f"nr_inodes={status.f_files - status.f_ffree + 20}")

    launcher = shell_around(tmp_path / "hook", f'{FILL["inodes"].format("layer")}; hook "$@"')
    words = ("cannot create /opt", "in the container", NO_SPACE)
    assert_refused(start, syslog, "crun", *words, kind="disk-full", image="busybox", prepare=prepare, launcher=launcher)


@pytest.mark.parametrize("resource", RESOURCES)
def test_no_room_for_keys_in_the_home(alices_home: Path, start: Starter, syslog: Syslog, resource: str) -> None:
    """Without an overlay they go there. With one, they do not, and a session works."""
    (alices_home / ".ssh").mkdir(mode=0o700)
    os.chown(alices_home / ".ssh", ALICE, ALICE)
    fill_disk(alices_home, resource)
    change = with_home(alices_home)
    words = ("cannot write the keys into /home/alice/.ssh", NO_SPACE)
    assert_refused(
        start, syslog, "crun", *words, kind="disk-full", change=change, settings={"OVERLAY_MOUNT_HOME_SSH": "false"}
    )
    assert list((alices_home / ".ssh").iterdir()) == []
    container = start("crun", change=change)
    assert_alive(container, container.daemon())


@pytest.mark.parametrize("resource", RESOURCES)
def test_no_room_for_a_pidfile(alices_home: Path, start: Starter, syslog: Syslog, resource: str) -> None:
    fill_disk(alices_home, resource)
    annotations = {"com.hooks.ssh.pidfile_host": f"{alices_home}/pid"}
    words = ("com.hooks.ssh.pidfile_host", f"{alices_home}/pid", NO_SPACE)
    assert_refused(start, syslog, "crun", *words, annotations=annotations)
    assert [path.name for path in alices_home.iterdir()] == ["filler"]


# Files of the system


def without_mount(*destinations: str) -> Change:
    def change(config: dict[str, Any]) -> None:
        config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] not in destinations]

    return change


@pytest.mark.parametrize("image", ["debian", "busybox"])
def test_no_terminals(start: Start, image: str) -> None:
    container = start("crun", image, change=without_mount("/dev/pts"))
    assert container.ssh("echo here").checked().text == "here"
    assert_login_refused(container, NOT_RUN, "-tt")


@pytest.mark.parametrize("image", ["debian", "busybox"])
def test_no_proc(start: Start, image: str) -> None:
    """runc starts no such container."""
    container = start("crun", image, change=without_mount("/proc"))
    assert container.ssh("ls /proc; cat", stdin=b"here").checked().text == "here"
    assert container.ssh("-tt", "tty; exit 3")[:2] == (3, b"/dev/pts/0\r\n")


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_all_is_read_only(start: Start, engine: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config["root"]["readonly"] = True
        for mount in config["mounts"]:
            if mount["destination"] in ("/dev", "/proc", "/home/alice"):
                mount["options"] = [*mount.get("options", []), "ro"]

    container = start(engine, change=change)
    assert container.ssh("cat; touch /home/alice/x /dev/x /x 2>/dev/null", stdin=b"here")[:2] == (1, b"here")
    assert container.ssh("-tt", "tty; exit 3")[:2] == (3, b"/dev/pts/0\r\n")
