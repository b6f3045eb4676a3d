"""A process of bob's that keeps whoever reads some of its files in /proc waiting, root too.

It executes a program with an open file of his, and his FUSE file system never answers that the file is closed.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import attached
import openssh
import pytest
from containers import (
    ALICE,
    BOB,
    COPIES,
    ENTRIES,
    LAUNCHER,
    SETTINGS,
    call_hook,
    keys,
    processes,
    run,
    running,
    wait_for,
)
from held import NO_ANSWERS, held, silent_pid
from patience import within
from recorded import age, describe, write_record
from refusals import assert_one_line
from starter import Start

FIRST_KERNEL = (6, 18)  # on which the wait was seen
AT_ONCE = 8.0  # seconds for what nobody holds up, on a busy machine
PATIENCE = 5.0  # seconds that the hook waits for one process of a record
WORDS = "reading its files in /proc takes longer than 5 s"
RUNNING = ["/bin/sleep", "345678"]


def answers(pid: int) -> bool:
    """Tell whether a reader of the process's stat gets it."""
    with subprocess.Popen(["cat", f"/proc/{pid}/stat"], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        is_read = bool(select.select([reader.stdout], [], [], 0.2)[0])
        reader.kill()
    return is_read


@pytest.fixture(name="silent")
def fixture_silent() -> Iterator[int]:
    """The process of bob's. On older kernels it answers."""
    with held("/bin/true", NO_ANSWERS, BOB):
        pid = silent_pid()
        if tuple(map(int, os.uname().release.split(".")[:2])) >= FIRST_KERNEL:
            wait_for(lambda: not answers(pid), "silence")
        yield pid


@pytest.fixture(name="key")
def fixture_key(tmp_path: Path) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path / "key")


def of(process: int, **values: object) -> dict[str, object]:
    """A record whose daemon and first process are `process`, which nobody can describe."""
    return {**describe(os.getpid()), "pid": process, "init_pid": process, "uid": BOB, "gid": BOB, **values}


@pytest.mark.usefixtures("silent")
def test_the_end_of_another_users_container(start: Start, key: Path) -> None:
    """Its sessions are looked for among all processes of the node. The runtime has killed nobody before."""
    container = start("podman-crun", options=["--pid=host"])
    leave = f"setsid {' '.join(RUNNING)} >/dev/null 2>&1 </dev/null &"
    openssh.login(key, leave).checked()
    begun = time.monotonic()
    state = {"ociVersion": "1.0.2", "id": "x", "status": "stopped", "pid": 0, "bundle": str(container.bundle())}
    assert call_hook(state) == (0, "", "")
    assert time.monotonic() - begun < within(AT_ONCE)
    wait_for(lambda: processes() == {}, "end of the daemon and its session")
    assert running(*RUNNING) == set()


def test_poststop_of_a_record_with_its_pid(silent: int, tmp_path: Path) -> None:
    """As of a daemon that has ended, whose pid bob's process has got. A sweep removes its record later."""
    record = write_record(tmp_path, of(silent))
    begun = time.monotonic()
    status, out, err = call_hook({"ociVersion": "1.0.2", "id": "x", "status": "stopped", "bundle": str(tmp_path)})
    assert time.monotonic() - begun < PATIENCE + within(AT_ONCE)
    assert (status, out) == (1, "")
    assert_one_line(err, WORDS)
    assert record.exists()
    assert processes() == {}


def is_sleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8") == "sleep\n"


@pytest.mark.parametrize("part", ["init_pid", "pid"])
def test_sweep_collects_what_others_have_left(silent: int, part: str) -> None:
    """Of bob's records, the first alone costs time."""
    COPIES.mkdir(mode=0o700, parents=True, exist_ok=True)
    COPIES.parent.chmod(0o700)
    gone = {"init_start_time": 1, "bundle": "/bundle"}
    daemon = subprocess.Popen(["/bin/sleep", "1000"])
    try:
        wait_for(partial(is_sleep, daemon.pid), "the daemon")
        write_record(COPIES, {**describe(daemon.pid), **gone}, "record-alice")
        for number in range(5):
            values = {**describe(daemon.pid), **gone, "uid": BOB, "gid": BOB, part: silent}
            write_record(COPIES, values, f"record-bob-{number}")
        age()
        begun = time.monotonic()
        done = run([LAUNCHER, "sweep"])
        assert time.monotonic() - begun < PATIENCE + within(AT_ONCE)
        assert daemon.wait(within(AT_ONCE)) == -9
        assert not (COPIES / "record-alice").exists()
        assert len(list(COPIES.glob("record-bob-*"))) == 5
        assert len(done.err.splitlines()) == 1
        assert_one_line(done.err.decode(), WORDS)
        assert processes() == {}
    finally:
        daemon.kill()
        daemon.wait()
        for copy in COPIES.iterdir():
            copy.unlink()


@pytest.mark.parametrize("uid", [0, ALICE])
@pytest.mark.parametrize("command", ["status", "why", "doctor"])
def test_commands(start: Start, silent: int, uid: int, command: str) -> None:
    """Also where an entry of alice's ended container names the process."""
    container = start("crun")
    entry = ENTRIES / str(ALICE) / "0"
    text = entry.read_text(encoding="utf-8").replace(f"\npid={container.daemon()}\n", f"\npid={silent}\n")
    stale = entry.with_name("1")
    stale.write_text(text, encoding="utf-8")
    os.chown(stale, entry.stat().st_uid, entry.stat().st_gid)
    stale.chmod(entry.stat().st_mode & 0o7777)
    begun = time.monotonic()
    done = attached.hook(command, uid=uid)
    assert time.monotonic() - begun < 4 + within(AT_ONCE)
    if command == "status":
        assert str(container.daemon()) in done.checked().text
    stale.write_text("", encoding="utf-8")


@pytest.mark.usefixtures("silent")
def test_attach_and_detach() -> None:
    image = attached.make_image("silent")
    container = attached.start("bwrap-write", image, 345679)
    try:
        begun = time.monotonic()
        attached.attach(container)
        for command in ("status", "detach"):
            attached.hook(command).checked()
        assert time.monotonic() - begun < within(3 * AT_ONCE)
        assert processes() == {}
        assert running("/bin/sleep", "345679")
    finally:
        attached.stop(container)


FOUND = """
import sys
from ansible_collections.ocihooks.ssh.plugins.module_utils import _daemons, _dropbear
found = _daemons.processes_of({int(sys.argv[1])}, [], sys.argv[2])
print(len(found), _daemons.end(found), bool(_dropbear.running_programs()), len(_daemons.port_holders(22, [])))
"""


@pytest.mark.usefixtures("silent")
def test_modules(start: Start, with_collection: dict[str, str]) -> None:
    """What an audit, a deployment and the playbook revoke look for among all processes of a node."""
    start("crun")
    program = ["/usr/bin/python3", "-B", "-c", FOUND, str(ALICE), SETTINGS["DROPBEAR_DIR"]]
    begun = time.monotonic()
    number, left, has_programs, _holders = run(program, env=with_collection).checked().text.split()
    assert time.monotonic() - begun < within(AT_ONCE)
    assert (int(number) > 0, left, has_programs) == (True, "[]", "True")
