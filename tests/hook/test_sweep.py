"""`ssh_hook sweep` collects what a runtime that was killed never cleaned up, and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from containers import (
    ALICE,
    ALICES_COPIES,
    BOB,
    COPIES,
    LAUNCHER,
    PORT,
    RECORD,
    ROOT,
    Container,
    Plain,
    Podman,
    Result,
    as_user,
    call_hook,
    is_alone,
    listening,
    processes,
    records,
    run,
    running,
    shell_around,
    wait_for,
)
from patience import within
from recorded import BOOT_ID, OTHERS, age, describe, write_record
from refusals import assert_one_line
from starter import Start

PIDFILE = Path("/home/alice/sweep.pid")
WITH_PIDFILE = {"com.hooks.ssh.pidfile_host": str(PIDFILE)}
TEMPORARY = f"{RECORD}.new"
MAX_PID = 2**31 - 1  # which no process has
SLEEP = "exec sleep 456789"
UNIT = ROOT / "roles/ssh_hook/templates/ssh-hook-sweep.service.j2"

# Where /proc shows users the processes alone that they may trace
HIDDEN = ("unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh")

Values = dict[str, object]


def sweep(*options: str) -> Result:
    """Let root sweep, and expect no complaint."""
    done = run([LAUNCHER, "sweep", *options])
    assert (done.status, done.err) == (0, b"")
    return done


def swept(*prefix: str, status: int = 3) -> str:
    """Age all records, let `prefix` sweep, and return what it complains of; then it ends with `status`."""
    age()
    done = run([*prefix, LAUNCHER, "sweep"])
    assert done.out == b""
    assert done.status == (status if done.err else 0)
    return done.err.decode()


def as_alice(*command: str) -> list[str]:
    return as_user(ALICE, *command)


def is_clean() -> bool:
    return not processes() and PORT not in listening() and not records() and not PIDFILE.exists()


def without_poststop(*absent: str) -> Callable[[dict[str, Any]], None]:
    """A container whose runtime does not call the hook at its end, without these namespaces."""

    def change(config: dict[str, Any]) -> None:
        del config["hooks"]["poststop"]
        linux = config["linux"]
        linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] not in absent]

    return change


def orphan(start: Start, engine: str = "crun", **options: Any) -> Container:
    """A container of the host's pids whose first process was killed, and whose daemon runs on."""
    change = without_poststop("pid")
    container = start(engine, change=change, annotations=WITH_PIDFILE, network="host", **options)
    wait_until_served()
    kill_init(container)
    assert PORT in listening()
    assert PIDFILE.read_text(encoding="ascii") == f"{container.daemon()}\n"
    return container


def wait_until_served() -> None:
    """Until then the daemon ends with the container's first process."""
    with closing(socket.create_connection(("127.0.0.1", PORT), timeout=within(5))) as client:
        assert client.recv(4) == b"SSH-"


def kill_init(container: Container) -> None:
    init = container.init()
    os.kill(init, signal.SIGKILL)
    wait_for(lambda: not is_alive(init), "end of the container's first process")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def sleeps() -> set[str]:
    """The processes of open sessions."""
    return running("sleep", "456789")


@pytest.fixture
def session() -> Iterator[Callable[[Plain], subprocess.Popen[bytes]]]:
    """Opens a session that stays open, by the runtime's name of the container."""
    opened = []

    def open_one(container: Plain) -> subprocess.Popen[bytes]:
        client = subprocess.Popen(["crun", "exec", container.name, "ssh", "127.0.0.1", SLEEP], stdin=subprocess.DEVNULL)
        opened.append(client)
        wait_for(sleeps, "the session's command")
        return client

    yield open_one
    for client in opened:
        client.kill()
        client.wait()


# What is left after a kill


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_daemon_of_a_dead_container(start: Start, engine: str) -> None:
    orphan(start, engine)
    assert swept() == ""
    wait_for(is_clean, "end of what was left")


def test_young_record(start: Start) -> None:
    """Its start, or its poststop, may still be at work."""
    orphan(start)
    before = records()
    sweep()
    assert records() == before, "a sweep took a record that was less than a minute old"
    assert PORT in listening()
    assert swept() == ""
    wait_for(is_clean, "end of what was left")


def test_sessions_of_a_dead_container_end(start: Start, session: Callable[[Plain], object]) -> None:
    container = start("crun", change=without_poststop("pid"))
    assert isinstance(container, Plain)
    session(container)
    kill_init(container)
    assert sleeps()
    assert swept() == ""
    assert not sleeps()
    wait_for(is_clean, "end of what was left")


@pytest.mark.parametrize("engine", ["crun", "runc"])
def test_runtime_that_deletes_without_the_hook(start: Start, engine: str) -> None:
    container = start(engine, change=without_poststop(), annotations=WITH_PIDFILE)
    container.stop().checked()
    wait_for(lambda: not processes(), "end of the daemon")
    assert PIDFILE.exists()
    assert len(records()) == 2
    assert swept() == ""
    wait_for(is_clean, "end of what was left")


@pytest.mark.parametrize("mode", [[], ["--pid=host"]], ids=["private", "host"])
@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc"])
def test_killed_conmon(start: Start, engine: str, mode: list[str]) -> None:
    container = start(engine, options=mode, annotations=WITH_PIDFILE)
    kill_podmans(container)
    assert bool(processes()) == bool(mode)
    assert swept() == ""
    wait_for(is_clean, "end of what was left")
    forget(container)


def kill_podmans(container: Container) -> None:
    """Kill conmon first, so that nobody is left who would call poststop."""
    assert isinstance(container, Podman)
    is_rootless = container.bundle().is_relative_to("/home/alice")
    daemon = container.daemon()
    wait_until_served()
    wait_for(lambda: is_alone(daemon), "end of that connection")
    container.init()
    os.kill(int(container.inspect("{{.State.ConmonPid}}")), signal.SIGKILL)
    kill_init(container)
    assert len(records()) == (3 if is_rootless else 2)  # in /tmp, too


def forget(container: Container) -> None:
    """podman complains once that conmon is gone, and removes the container at the next try."""
    assert isinstance(container, Podman)
    container.podman("rm", "-f", "-t0", container.name)


ROOTLESS = {
    "root": ["--pid=host"],
    "keep-id": ["--pid=host", "--userns=keep-id"],
    "other uid": ["--pid=host", "--user=1234", "--env=HOME=/tmp"],
    "private": [],
}


SWEEPERS = {
    "user": as_alice(),
    "unshare": as_alice("podman", "unshare"),
    "unit": [*HIDDEN, *(word.replace(f"--regid={ALICE}", "--regid=65534") for word in as_alice())],
}


@pytest.mark.parametrize("sweeper", SWEEPERS.values(), ids=list(SWEEPERS))
@pytest.mark.parametrize("options", ROOTLESS.values(), ids=list(ROOTLESS))
def test_ordinary_user(start: Start, options: list[str], sweeper: list[str]) -> None:
    container = start("rootless", options=options, annotations=WITH_PIDFILE)
    kill_podmans(container)
    daemons = processes()
    assert bool(daemons) == bool(options)
    before = records()
    assert swept() == ""
    assert (records(), processes()) == (before, daemons)  # root's sweep is about root's containers
    assert swept(*as_user(BOB, name="bob")) == ""
    assert (records(), processes()) == (before, daemons)
    assert swept(*sweeper) == ""
    wait_for(is_clean, "end of what was left")
    forget(container)


# What is not left, but in use


@pytest.mark.parametrize("options", ROOTLESS.values(), ids=list(ROOTLESS))
def test_running_rootless_container_stays(start: Start, options: list[str]) -> None:
    """Also where users see their own processes only."""
    container = start("rootless", options=options)
    before = records(), processes()
    assert swept(*as_alice()) == ""
    assert (records(), processes()) == before
    assert swept(*HIDDEN, *as_alice()) == ""
    assert (records(), processes()) == before
    container.stop().checked()
    wait_for(is_clean, "end of the daemon")


@pytest.fixture
def unreadable() -> Iterator[Path]:
    """A program of root's that nobody else may read: a process that runs it is hidden, also from its own user."""
    program = Path("/home/unreadable")
    shutil.copy("/bin/sleep", program)
    program.chmod(0o111)
    yield program
    program.unlink()


def test_first_process_that_is_hidden(start: Start, unreadable: Path) -> None:
    options = [f"--volume={unreadable}:/unreadable:ro"]
    container = start("rootless", options=options, command=("/unreadable", "1000"))
    before = records(), processes()
    assert swept(*HIDDEN, *as_alice()) == ""
    assert (records(), processes()) == before
    container.stop().checked()
    wait_for(is_clean, "end of the daemon")


def test_daemon_that_is_hidden(unreadable: Path) -> None:
    """Its record stays until it has ended."""
    run(["install", "-d", "-m", "700", "-o", "alice", "-g", "alice", ALICES_COPIES.parent, ALICES_COPIES]).checked()
    daemon = subprocess.Popen(as_alice("unshare", "--user", str(unreadable), "1000"))
    try:
        wait_for(lambda: Path(f"/proc/{daemon.pid}/exe").samefile(unreadable), "the daemon")
        record = write_record(ALICES_COPIES, {**describe(daemon.pid), "init_pid": MAX_PID})
        os.chown(record, ALICE, ALICE)
        assert_one_line(swept(*HIDDEN, *as_alice()), "cannot sweep: ", f"process {daemon.pid} ", "hidepid")
        assert record.exists()
        assert daemon.poll() is None
    finally:
        daemon.kill()
        daemon.wait()
    assert swept(*HIDDEN, *as_alice()) == ""
    assert not record.exists()


@pytest.mark.parametrize("absent", [(), ("pid",)], ids=["private", "host"])
def test_running_container_and_its_session_stay(
    start: Start, session: Callable[[Plain], subprocess.Popen[bytes]], absent: tuple[str, ...]
) -> None:
    running = start("crun", change=without_poststop(*absent), annotations={"com.hooks.ssh.port": "16100"})
    assert isinstance(running, Plain)
    client = session(running)
    kept = records() | set(processes())
    open_session = sleeps()
    orphan(start)
    assert swept() == ""
    assert PORT not in listening()
    assert not PIDFILE.exists()
    assert (records() | set(processes()), sleeps()) == (kept, open_session)
    assert client.poll() is None
    assert running.ssh("echo still").checked().text == "still"
    assert call_hook({"status": "stopped", "bundle": str(running.bundle())}) == (0, "", "")
    assert not sleeps()
    wait_for(is_clean, "end of what was left")


def test_container_that_does_not_move_stays(start: Start) -> None:
    container = start("crun", change=without_poststop("pid"))
    init = container.init()
    os.kill(init, signal.SIGSTOP)
    assert swept() == ""
    os.kill(init, signal.SIGCONT)
    assert container.ssh("echo still").checked().text == "still"
    kill_init(container)
    assert swept() == ""
    wait_for(is_clean, "end of what was left")


def test_container_that_is_being_created(start: Start, tmp_path: Path) -> None:
    """The sweep comes before the hook has ended, and finds what that has just written."""
    launcher = shell_around(
        tmp_path / "hook",
        f"""hook "$@" || exit
        touch -d '2 minutes ago' {COPIES}/*
        hook sweep --debug 2>{tmp_path}/said >&2""",
    )
    container = start("crun", launcher=launcher)
    assert (tmp_path / "said").read_text(
        encoding="utf-8"
    ) == f"ssh_hook: debug: {container.bundle()}: the container runs\n"
    assert container.ssh("echo works").checked().text == "works"
    container.stop().checked()
    wait_for(is_clean, "end of what was left")


def test_sweeps_all_the_while(start: Start, tmp_path: Path) -> None:
    """Containers start and stop, and nothing that two of them could do at once is done to the wrong one."""
    done = threading.Event()
    complaints: list[bytes] = []

    def sweep_on() -> None:
        while not done.is_set():
            run(["sh", "-c", f"touch -c -d '2 minutes ago' {COPIES}/*"])
            answer = run([LAUNCHER, "sweep"])
            complaints.extend([answer.err] if answer.err or answer.status else [])

    def has_ended() -> bool:  # the processes of the sweeps themselves come and go
        is_swept = not records() and not PIDFILE.exists()
        return is_swept and PORT not in listening() and "dropbear" not in processes().values()

    sweepers = [threading.Thread(target=sweep_on) for _number in range(2)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        for number in range(8):
            container = start("crun", annotations=WITH_PIDFILE, change=None if number % 2 else without_poststop())
            assert container.ssh("echo works").checked().text == "works"
            container.stop().checked()
            wait_for(has_ended, "end of the container")
    finally:
        done.set()
        for sweeper in sweepers:
            sweeper.join()
    assert complaints == []


def test_what_is_younger_than_a_minute_stays(start: Start) -> None:
    orphan(start)
    sweep()
    assert PORT in listening()
    assert len(records()) == 2
    assert swept() == ""
    wait_for(is_clean, "end of what was left")


def test_container_that_was_started_again(start: Start, tmp_path: Path) -> None:
    """The record beside the bundle is the new container's."""
    container = start("crun")
    copy = next(COPIES.iterdir())
    ended = {"init_start_time": 1, "start_time": 1, "door": "", "copy": str(COPIES / "old")}
    old = write_record(tmp_path, {**values_of(copy), **ended}, "old")
    shutil.move(old, COPIES / "old")
    before = records()
    assert swept() == ""
    assert records() == before - {str(COPIES / "old")}
    container.stop().checked()
    wait_for(is_clean, "end of what was left")


def values_of(record: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in record.read_text(encoding="utf-8").splitlines()[1:])


# Records of processes that are others now; a canary stands for everything else on the node


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    """A bundle without a container, and a place for records."""
    COPIES.mkdir(mode=0o700, parents=True, exist_ok=True)
    COPIES.parent.chmod(0o700)
    assert not list(COPIES.iterdir())
    yield tmp_path
    shutil.rmtree(COPIES)
    shutil.rmtree(tmp_path)
    PIDFILE.unlink(missing_ok=True)


def gone(process: subprocess.Popen[bytes], bundle: Path, **values: object) -> Values:
    """A record by which `process` is the daemon of a container that is gone."""
    return {**describe(process.pid), "init_start_time": 1, "bundle": bundle, "pidfile_host": PIDFILE, **values}


def plant(bundle: Path, values: Mapping[str, object], name: str = "planted") -> tuple[Path, Path]:
    """Write a record and its copy, and the pidfile; returns the record's and the copy's paths."""
    PIDFILE.write_text(f"{values['pid']}\n", encoding="ascii")
    os.chown(PIDFILE, ALICE, ALICE)
    return write_record(bundle, values), write_record(COPIES, values, name)


def test_this_test_would_notice_a_kill(bundle: Path) -> None:
    """A record that names a process truly is followed: the canaries of the tests below are worth something."""
    process = subprocess.Popen(["/bin/sleep", "1000"])
    paths = plant(bundle, gone(process, bundle))
    assert swept() == ""
    assert process.wait(within(5)) == -signal.SIGKILL
    assert [path for path in (*paths, PIDFILE) if path.exists()] == []


def test_container_that_is_not_gone(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    paths = plant(bundle, {**describe(canary.pid), "bundle": bundle, "pidfile_host": PIDFILE})
    assert swept() == ""
    assert [path for path in (*paths, PIDFILE) if not path.exists()] == []


def test_first_process_that_nobody_reaps(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    init = subprocess.Popen(["/bin/sleep", "1000"])
    values = describe(init.pid)
    paths = plant(bundle, {**values, "bundle": bundle, "pidfile_host": PIDFILE})
    init.kill()
    wait_for(lambda: not is_alive(init.pid), "end of the process")
    assert Path(f"/proc/{init.pid}").exists()
    assert swept() == ""
    init.wait()
    assert [path for path in (*paths, PIDFILE) if path.exists()] == []


@pytest.mark.parametrize(
    "wrong",
    OTHERS,
    ids=lambda wrong: next(iter(wrong)),
)
def test_pid_of_another_process(bundle: Path, canary: subprocess.Popen[bytes], wrong: Values) -> None:
    paths = plant(bundle, gone(canary, bundle, **wrong))
    assert swept() == ""
    assert [path for path in (*paths, PIDFILE) if path.exists()] == []


def test_earlier_boot(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    """All that it names is running now, as something else."""
    values = {**describe(canary.pid), "bundle": bundle, "pidfile_host": PIDFILE}
    paths = plant(bundle, {**values, "boot_id": BOOT_ID[::-1]})
    assert swept() == ""
    assert [path for path in (*paths, PIDFILE) if path.exists()] == []


def test_twice(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    plant(bundle, gone(canary, bundle, start_time=1))
    age()
    said = f"ssh_hook: info: {bundle}: cleaned up after a container that is gone\n"
    assert sweep("--verbose").out.decode() == said
    assert sweep("--verbose").out == b""


def test_two_at_once(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    for number in range(200):
        write_record(COPIES, gone(canary, bundle, start_time=1), f"{number}")
    age()
    sweepers = [subprocess.Popen([LAUNCHER, "sweep"], stderr=subprocess.PIPE) for _number in range(3)]
    for sweeper in sweepers:
        _out, err = sweeper.communicate(timeout=within(30))
        assert (sweeper.returncode, err) == (0, b"")
    assert not list(COPIES.iterdir())


# The copies


def make_link(path: Path, canary: Path) -> None:
    path.symlink_to(canary)


def make_alices(path: Path, canary: Path) -> None:
    shutil.copy(canary, path)
    os.chown(path, ALICE, ALICE)


def make_pipe(path: Path, canary: Path) -> None:
    os.mkfifo(path, 0o600)


def make_directory(path: Path, canary: Path) -> None:
    path.mkdir()
    shutil.copy(canary, path)


def make_huge(path: Path, canary: Path) -> None:
    path.write_bytes(b"x" * 100)
    os.truncate(path, 1 << 40)


def make_garbage(path: Path, canary: Path) -> None:
    path.write_bytes(b"ssh_hook 1\npid=5\n\xff\0")


def make_writable(path: Path, canary: Path) -> None:
    shutil.copy(canary, path)
    path.chmod(0o620)


HOSTILE = [
    make_link,
    make_alices,
    make_pipe,
    make_directory,
    make_huge,
    make_garbage,
    make_writable,
]


@pytest.mark.parametrize("make", HOSTILE)
def test_what_is_no_record_stays(
    bundle: Path, canary: subprocess.Popen[bytes], tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    """And what is one beside it is looked at all the same."""
    true = write_record(tmp_path, {**describe(canary.pid), "init_start_time": 1}, "true")
    plant(bundle, gone(canary, bundle, start_time=1), "before")
    plant(bundle, gone(canary, bundle, start_time=1), "z-after")
    odd = COPIES / "odd"
    make(odd, true)
    age()
    before = os.lstat(odd), true.read_bytes()
    assert_one_line(swept(), "cannot sweep: ", f"odd in {COPIES}")
    after = os.lstat(odd), true.read_bytes()
    for name in ("st_ino", "st_mode", "st_uid", "st_size"):
        assert getattr(after[0], name) == getattr(before[0], name)
    assert after[1] == before[1]
    assert [path.name for path in COPIES.iterdir()] == ["odd"]


def test_copy_that_was_never_written(bundle: Path) -> None:
    """A hook was killed between two system calls."""
    empty = COPIES / "empty"
    empty.touch(mode=0o600)
    sweep()
    assert empty.exists()
    assert swept() == ""
    assert not empty.exists()


def test_directory_that_others_can_write(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    paths = plant(bundle, gone(canary, bundle))
    COPIES.chmod(0o770)
    assert_one_line(swept(status=1), str(COPIES), "trusted")
    COPIES.chmod(0o700)
    os.chown(COPIES, ALICE, ALICE)
    assert_one_line(swept(status=1), str(COPIES), "trusted")
    assert [path for path in (*paths, PIDFILE) if not path.exists()] == []


def test_directory_that_is_a_link(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    paths = plant(bundle, gone(canary, bundle))
    elsewhere = bundle / "copies"
    shutil.move(COPIES, elsewhere)
    COPIES.symlink_to(elsewhere)
    assert_one_line(swept(status=1), str(COPIES), "cannot open")
    COPIES.unlink()
    shutil.move(elsewhere, COPIES)
    assert [path for path in (*paths, PIDFILE) if not path.exists()] == []


def test_without_any(canary: subprocess.Popen[bytes]) -> None:
    shutil.rmtree(COPIES, ignore_errors=True)
    assert sweep().out == b""
    assert "no container of this user" in sweep("--debug").out.decode()


# What a record names: the bundle and the pidfile


def test_bundle_behind_a_link(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    """A user who may write above the bundle leads elsewhere, where the very record lies."""
    for place in ("user", "elsewhere/inner"):
        (bundle / place).mkdir(parents=True)
    (bundle / "user/above").symlink_to(bundle / "elsewhere")
    values = gone(canary, bundle / "user/above/inner", start_time=1)
    elsewhere = write_record(bundle / "elsewhere/inner", values)
    write_record(COPIES, values, "planted")
    assert swept() == ""
    assert elsewhere.exists()
    assert not list(COPIES.iterdir())


@pytest.mark.parametrize("path", ["", "relative", "/", "/proc/self/root", "/no/such", "/etc/passwd"])
def test_bundle_that_is_none(bundle: Path, canary: subprocess.Popen[bytes], path: str) -> None:
    write_record(COPIES, {**gone(canary, bundle, start_time=1), "bundle": path}, "planted")
    assert swept() == ""
    assert not list(COPIES.iterdir())


@pytest.mark.parametrize("name", [RECORD, TEMPORARY])
@pytest.mark.parametrize("make", HOSTILE)
def test_what_is_not_ours_beside_the_bundle_stays(
    bundle: Path, canary: subprocess.Popen[bytes], tmp_path: Path, make: Callable[[Path, Path], None], name: str
) -> None:
    values = gone(canary, bundle, start_time=1)
    write_record(COPIES, values, "planted")
    true = write_record(tmp_path, values, "true")
    make(bundle / name, true)
    age()
    assert swept() == ""
    assert os.path.lexists(bundle / name)
    assert true.exists()
    assert not list(COPIES.iterdir())


def test_unfinished_record(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    values = gone(canary, bundle, start_time=1)
    for prepare, stays in (
        (lambda: write_record(bundle, values, TEMPORARY), False),
        (lambda: write_record(bundle, {**values, "pid": 77}, TEMPORARY), True),
        (lambda: (bundle / TEMPORARY).touch(mode=0o600), True),
        (lambda: age(bundle / TEMPORARY), False),
    ):
        write_record(COPIES, values, "planted")
        prepare()
        assert swept() == ""
        assert (bundle / TEMPORARY).exists() == stays
        if stays and (bundle / TEMPORARY).stat().st_size:
            (bundle / TEMPORARY).unlink()


def test_pidfile_of_another_daemon(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    plant(bundle, gone(canary, bundle, start_time=1))
    PIDFILE.write_text("4711\n", encoding="ascii")
    assert swept() == ""
    assert PIDFILE.read_text(encoding="ascii") == "4711\n"


def test_pidfile_that_is_a_link(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    plant(bundle, gone(canary, bundle, start_time=1))
    PIDFILE.rename(PIDFILE.with_suffix(".real"))
    PIDFILE.symlink_to(PIDFILE.with_suffix(".real"))
    assert swept() == ""
    assert PIDFILE.is_symlink()
    PIDFILE.with_suffix(".real").unlink()


def test_pidfile_that_the_user_may_not_remove(bundle: Path, canary: subprocess.Popen[bytes]) -> None:
    roots = bundle / "roots.pid"
    roots.write_text(f"{canary.pid}\n", encoding="ascii")
    write_record(COPIES, gone(canary, bundle, start_time=1, pidfile_host=roots), "planted")
    assert swept() == ""
    assert roots.exists()


# The command


def test_the_units_capabilities_are_enough(start: Start) -> None:
    container = orphan(start)
    assert isinstance(container, Plain)
    line = next(line for line in UNIT.read_text(encoding="utf-8").splitlines() if line.startswith("CapabilityBound"))
    names = [name.removeprefix("CAP_").lower() for name in line.partition("=")[2].split()]
    sets = ",".join(["-all", *(f"+{name}" for name in names)])
    assert swept("setpriv", "--no-new-privs", f"--bounding-set={sets}", f"--inh-caps={sets}") == ""
    wait_for(is_clean, "end of what was left")


@pytest.mark.parametrize("options", [["--overwrite"], ["now"], [""], ["--verbose", "x\ny"]])
def test_wrong_arguments(options: list[str]) -> None:
    done = run([LAUNCHER, "sweep", *options])
    assert (done.status, done.out) == (1, b"")
    assert_one_line(done.err.decode(), "unrecognized arguments: ", "see 'ssh_hook sweep --help'")


def test_help_names_it() -> None:
    assert "\n  sweep  " in run([LAUNCHER, "--help"]).checked().text
