"""`ssh_hook doctor --node` and `ssh_hook sweep --metrics`: what programs that watch nodes are told."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from containers import ALICE, BOB, COPIES, ENTRIES, LAUNCHER, PORT, ROOT, StartFailed, as_user, run
from hook_log import Syslog
from patience import within
from recorded import age
from refusals import assert_one_line
from starter import Start

PREFIX = Path("/opt/oci-hooks")
PASSWD = PREFIX / "etc/passwd"
JSON = Path("/usr/share/containers/oci/hooks.d/07-ssh-hook.json")
UNIT = ROOT / "roles/ssh_hook/templates/ssh-hook-sweep.service.j2"


def health(*prefix: str) -> tuple[int, str]:
    """Return exit status and line of a check of the node; AssertionError where JSON says something else."""
    done = run([*prefix, LAUNCHER, "doctor", "--node"])
    assert (done.err, done.out.count(b"\n")) == (b"", 1)
    programs = run([*prefix, LAUNCHER, "doctor", "--node", "--json"])
    problems = [f"{entry['check']}: {entry['text']}" for entry in json.loads(programs.text) if entry["result"] != "ok"]
    assert programs.status == done.status == int(bool(problems))
    assert done.text.startswith("problem: " + "; ".join(problems)[:900] if problems else "ok: ssh_hook ")
    return done.status, done.text


def test_a_node_where_all_is_well() -> None:
    status, line = health()
    assert status == 0, line
    for word in (str(PASSWD), "/dropbear/bin/", str(JSON), f"Linux {os.uname().release}"):
        assert word in line


def test_it_is_for_root() -> None:
    done = run(as_user(ALICE, LAUNCHER, "doctor", "--node"))
    assert (done.status, done.out) == (1, b"")
    assert_one_line(
        done.err.decode(),
        "only root can see",
        "run it as root, or 'ssh_hook doctor' as yourself",
        kind="arguments-wrong",
    )


def test_it_is_quick() -> None:
    start = time.monotonic()
    run([LAUNCHER, "doctor", "--node"])
    assert time.monotonic() - start < within(4.0)  # a fifth of a second, on a machine with nothing else to do


@contextmanager
def mode(path: Path, added: int) -> Iterator[None]:
    before = path.stat().st_mode & 0o7777
    path.chmod(before | added)
    try:
        yield
    finally:
        path.chmod(before)


@contextmanager
def owner(path: Path) -> Iterator[None]:
    os.chown(path, ALICE, -1)
    try:
        yield
    finally:
        os.chown(path, 0, -1)


@contextmanager
def away(path: Path) -> Iterator[None]:
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


@contextmanager
def empty(path: Path) -> Iterator[None]:
    content = path.read_bytes()
    path.write_bytes(b"")
    try:
        yield
    finally:
        path.write_bytes(content)


@contextmanager
def records_of_another() -> Iterator[None]:
    ENTRIES.mkdir(parents=True, exist_ok=True)
    with owner(ENTRIES):
        yield


@contextmanager
def records_without_room() -> Iterator[None]:
    ENTRIES.mkdir(parents=True, exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "tmpfs", ENTRIES]).checked()
    try:
        (ENTRIES / "page").write_bytes(bytes(4096))
        yield
    finally:
        run(["umount", ENTRIES]).checked()


@contextmanager
def through_a_directory_of_everybody() -> Iterator[None]:
    """The passwd file's directory is a link to a link in a directory like /tmp, and that leads back to it."""
    etc, real, everybodys = PASSWD.parent, PREFIX / "real-etc", PREFIX / "everybodys"
    everybodys.mkdir()
    everybodys.chmod(0o1777)
    etc.rename(real)
    (everybodys / "etc").symlink_to(real)
    etc.symlink_to(everybodys / "etc")
    try:
        yield
    finally:
        etc.unlink()
        real.rename(etc)
        (everybodys / "etc").unlink()
        everybodys.rmdir()


def code(pattern: str) -> Path:
    """A file of the version that the launcher runs."""
    named = re.search(r'^directory = "(.*)"$', Path(LAUNCHER).read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    return next(Path(named[1]).glob(pattern))


BROKEN: dict[str, tuple[Callable[[], AbstractContextManager[None]], str]] = {
    "launcher": (
        lambda: mode(Path(LAUNCHER), 0o020),
        f"code: {LAUNCHER} is writable by users other than root (owner uid 0, mode 0775)",
    ),
    "code": (
        lambda: mode(code("ssh_hook/stop/orphans.py"), 0o020),
        "/stop/orphans.py is writable by users other than",
    ),
    "bytecode": (lambda: owner(code("*/ssh_hook/cli.pyc")), "/ssh_hook/cli.pyc is writable by users other than root"),
    "lib": (lambda: mode(PREFIX / "lib", 0o020), f"code: {PREFIX}/lib is writable by users other than root"),
    "prefix": (lambda: mode(PREFIX, 0o002), f"{PREFIX} is writable by users other than root"),
    "passwd-owner": (
        lambda: owner(PASSWD),
        f"settings: {PASSWD} is writable by users other than root (owner uid {ALICE}",
    ),
    "passwd-empty": (lambda: empty(PASSWD), f"settings: {PASSWD} (PASSWD_FILE) is empty: run the playbook deploy"),
    "passwd-gone": (lambda: away(PASSWD), f"settings: {PASSWD}: No such file or directory"),
    "passwd-link": (
        through_a_directory_of_everybody,
        f"settings: {PREFIX}/everybodys is writable by users other than root (owner uid 0, mode 1777)",
    ),
    "json-owner": (lambda: owner(JSON), f"engine: {JSON} is writable by users other than root"),
    "json-gone": (
        lambda: empty(JSON),
        f"engine: no hook JSON or CDI spec in the engines' directories calls {LAUNCHER}",
    ),
    "records": (records_of_another, f"records: {ENTRIES} must be a directory that only root can write to: remove it"),
    "records-full": (
        records_without_room,
        f"records: cannot write to {ENTRIES}: its file system is full or read-only: free space, or remount it",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_node_where_something_is_wrong(name: str) -> None:
    broken, words = BROKEN[name]
    with broken():
        status, line = health()
    assert status == 1
    assert words in line


def test_programs_and_records_that_are_not_there(tmp_path: Path) -> None:
    status, line = health("env", "DROPBEAR_DIR=/no/such")
    assert (status, "programs: cannot find /no/such/bin/dropbear" in line) == (1, True)
    status, line = health("env", "PASSWD_FILE=")
    assert (status, line.count("PASSWD_FILE") >= 1) == (1, True)


# A container of a user's.


def probe(*prefix: str, user: str = "alice") -> tuple[int, str]:
    """Return exit status and line of a check of the node with a container; nothing of it is left."""
    before = run(["podman", "ps", "--all", "--quiet"]).checked().out
    done = run([*prefix, LAUNCHER, "doctor", "--node", "--probe", user])
    assert (done.err, done.out.count(b"\n")) == (b"", 1)
    assert run(["podman", "ps", "--all", "--quiet"]).checked().out == before
    assert list(Path("/run").glob("ssh_hook-probe-*")) == []
    return done.status, done.text


def test_a_user_logs_in_to_a_container_without_an_image(syslog: Syslog) -> None:
    """No warning says what is meant to be so, as that no other node can reach it."""
    status, line = probe()
    assert (status, "; alice logged in to a new container, in " in line) == (0, True), line
    assert syslog.with_text("[port-unusable]") == []


def test_a_user_who_cannot_log_in_is_a_problem() -> None:
    with mode(Path("/home/alice"), 0o022):
        status, line = probe()
    assert status == 1
    assert line.startswith("problem: probe: alice cannot log in to a new container (status ")
    status, line = probe(user="nobody-here")
    assert (status, line) == (1, f"problem: probe: --probe: nobody-here is not in {PASSWD}: give a user who is")


def test_a_podman_that_does_not_answer_is_a_problem(tmp_path: Path) -> None:
    podman = tmp_path / "podman"
    podman.write_text('#!/bin/sh\n[ "$1" = rm ] || exec sleep 1000\n', encoding="utf-8")
    podman.chmod(0o755)
    status, line = probe("env", f"PATH={tmp_path}:{os.environ['PATH']}")
    assert (status, "(status -1, 'no answer within 30 s')" in line) == (1, True), line


def test_no_container_starts_on_a_node_with_a_problem() -> None:
    with empty(PASSWD):
        status, line = probe()
    assert (status, line.startswith("problem: settings: "), "probe" in line) == (1, True, False), line


def test_a_probe_is_part_of_the_nodes_check() -> None:
    done = run(as_user(ALICE, LAUNCHER, "doctor", "--probe", "alice"))
    assert (done.status, done.out) == (1, b"")
    assert_one_line(done.err.decode(), "--probe is for root's check of a node: add --node", kind="arguments-wrong")


# Metrics.


@pytest.fixture
def file() -> Iterator[Path]:
    """A file in a directory of root's; nobody has failed before."""
    directory = Path("/run/hook-test-metrics")
    directory.mkdir(mode=0o755)
    for path in ENTRIES.glob("*/error"):
        path.unlink()
    path = directory / "ssh_hook.prom"
    yield path
    path.unlink(missing_ok=True)
    directory.rmdir()


def metrics(file: Path, *prefix: str) -> dict[str, int]:
    """Let root sweep; return the values of the metrics, those of kinds as name{kind}."""
    done = run([*prefix, LAUNCHER, "sweep", "--metrics", str(file)])
    assert (done.status, done.err) == (0, b"")
    text = file.read_text(encoding="ascii")
    assert text.endswith("\n# EOF\n")
    found = re.findall(r'^ssh_hook_(\w+)(?:\{kind="([a-z-]+)"\})? ([0-9]+)$', text, re.MULTILINE)
    return {f"{name}{{{kind}}}" if kind else name: int(value) for name, kind, value in found}


def as_the_unit() -> list[str]:
    """Return a command that gives another what the systemd unit gives the sweep."""
    line = next(line for line in UNIT.read_text(encoding="utf-8").splitlines() if line.startswith("CapabilityBound"))
    sets = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in line.partition("=")[2].split())])
    return ["unshare", "--net", "setpriv", "--no-new-privs", f"--bounding-set={sets}", f"--inh-caps={sets}"]


@pytest.mark.parametrize("engine", ["podman-crun", "rootless"])
def test_daemons_are_counted(start: Start, file: Path, engine: str) -> None:
    assert metrics(file, *as_the_unit())["daemons"] == 0
    container = start(engine)
    assert container.ssh("true").status == 0
    assert metrics(file, *as_the_unit())["daemons"] == 1
    assert metrics(file)["daemons"] == 1


# Runs a command; prints its processor time in seconds, and the most memory of it and its children in kilobytes.
MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, capture_output=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
out = [data.decode(errors="replace") for data in (done.stdout, done.stderr)]
print(json.dumps([done.returncode, out, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
# Becomes NUMBER processes that are named as a daemon is, each with the command line that this one has.
CROWD = """
import ctypes, os, sys, time
for _process in range(int(sys.argv[1]) - 1):
    if os.fork() == 0:
        break
ctypes.CDLL(None).prctl(15, b"dropbear")
if os.getppid() != int(sys.argv[2]):
    time.sleep(1000)
print("ready", flush=True)
time.sleep(1000)
"""
SERVER = "/opt/oci-hooks/ssh/dropbear/bin/dropbear"


def test_processes_that_are_called_as_a_daemon(start: Start, file: Path) -> None:
    """Whatever other users run, and whatever its image runs, neither a user's connect nor root's sweep reads it."""
    start("rootless")
    crowds = [crowd(BOB, 1000), crowd(ALICE, 1000), *(crowd(BOB, 1, 9 * ("x" * 120_000,)) for _process in range(40))]
    try:
        for process in crowds:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        connect = as_user(ALICE, LAUNCHER, "connect", "localhost")
        for command, seconds, megabytes in ((connect, 0.5, 30), ([LAUNCHER, "sweep", "--metrics", file], 10, 64)):
            done = run(["python3", "-c", MEASURED, *command]).checked()
            status, said, used, memory = json.loads(done.text)
            assert (status, said[1]) == (0, ""), said
            assert used < seconds, "the memory of a process was read: too much time"
            assert memory < megabytes << 10, "the memory of a process was read: too much memory"
    finally:
        for process in crowds:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert re.search(r"^ssh_hook_daemons 1$", file.read_text(encoding="ascii"), re.MULTILINE)


def crowd(user: int, number: int, words: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """Start `number` processes of `user` with `words` at the end of their command lines, in a group of their own."""
    script = f'exec -a {SERVER} python3 -c "$0" {number} $PPID "$@"'
    command = as_user(user, "bash", "-c", script, CROWD, *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


def test_failures_are_counted_once_by_their_kind(start: Start, file: Path) -> None:
    first = metrics(file)
    with socket.create_server(("0.0.0.0", PORT)), pytest.raises(StartFailed):
        start("crun")
    time.sleep(2)  # the present second is the next sweep's
    second, third = metrics(file, *as_the_unit()), metrics(file)
    for found, number in ((first, 0), (second, 1), (third, 1)):
        failures = {name: value for name, value in found.items() if name.startswith("failures_total")}
        assert sum(failures.values()) == failures["failures_total{port-taken}"] == number


def test_what_is_collected_is_counted(file: Path) -> None:
    assert metrics(file)["collected_total"] == 0
    COPIES.mkdir(parents=True, exist_ok=True)
    (COPIES / "1-2-3").touch(mode=0o600)
    age()
    assert metrics(file, *as_the_unit())["collected_total"] == 1
    assert metrics(file)["collected_total"] == 1


def test_a_directory_that_others_can_write_to_is_refused(file: Path) -> None:
    with mode(file.parent, 0o020):
        done = run([LAUNCHER, "sweep", "--metrics", str(file)])
    assert (done.status, done.out) == (1, b"")
    assert_one_line(
        done.err.decode(),
        f"other users can write to {file.parent}",
        "give it to root, with mode 0755",
        kind="not-trusted",
    )
    assert not file.exists()
