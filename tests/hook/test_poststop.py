"""poststop ends what the hook started and nothing else. A canary process stands for everything else of the node."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from containers import (
    ALICE,
    BOB,
    COPIES,
    DOORS,
    ENTRIES,
    PORT,
    RECORD,
    Container,
    as_user,
    call_hook,
    listening,
    processes,
    records,
    run,
    text_of,
    wait_for,
)
from hook_log import Syslog
from patience import within
from recorded import BOOT_ID, OTHERS, describe, write_record
from refusals import assert_one_line
from starter import Start

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    """A bundle without a container."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def stop(bundle: Path, **state: object) -> tuple[int, str, str]:
    return call_hook({"ociVersion": "1.0.2", "id": "x", "status": "stopped", "bundle": str(bundle), **state})


def record_of(container: Container) -> dict[str, object]:
    """What a record of the container has to say."""
    daemon, init = describe(container.daemon()), describe(container.init())
    copy = COPIES / f"{daemon['pid']}-{daemon['start_time']}-{BOOT_ID[:8]}"
    return {
        **daemon,
        "init_pid": init["pid"],
        "init_start_time": init["start_time"],
        "bundle": container.bundle(),
        "copy": copy,
    }


def test_record_says_what_runs(start: Start) -> None:
    container = start("crun", network="private")
    path = container.bundle() / RECORD
    status = path.stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (0, 0o600)
    lines = dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines()[1:])
    expected = {name: str(value) for name, value in record_of(container).items()}
    name = "-".join(expected[part] for part in ("pid", "start_time", "pid_namespace"))
    network, mounts = (str(os.stat(f"/proc/{container.init()}/ns/{kind}").st_ino) for kind in ("net", "mnt"))
    described = {"id": container.name, "ports": "15263", "network": network, "mounts": mounts, "owner": str(ALICE)}
    empty = dict.fromkeys(("engine", "name", "job", "step", "task", "leader", "cluster", "attached"), "")
    assert lines == {
        **expected,
        "door": f"{DOORS}/{name}",
        "entry": f"{ENTRIES}/{ALICE}/0",
        **empty,
        **described,
    }
    copy, entry = Path(lines["copy"]), Path(lines["entry"])
    assert copy.read_bytes() == path.read_bytes()
    assert (copy.stat().st_uid, copy.stat().st_mode & 0o7777) == (0, 0o600)
    assert copy.parent.stat().st_mode & 0o7777 == 0o700
    for user, is_shown in ((ALICE, True), (BOB, False)):
        shown = run(as_user(user, "cat", str(entry)))
        assert (f"\nowner={ALICE}\n".encode() in shown.out) == is_shown, f"what {user} reads of the entry"
        assert run(as_user(user, "ls", str(entry.parent))).status != 0
        assert run(as_user(user, "sh", "-c", f": >>{entry}")).status != 0
    container.stop().checked()
    assert not copy.exists()
    assert text_of(entry) == ""


def test_this_test_would_notice_a_kill(bundle: Path) -> None:
    """A record that names a process truly is followed: the canaries of the tests below are worth something."""
    process = subprocess.Popen(["/bin/sleep", "1000"])
    write_record(bundle, describe(process.pid))
    assert stop(bundle) == (0, "", "")
    assert process.wait(within(5)) == -signal.SIGKILL
    assert not (bundle / RECORD).exists()


@pytest.mark.parametrize(
    "wrong",
    OTHERS,
)
def test_pid_that_is_another_process(bundle: Path, canary: subprocess.Popen[bytes], wrong: dict[str, object]) -> None:
    record = write_record(bundle, {**describe(canary.pid), **wrong})
    assert stop(bundle) == (0, "", "")
    assert not record.exists()


def test_pid_of_nobody(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    values = describe(canary.pid)
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    record = write_record(bundle, {**values, "pid": ended.pid})
    assert stop(bundle) == (0, "", "")
    assert not record.exists()


def test_pid_that_was_given_again(bundle: Path) -> None:
    """The kernel is made to give an ended daemon's pid to the next process."""
    ended = subprocess.Popen(["/bin/sleep", "1000"])
    record = write_record(bundle, describe(ended.pid))
    ended.kill()
    ended.wait()
    time.sleep(2 / os.sysconf("SC_CLK_TCK"))  # start times have this step
    LAST_PID.write_text(str(ended.pid - 1), encoding="ascii")
    with subprocess.Popen(["/bin/sleep", "1000"]) as process:
        try:
            assert process.pid == ended.pid
            assert stop(bundle) == (0, "", "")
            assert not record.exists()
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize("pid", [-1, 0, 1, 2**31, 2**32 + 1, 10**30, "1_0", "0x10", ""])
def test_pid_that_means_many(bundle: Path, canary: subprocess.Popen[bytes], syslog: Syslog, pid: object) -> None:
    write_record(bundle, {**describe(canary.pid), "pid": pid})
    assert_refused(bundle, syslog, "record")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\0" * 1000,
        b"ssh_hook 1\n",
        b"ssh_hook 2\npid=5\n",
        b"\xff\xfe\npid=1",
        b"ssh_hook 1\n" * 9999,
    ],
    ids=range(7),
)
def test_garbage(bundle: Path, canary: subprocess.Popen[bytes], syslog: Syslog, content: bytes) -> None:
    (bundle / RECORD).write_bytes(content)
    (bundle / RECORD).chmod(0o600)
    assert_refused(bundle, syslog, RECORD, "record")


def assert_refused(bundle: Path, syslog: Syslog, *words: str) -> None:
    status, out, err = stop(bundle)
    assert (status, out) == (1, "")
    assert_one_line(err, *words)
    wait_for(syslog.of_hook, "a message in syslog")


def test_record_of_another_owner(bundle: Path, canary: subprocess.Popen[bytes], syslog: Syslog) -> None:
    record = write_record(bundle, describe(canary.pid))
    os.chown(record, ALICE, ALICE)
    assert_refused(bundle, syslog, RECORD, "root")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_record_that_others_can_write(bundle: Path, canary: subprocess.Popen[bytes], syslog: Syslog, mode: int) -> None:
    write_record(bundle, describe(canary.pid)).chmod(mode)
    assert_refused(bundle, syslog, RECORD, "root")


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_record_that_is_no_file(bundle: Path, canary: subprocess.Popen[bytes], syslog: Syslog, kind: str) -> None:
    if kind == "link":
        write_record(bundle, describe(canary.pid)).rename(bundle / "elsewhere")
        (bundle / RECORD).symlink_to("elsewhere")
    elif kind == "directory":
        (bundle / RECORD).mkdir()
    else:
        os.mkfifo(bundle / RECORD)
    assert_refused(bundle, syslog, RECORD)


def test_without_a_start(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    assert stop(bundle) == (0, "", "")
    assert stop(bundle, pid=0) == (0, "", "")


def test_bundle_is_gone(tmp_path: Path, canary: subprocess.Popen[bytes], syslog: Syslog) -> None:
    assert_refused(tmp_path / "gone", syslog, "gone", "No such file")


def stopped(container: Container) -> tuple[int, str, str]:
    return stop(container.bundle(), pid=0)


def test_twice(start: Start, canary: subprocess.Popen[bytes]) -> None:
    container = start("crun")
    daemon = container.daemon()
    assert PORT in listening()
    assert stopped(container) == (0, "", "")
    assert PORT not in listening()
    wait_for(lambda: not Path(f"/proc/{daemon}").exists(), "end of the daemon")
    assert stopped(container) == (0, "", "")
    assert stopped(container) == (0, "", "")


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1", "9" * 30, "canary", "alices"])
@pytest.mark.parametrize("place", ["container", "host"])
def test_users_own_pidfile_says_nothing(
    start: Start, canary: subprocess.Popen[bytes], alices: subprocess.Popen[bytes], place: str, text: str
) -> None:
    pidfile = Path("/home/alice/daemon.pid")
    container = start("crun", annotations={"com.hooks.ssh.pidfile_host": str(pidfile)})
    pids = {"canary": canary.pid, "alices": alices.pid}
    command = f"printf %s '{pids.get(text, text)}' >"
    if place == "host":
        run(as_user(ALICE, "sh", "-c", f"{command} {pidfile}")).checked()
    else:
        container.exec("/bin/sh", "-c", f"{command} /opt/oci-hooks/ssh/dropbear/dropbear.pid").checked()
    assert stopped(container) == (0, "", "")
    assert PORT not in listening()
    pidfile.unlink(missing_ok=True)


def test_users_own_pidfile_is_gone(start: Start) -> None:
    pidfile = Path("/home/alice/daemon.pid")
    container = start("crun", annotations={"com.hooks.ssh.pidfile_host": str(pidfile)})
    run(as_user(ALICE, "rm", str(pidfile))).checked()
    assert stopped(container) == (0, "", "")
    assert PORT not in listening()


def test_container_that_shares_the_hosts_pids(start: Start, canary: subprocess.Popen[bytes]) -> None:
    def change(config: dict[str, dict[str, list[dict[str, str]]]]) -> None:
        config["linux"]["namespaces"] = [e for e in config["linux"]["namespaces"] if e["type"] != "pid"]

    container = start("crun", change=change)
    container.stop().checked()
    assert PORT not in listening()


def test_other_containers_go_on(start: Start) -> None:
    first = start("crun", annotations={"com.hooks.ssh.port": "16100"})
    second = start("crun", annotations={"com.hooks.ssh.port": "16200"})
    first.stop().checked()
    assert second.ssh("echo still").checked().text == "still"


@pytest.mark.parametrize("engine", ["crun", "podman-runc", "rootless"])
def test_an_admin_ends_all_daemons(start: Start, engine: str) -> None:
    """By the command of docs/security-overview.md, in the bed's own pid namespace. The container goes on, and ends."""
    page = (Path(__file__).resolve().parents[2] / "docs/security-overview.md").read_text(encoding="utf-8")
    (command,) = set(re.findall("-a '(pkill .*)'", page))
    container = start(engine)
    with ThreadPoolExecutor() as pool:
        session = pool.submit(container.ssh, "sleep 60")
        wait_for(lambda: run(["pgrep", "--full", "^sleep 60$"]).status == 0, "the session")
        run(["sh", "-c", command]).checked()
        assert session.result().status == 255
    wait_for(lambda: PORT not in listening(), "the daemon's end")
    assert container.exec("echo", "runs on").checked().text == "runs on"
    container.stop().checked()
    wait_for(lambda: not processes() and not records(), "the end of everything")
