"""A login leaves a line in the node's system log when it begins and when it ends, and no session can do without."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attached
import dockerd
import many
import openssh
import pytest
from attached import Attached
from containers import ALICE, PORT, Container, children, keys, processes, run, wait_for
from enroot import Enroot
from hook_log import Journal, Syslog
from starter import Start

ATTACH_PORT = 15310
NUMBER = 310000  # seconds that the attached container's program sleeps, by which it is found
SESSION = r"[0-9a-f]{8}"
LOGINS = 128
# What a session could do to Dropbear's processes: each would give it the socket, or stop a line.
LOOK = """cd /proc; for pid in [0-9]*; do
    grep -q dropbear $pid/comm && echo $pid: $(cd $pid; for name in fd/. mem root/. cwd/. environ exe ns/mnt; do
        ( : <$name ) 2>/dev/null && echo $name
    done)
done
true"""

Begin = Callable[[str], Container]


@pytest.fixture(scope="module")
def docker() -> Iterator[None]:
    with dockerd.cdi_spec(), dockerd.installed():
        yield


@pytest.fixture
def begin(request: pytest.FixtureRequest, start: Start) -> Iterator[Begin]:
    """Starts a busybox container of alice's: of podman, of Docker, of enroot, or one to which she attaches."""
    others: list[Container] = []

    def begin(kind: str) -> Container:
        if kind == "docker":
            request.getfixturevalue("docker")
            home = ["--volume", "/home/alice:/home/alice", "--env", "HOME=/home/alice"]
            annotations = {"com.hooks.ssh.user": "alice"}
            others.append(dockerd.start("plain", ["--user", f"{ALICE}:{ALICE}", *home], annotations))
        elif kind == "enroot":
            others.append(Enroot().wait_until_it_runs())
        elif kind == "attach":
            shutil.rmtree(attached.WHERE, ignore_errors=True)
            attached.WHERE.mkdir()
            others.append(Attached("podman", attached.make_image("logins"), NUMBER, ATTACH_PORT, ()))
        else:
            return start(kind, "busybox")
        return others[-1]

    yield begin
    for container in others:
        container.stop()
        wait_for(lambda: not dropbears(), "end of the daemon")
        container.remove()
    if others:
        shutil.rmtree(attached.WHERE, ignore_errors=True)


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal()
    yield journal
    journal.remove()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path_factory.mktemp("keys") / "id")


def fingerprint(key: Path) -> str:
    """The fingerprint of the public half of a private key, as OpenSSH prints it."""
    public = run(["ssh-keygen", "-y", "-f", key]).checked().text.split()[1]
    digest = hashlib.sha256(base64.b64decode(public)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def port_of(container: Container) -> int:
    return ATTACH_PORT if isinstance(container, Attached) else PORT


def dropbears() -> list[str]:
    """The names of the processes of Dropbear: the daemon, its server, and those of connections."""
    return [name for name in processes().values() if name.startswith("dropbear")]


def await_lines(log: Syslog, count: int) -> list[dict[str, str]]:
    """Wait for so many lines about logins; return these, and forget them."""
    wait_for(lambda: len(log.logins()) >= count, f"{count} lines about logins")
    found = log.logins()
    assert len(found) == count, found
    log.clear()
    return found


def assert_pair(lines: list[dict[str, str]], kind: str, **end: str) -> dict[str, str]:
    """The lines are the beginning and the end of one session; return what both have."""
    begun, ended = lines
    common = {name: value for name, value in begun.items() if name != "event"}
    assert (begun["event"], ended["event"], begun["kind"]) == ("begins", "ends", kind)
    assert re.fullmatch(SESSION, begun["session"])
    assert float(ended.pop("seconds")) >= 0
    assert ended == {**common, "event": "ends", **end}
    return common


@pytest.mark.parametrize("kind", ["podman-crun", "rootless", "docker", "enroot", "attach"])
def test_each_session_leaves_two_lines(begin: Begin, syslog: Syslog, key: Path, tmp_path: Path, kind: str) -> None:
    container = begin(kind)
    port = port_of(container)
    syslog.clear()

    assert openssh.login(key, "exit 3", port=port).status == 3
    common = assert_pair(await_lines(syslog, 2), "command", status="3")
    assert (common["user"], common["uid"]) == ("alice", str(ALICE))
    assert re.fullmatch(r"127\.0\.0\.1:[0-9]+", common["from"])
    assert common["key"] == fingerprint(key)
    if kind in ("podman-crun", "rootless"):
        assert common["container"] == container.name
    assert "command" not in common

    assert openssh.login(key, "exit 5", port=port, options=openssh.BY_DOOR).status == 5
    by_door = assert_pair(await_lines(syslog, 2), "command", status="5")
    assert (by_door["from"], by_door["user"], "key" in by_door) == ("the door", "alice", False)

    openssh.login(key, "kill -TERM $$", port=port)
    assert_pair(await_lines(syslog, 2), "command", signal=str(int(signal.SIGTERM)))

    openssh.login(key, port=port, stdin=b"exit 4\n", options=("-tt",))
    assert_pair(await_lines(syslog, 2), "shell", status="4")

    (tmp_path / "batch").write_text("ls /\n", encoding="utf-8")
    address = "alice@127.0.0.1"
    run([*openssh.copier("sftp", key, "-b", str(tmp_path / "batch"), port=port), address]).checked()
    assert_pair(await_lines(syslog, 2), "sftp", status="0")

    run([*openssh.copier("scp", key, port=port), f"{address}:/etc/passwd", str(tmp_path / "copy")]).checked()
    assert_pair(await_lines(syslog, 2), "sftp", status="0")


def test_a_forward_without_a_command(begin: Begin, syslog: Syslog, key: Path) -> None:
    begin("rootless")
    syslog.clear()
    with subprocess.Popen([*openssh.client(key, "-N", "-L", f"4000:127.0.0.1:{PORT}"), "alice@127.0.0.1"]) as client:

        def is_forwarded() -> bool:
            done = run(["ssh-keyscan", "-p", "4000", "127.0.0.1"])
            return done.out != b""

        wait_for(is_forwarded, "a forwarded port")
        client.terminate()
    wait_for(lambda: [line for line in syslog.logins() if line.get("event") == "ends"], "the end of the forward")
    assert_pair([line for line in syslog.logins() if line.get("kind") == "forward"], "forward")


def test_a_login_without_a_session(begin: Begin, syslog: Syslog, key: Path) -> None:
    begin("rootless")
    syslog.clear()
    with subprocess.Popen(
        [*openssh.client(key, "-v", "-N", "-o", "LogLevel=VERBOSE"), "alice@127.0.0.1"],
        stderr=subprocess.PIPE,
    ) as client:
        assert client.stderr is not None
        while b"uthenticated" not in client.stderr.readline():
            pass
        client.terminate()
    assert_pair(await_lines(syslog, 2), "none")


def test_refused_logins_are_counted(begin: Begin, syslog: Syslog, tmp_path: Path) -> None:
    begin("rootless")
    syslog.clear()
    openssh.new_key(tmp_path / "stolen")
    for _login in range(3):
        assert openssh.login(tmp_path / "stolen", "true").status == 255
    wait_for(syslog.logins, "a line about refused logins")
    time.sleep(1)  # more lines than one would come at once
    (line,) = syslog.logins()
    assert (line["event"], line["refused"], line["dropped"]) == ("refused", "1", "0")
    assert "user" in line


@pytest.mark.parametrize("kind", ["podman-crun", "rootless"])
def test_journald_gets_fields(begin: Begin, journal: Journal, syslog: Syslog, key: Path, kind: str) -> None:
    container = begin(kind)
    journal.clear()
    openssh.login(key, "true").checked()
    common = assert_pair(await_lines(journal, 2), "command", status="0")
    assert (common["user"], common["uid"], common["container"]) == ("alice", str(ALICE), container.name)
    assert syslog.logins() == []


@pytest.mark.parametrize("kind", ["podman-crun", "rootless", "enroot"])
def test_a_daemon_of_the_log_that_is_started_anew(begin: Begin, journal: Journal, key: Path, kind: str) -> None:
    """Its old socket is dead. Where nobody listens, lines are lost, and counted; logins go on."""
    begin(kind)
    journal.stop()
    openssh.login(key, "true").checked()
    wait_for(lambda: len(dropbears()) == 2, "the end of the session")
    journal.start()
    journal.clear()
    openssh.login(key, "true").checked()
    begun, ended = await_lines(journal, 2)
    assert begun.pop("lost") == "2"
    assert_pair([begun, ended], "command", status="0")


def test_nothing_of_the_log_is_in_reach_of_a_session(begin: Begin, syslog: Syslog, key: Path) -> None:
    """But of the process that others know as the server: it has nothing of it."""
    container = begin("rootless")
    descriptors = openssh.login(key, "ls -l /proc/self/fd").checked().text
    assert not re.search(r"socket:|memfd:|journal", descriptors)
    wait_for(lambda: len(dropbears()) == 2, "the end of the session")
    found = dict(line.partition(":")[::2] for line in openssh.login(key, LOOK).checked().text.splitlines())
    assert len(found) == 3, found  # the daemon, its server, and the session's own
    status = Path(f"/proc/{container.daemon()}/status").read_text(encoding="utf-8")
    (daemon,) = re.findall(r"^NSpid:.*\t([0-9]+)$", status, re.MULTILINE)
    assert found.pop(daemon) != ""
    assert set(found.values()) == {""}
    links = [os.readlink(link) for link in Path(f"/proc/{container.daemon()}/fd").iterdir()]
    assert set(links) == {"/dev/null"}


@pytest.mark.parametrize("kind", ["podman-crun", "enroot", "attach"])
def test_a_killed_server_ends_its_daemon(begin: Begin, syslog: Syslog, kind: str) -> None:
    """Under enroot the daemon has another child, which waits for its end."""
    begin(kind)
    named = [pid for pid, name in processes().items() if name.startswith("dropbear")]
    stats = {pid: Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split() for pid in named}
    ((server, daemon),) = [(pid, int(fields[1])) for pid, fields in stats.items() if int(fields[1]) in stats]
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: attached.is_gone(daemon), "end of the daemon")


def test_what_a_killed_server_leaves_stays_below_its_daemon(begin: Begin, key: Path) -> None:
    """Who ends the daemon stops it first, and finds by descent what the server has started last: no user sees more."""
    container = begin("rootless")
    daemon = container.daemon()
    (server,) = children(daemon)
    command = [*openssh.client(key), "alice@127.0.0.1", "echo; sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        client.stdout.readline()
        (connection,) = children(server)
        os.kill(daemon, signal.SIGSTOP)
        os.kill(server, signal.SIGKILL)
        wait_for(lambda: connection in children(daemon), "another parent of the connection")
        container.stop()
        wait_for(lambda: not dropbears(), "the end of the connection")


def test_many_logins_at_once(begin: Begin, syslog: Syslog, key: Path) -> None:
    """On a busy machine the log may not take all lines in time: then it is told how many it lacks."""
    container = begin("podman-crun")
    syslog.clear()
    sessions = many.all_at_once(container, many.openssh_client(container, key), LOGINS)
    assert [session for session in sessions if session.status != 0] == []

    def count() -> int:
        lines = syslog.logins()
        return len(lines) + sum(int(line.get("lost", "0")) for line in lines)

    wait_for(lambda: count() >= LOGINS, "the beginnings")
    logins = LOGINS

    def are_told() -> bool:
        nonlocal logins
        openssh.login(key, "true").checked()  # whose lines count those that were lost
        logins += 1
        time.sleep(0.1)
        return count() >= 2 * logins

    wait_for(are_told, "the lines of all sessions", 60)
    assert count() == 2 * logins
