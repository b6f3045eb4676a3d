"""The daemon listens before its container runs, and serves nobody before the container's first process runs its
program.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import openssh
import pytest
from containers import (
    ALICE,
    PORT,
    SETTINGS,
    WORK,
    Plain,
    as_user,
    children,
    keys,
    listening,
    plain_start,
    processes,
    shell_around,
    wait_for,
)
from patience import within
from starter import Start

BANNER = b"SSH-2.0-"
QUIET = 0.5  # seconds; an open gate takes a hundredth of that
SOON = 5.0  # seconds
LOOKS = 10
PAUSE = 0.05  # seconds between two looks after a long wait
# What opens another process without being root: each of these would show the host's tree, or the daemon's memory.
LOOK = """
import os, sys
opened = []
for name in ("fd/0", "mem", "root/.", "cwd/.", "environ", "exe", "ns/mnt"):
    try:
        os.close(os.open(f"/proc/{sys.argv[1]}/{name}", os.O_RDONLY))
        opened.append(name)
    except PermissionError:
        pass
print(*opened)
"""
# What a container of root's has by default under podman, by its number.
CAPABILITIES = "chown,dac_override,fowner,fsetid,kill,net_bind_service,setfcap,setgid,setpcap,setuid,sys_chroot"


def beside_others(config: dict[str, Any]) -> None:
    """Among the processes of others, as in a pod: what ends the container ends no other process."""
    config["linux"]["namespaces"] = [entry for entry in config["linux"]["namespaces"] if entry["type"] != "pid"]


@pytest.fixture(params=["crun", "runc"])
def created(request: pytest.FixtureRequest, nothing_left: None) -> Iterator[Plain]:
    """A container that is only created."""
    container = plain_start(request.param, "busybox", change=beside_others, only_created=True)
    yield container
    container.remove()


def connect(port: int = PORT) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=within(SOON))


def test_who_comes_early_waits_and_is_served(created: Plain) -> None:
    with closing(connect()) as early:
        early.settimeout(QUIET)
        with pytest.raises(TimeoutError):
            early.recv(64)
        created.begin()
        early.settimeout(within(SOON))
        assert early.recv(64).startswith(BANNER)
    assert created.ssh("echo here").checked().text == "here"


def sleeps(pid: int) -> int:
    """How often a daemon has gone to sleep so far, and its child, which waits in its place where logins are logged."""
    files = [Path(f"/proc/{process}/status").read_text(encoding="ascii") for process in (pid, *children(pid))]
    fields = [dict(line.split(":", 1) for line in status.splitlines()) for status in files]
    return sum(int(process["voluntary_ctxt_switches"]) for process in fields)


def test_it_looks_often_after_a_long_wait(created: Plain) -> None:
    """It looks less often then, but not without a pause: nearly as often as this process is woken from such pauses."""
    daemon = created.daemon()
    time.sleep(3)
    before, begun, pauses = sleeps(daemon), time.monotonic(), 0
    while sleeps(daemon) < before + LOOKS:
        assert pauses < 3 * LOOKS, f"{LOOKS} looks take more than {pauses} pauses of {PAUSE} s"
        time.sleep(PAUSE)
        pauses += 1
    assert time.monotonic() - begun > LOOKS * PAUSE / 5


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_it_ends_with_a_container_that_never_runs(created: Plain, end: signal.Signals) -> None:
    daemon = created.daemon()
    assert daemon in processes()
    created.runtime("kill", created.name, str(int(end)))
    created.runtime("kill", created.name, str(int(signal.SIGKILL)))
    wait_for(lambda: daemon not in processes(), "end of the daemon", SOON)


def test_it_ends_when_it_is_told_to(created: Plain) -> None:
    daemon = created.daemon()
    os.kill(daemon, signal.SIGTERM)
    wait_for(lambda: daemon not in processes(), "end of the daemon", SOON)


def test_its_user_cannot_look_into_it(created: Plain) -> None:
    command = as_user(ALICE, "/usr/bin/python3", "-ISB", "-c", LOOK, str(created.daemon()))
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "\n"
    created.begin()
    wait_for(
        lambda: "fd/0" in subprocess.run(command, capture_output=True, text=True, check=True).stdout, "an open gate"
    )


def test_root_of_another_container_cannot_look_into_it(start: Start) -> None:
    """In a pod, root of one container sees the daemon of another one, which is root's too."""

    def change(config: dict[str, Any]) -> None:
        beside_others(config)
        config["process"].update(user={"uid": 0, "gid": 0}, env=["HOME=/root", "PATH=/bin:/usr/bin"])
        config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/home/alice"]
        names = [f"CAP_{name.upper()}" for name in CAPABILITIES.split(",")]
        config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)

    container = start("crun", "busybox", change=change, only_created=True)
    assert isinstance(container, Plain)
    bounding = ",".join(["-all", *(f"+{name}" for name in CAPABILITIES.split(","))])
    look = ["setpriv", "--inh-caps=-all", f"--bounding-set={bounding}", "/usr/bin/python3", "-ISB", "-c", LOOK]
    for _attempt in range(5):
        assert (
            subprocess.run([*look, str(container.daemon())], capture_output=True, text=True, check=True).stdout == "\n"
        )
    container.begin()
    container.ssh("true").checked()


@pytest.mark.parametrize("empty", ["", "stat", "before", "mounts"])
def test_it_says_that_it_listens_only_if_it_can_read_the_gates_files(tmp_path: Path, empty: str) -> None:
    """SELinux gives a program an empty file in the place of one that it may not read."""
    reader, ready = os.pipe()
    gate = {name: os.memfd_create(name) for name in ("stat", "before", "mounts")}
    for name, descriptor in gate.items():
        os.write(descriptor, b"" if name == empty else b"0 () S 0 0 0 0 0 64\n")
    descriptors = [gate["stat"], ready, gate["before"], gate["mounts"]]
    options = ["-F", "-E", "-P", str(tmp_path / "pid"), "-r", str(keys() / "id_dropbear"), "-p", f"127.0.0.1:{PORT}"]
    command = [f"{SETTINGS['DROPBEAR_DIR']}/bin/dropbear", *options, "-S", ",".join(map(str, [*descriptors, 1, 1]))]
    with subprocess.Popen(command, pass_fds=descriptors, stderr=subprocess.PIPE, text=True) as daemon:
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            with closing(os.fdopen(reader, "rb")) as pipe:
                ends = select.select([pipe], [], [], within(SOON))[0]
                said = pipe.read(1) if ends else b"nothing"
            daemon.terminate()
            _out, log = daemon.communicate(timeout=within(SOON))
        finally:
            daemon.kill()
    assert (said, daemon.returncode) == ((b"", 1) if empty else (b"\n", 0)), log
    assert ("gate's files cannot be read" in log) == bool(empty)


def test_each_session_has_a_memory_layout_of_its_own(start: Start, tmp_path: Path) -> None:
    """And another one than the daemon, which anybody sees who is the user."""
    daemon = start("crun", "busybox").daemon()
    key = openssh.convert(keys() / "id_dropbear", tmp_path / "key")
    (server,) = children(daemon)

    def layout(pid: int) -> str:
        return Path(f"/proc/{pid}/maps").read_text(encoding="ascii").split()[0]

    found = {layout(daemon)}
    for _session in range(3):
        command = [*openssh.client(key), "alice@127.0.0.1", "echo; sleep 1000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            client.stdout.readline()
            (connection,) = children(server)
            found.add(layout(connection))
            client.terminate()
        wait_for(lambda: not children(server), "the end of the connection")
    assert len(found) == 4


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_the_first_process_is_not_a_shell_in_between(start: Start, engine: str) -> None:
    """Without joining, the hook looks for it among its ancestors; a forked shell has not executed anything either."""
    launcher = shell_around(WORK / "between", '( hook "$@" || exit; exec /usr/bin/sleep 3 )')
    options = {"stage": "createContainer", "settings": {"JOIN_NAMESPACES": "false"}, "launcher": launcher}
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(start, engine, "busybox", **options)
        wait_for(lambda: PORT in listening(), "a daemon that listens")
        with closing(connect()) as early:
            early.settimeout(QUIET)
            with pytest.raises(TimeoutError):
                early.recv(64)
            early.settimeout(3 + within(SOON))
            assert early.recv(64).startswith(BANNER)
        assert begun.result().ssh("echo here").checked().text == "here"
