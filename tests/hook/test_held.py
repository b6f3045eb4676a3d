"""A user who lets the hook wait without end: by the lock of an inode of hers (see lib/held.py), or by SIGSTOP.

Nothing of the hook's waits for her longer than its deadline, and nobody else notices.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from attack import one_line
from changes import beside_others, bind, of_bob
from containers import (
    ALICE,
    BOB,
    COPIES,
    LAUNCHER,
    PORT,
    Engine,
    Plain,
    StartFailed,
    as_user,
    keys,
    listening,
    new_name,
    plain_create,
    processes,
    records,
    run,
    running,
    wait_for,
)
from held import NO_CHANGES, NO_LOOKUPS, NO_WRITES, held, unanswered
from hook_log import Syslog
from patience import within
from recorded import age, describe, write_record
from starter import Start
from sweep_unit import UNIT, sweeping_systemd, user_unit

DEADLINE = 10.0  # seconds; the hook's own, for what the user holds up
AT_ONCE = 8.0  # seconds for what nobody holds up, on a busy machine
TOP = Path("/home/alice/held")  # on a disk; what alice holds is below
WORDS = "no answer within"
PIDFILE = "com.hooks.ssh.pidfile_host"


def limit() -> float:
    """Return in how many seconds what the user holds up has ended. On an idle machine two deadlines exceed it."""
    return DEADLINE + within(9.0)


class Outcome(NamedTuple):
    """How a start went: the hook's error, or "" for a container that runs; and how long it took, in seconds."""

    error: str
    seconds: float


class Starts:
    """Starts and commands that may hang. All of it is ended at the end, when alice holds nothing any more."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(16)
        self._containers: list[Callable[[], object]] = []
        self._ports = iter(range(16400, 16500))
        self._others = set(processes())

    def begin(self, engine: str, annotations: Mapping[str, str] | None = None, **options: Any) -> Future[Outcome]:
        """Start a container with a port of its own, and remove it if it has started."""
        with_port = {"com.hooks.ssh.port": str(next(self._ports)), **(annotations or {})}
        name = new_name()
        if Engine(engine).is_podman:
            remove = [*Engine(engine).podman, "rm", "-f", "-t0", "-i", name]
            self._containers.append(lambda: run(remove, cwd="/run").checked())
            return self._pool.submit(self._start_podman, engine, annotations=with_port, name=name, **options)
        container = plain_create(engine, "busybox", annotations=with_port, **options)
        self._containers.append(container.remove)
        return self._pool.submit(self._start_plain, container)

    def _start_podman(self, engine: str, **options: Any) -> Outcome:
        begin = time.monotonic()
        try:
            Engine(engine).start("busybox", **options)
        except StartFailed as failed:  # podman has removed it
            return Outcome(one_line(failed.hook), time.monotonic() - begin)
        return Outcome("", time.monotonic() - begin)

    def _start_plain(self, container: Plain) -> Outcome:
        begin = time.monotonic()
        started = container.start()
        if started.status == 0:
            return Outcome("", time.monotonic() - begin)
        outcome = Outcome(one_line(container.failure(started).hook), time.monotonic() - begin)
        container.runtime("delete", "--force", container.name)  # which the runtime may have done by itself
        assert container.runtime("state", container.name).status != 0
        assert time.monotonic() - begin < outcome.seconds + within(AT_ONCE)
        return outcome

    def call(self, action: Callable[[], Any]) -> Future[Any]:
        """Do something that may hang."""
        return self._pool.submit(action)

    def wait_until_none_is_left(self) -> None:
        """Return when no process of the hook's is left."""
        wait_for(lambda: set(processes()) <= self._others, "end of the hook's processes")

    def end(self) -> None:
        self._pool.shutdown()
        while self._containers:
            self._containers.pop()()


@pytest.fixture
def starts(nothing_left: None) -> Iterator[Starts]:
    starts = Starts()
    yield starts
    starts.end()
    shutil.rmtree(TOP, ignore_errors=True)


def directory(name: str) -> Path:
    """A new directory of alice's."""
    path = TOP / name
    path.mkdir(parents=True)
    os.chown(TOP, ALICE, ALICE)
    os.chown(path, ALICE, ALICE)
    return path


def assert_refused(outcome: Future[Outcome]) -> None:
    error, seconds = outcome.result(limit())
    assert WORDS in error
    assert seconds < limit()


def assert_others_go_on(starts: Starts, start: Start) -> None:
    """A container of bob's starts, works and stops at once."""

    def live() -> None:
        container = start("crun", "busybox", change=of_bob, annotations={"com.hooks.ssh.port": "16399"})
        assert container.exec("/opt/oci-hooks/ssh/bin/ssh", "127.0.0.1", "echo works").checked().text == "works"
        container.stop().checked()

    starts.call(live).result(within(AT_ONCE))


def test_pidfile_in_a_held_directory(starts: Starts, start: Start) -> None:
    path = directory("pidfile")
    with held(path, NO_CHANGES):
        outcomes = [
            starts.begin(engine, {PIDFILE: str(path / engine)}) for engine in ("crun", "podman-crun", "rootless")
        ]
        assert_others_go_on(starts, start)
        for outcome in outcomes:
            assert_refused(outcome)
    starts.wait_until_none_is_left()
    # An open that was killed while it waited still makes its file.
    assert [name for name in os.listdir(path) if (path / name).stat().st_size] == []


@pytest.mark.parametrize("engine", ["crun", "podman-crun"])
def test_poststop_with_a_held_pidfile(starts: Starts, start: Start, syslog: Syslog, engine: str) -> None:
    path = directory("pidfile")
    container = start(engine, "busybox", annotations={PIDFILE: str(path / "pid")})
    daemon = container.daemon()
    with held(path, NO_CHANGES):
        stopped = starts.call(container.stop)
        stopped.result(limit())
        wait_for(lambda: not Path(f"/proc/{daemon}").exists(), "end of the daemon")
        assert PORT not in listening()
        assert records() == set()
        wait_for(syslog.of_hook, "a message in syslog")
    (message,) = syslog.of_hook()
    assert WORDS in message
    starts.wait_until_none_is_left()


def is_sleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8") == "sleep\n"


def test_sweep_with_a_held_pidfile(starts: Starts) -> None:
    """The records are those of containers that are gone. alice's comes first; bob's daemon runs on."""
    path = directory("pidfile")
    COPIES.mkdir(mode=0o700, parents=True, exist_ok=True)
    COPIES.parent.chmod(0o700)
    bobs = Path("/home/bob/sweep.pid")
    daemons = {uid: subprocess.Popen([*as_user(uid, "/bin/sleep", "1000")]) for uid in (ALICE, BOB)}
    pidfiles = {ALICE: path / "pid", BOB: bobs}
    try:
        for uid, daemon in daemons.items():
            wait_for(partial(is_sleep, daemon.pid), "the daemon")
            pidfiles[uid].write_text(f"{daemon.pid}\n", encoding="ascii")
            os.chown(pidfiles[uid], uid, uid)
            gone = {"init_start_time": 1, "uid": uid, "gid": uid, "pidfile_host": pidfiles[uid]}
            write_record(COPIES, {**describe(daemon.pid), **gone}, f"record-{uid}")
        age()
        with held(path, NO_CHANGES):
            first = starts.call(lambda: run([LAUNCHER, "sweep"])).result(limit())
            assert [daemon.wait(within(AT_ONCE)) for daemon in daemons.values()] == [-9, -9]
            assert not bobs.exists()
            assert not (COPIES / f"record-{BOB}").exists()
            (line,) = first.err.decode().splitlines()
            assert line.startswith("ssh_hook: ")
            assert WORDS in line
            starts.call(lambda: run([LAUNCHER, "sweep"])).result(limit())
        starts.wait_until_none_is_left()  # a sweep leaves alice's records alone until what hung has ended
        last = starts.call(lambda: run([LAUNCHER, "sweep"])).result(within(AT_ONCE))
        assert (last.status, last.err) == (0, b"")
        assert list(COPIES.iterdir()) == []
    finally:
        for daemon in daemons.values():
            daemon.kill()
            daemon.wait()
        bobs.unlink(missing_ok=True)
        for copy in COPIES.iterdir():
            copy.unlink()


UNKNOWN = 3999  # a uid that no name service knows


@pytest.fixture
def own() -> Iterator[dict[int, Path]]:
    """The directories for copies of alice's and bob's records, by uid; a third has a directory in /run/user only."""
    found = {uid: Path(f"/run/user/{uid}/ocihooks-ssh/daemons") for uid in (ALICE, BOB)}
    unknown = Path(f"/run/user/{UNKNOWN}")
    for uid, path in found.items():
        run(["rm", "-rf", path.parent]).checked()
        run(["install", "-d", "-m", "700", "-o", str(uid), "-g", str(uid), path.parent, path]).checked()
    unknown.mkdir()
    yield found
    unknown.rmdir()
    for path in found.values():
        run(["rm", "-rf", path.parent]).checked()


def plant(copies: Path) -> Path:
    """Write the record of a container that is gone, as its user's hook did before it named the pid namespace."""
    values = {**describe(os.getpid()), "init_start_time": 1, "start_time": 1}
    record = write_record(copies, {name: values[name] for name in values if name != "pid_namespace"}, "gone")
    os.chown(record, copies.stat().st_uid, copies.stat().st_gid)
    age(record)
    return record


def of_user(uid: int) -> set[int]:
    """The processes with this uid."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # it has ended
            if f"\nUid:\t{uid}\t" in path.read_text(encoding="utf-8"):
                found.add(int(path.parent.name))
    return found


class Units:
    """The units of sweeps, which a real systemd runs."""

    def __init__(self, systemctl: Callable[..., str]) -> None:
        self._systemctl = systemctl

    def sweep(self, most: float | None = None) -> None:
        """Run root's, which succeeds in `most` seconds, or at once."""
        start = time.monotonic()
        self._systemctl("start", UNIT)
        assert time.monotonic() - start < (most or within(AT_ONCE))
        assert self._systemctl("show", "--property=Result,ActiveState", UNIT) == "Result=success\nActiveState=inactive"

    def state(self, uid: int) -> str:
        return self._systemctl("show", "--property=ActiveState", "--value", user_unit(uid))

    def failed(self) -> str:
        return self._systemctl("list-units", "--failed", "--plain", "--no-legend")


@pytest.fixture
def units() -> Iterator[Units]:
    with sweeping_systemd() as systemctl:
        yield Units(systemctl)


def test_sweep_by_systemd_with_a_user_who_hangs(own: dict[int, Path], units: Units) -> None:
    """What bob's containers left is collected each time, alice's when she lets go. Her process, which cannot be killed,
    stays the only one, and no unit has failed.
    """
    before = of_user(ALICE)
    own[ALICE].rmdir()  # a name that the kernel has to look up
    with held(own[ALICE].parent, NO_LOOKUPS):
        holder = of_user(ALICE)
        for _time in range(2):
            bobs = plant(own[BOB])
            units.sweep()
            wait_for(partial(is_gone, bobs), "bob's sweep")
            wait_for(lambda: units.state(ALICE) == "deactivating", "alice's limit of time")
            (hanging,) = of_user(ALICE) - holder
        assert_confined(hanging)
        time.sleep(8)  # systemd's own limit for the end of a unit, 2 s here, has passed for each signal
        assert units.state(ALICE) == "deactivating"
        assert units.failed() == ""
    wait_for(lambda: units.state(ALICE) == "inactive", "the end of what hung")
    own[ALICE].mkdir(mode=0o700)
    os.chown(own[ALICE], ALICE, ALICE)
    hers = plant(own[ALICE])
    units.sweep()
    wait_for(partial(is_gone, hers), "alice's sweep")
    wait_for(lambda: (units.state(ALICE), units.state(UNKNOWN)) == ("inactive", "inactive"), "the units' end")
    assert units.failed() == ""
    assert of_user(ALICE) <= before


def test_sweep_by_systemd_with_a_held_pidfile(starts: Starts, units: Units) -> None:
    """Of a rootful container. Root's unit succeeds, though a process of it cannot be killed, and leaves no second."""
    pidfile = directory("pidfile") / "pid"
    pidfile.write_text(f"{os.getpid()}\n", encoding="ascii")
    os.chown(pidfile, ALICE, ALICE)
    values = {**describe(os.getpid()), "init_start_time": 1, "start_time": 1, "pidfile_host": pidfile}
    COPIES.mkdir(mode=0o700, parents=True, exist_ok=True)
    COPIES.parent.chmod(0o700)
    record = write_record(COPIES, {name: values[name] for name in values if name != "pid_namespace"}, "gone")
    age(record)
    try:
        with held(pidfile.parent, NO_CHANGES):
            before = of_user(ALICE)
            units.sweep(limit())
            left: set[int] = set()

            def is_alone() -> bool:  # alice's own unit may begin later
                left.clear()
                left.update(of_user(ALICE) - before)
                return len(left) == 1

            wait_for(is_alone, "the end of alice's own unit")
            (hanging,) = left
            units.sweep()
            wait_for(lambda: of_user(ALICE) - before == {hanging}, "the end of alice's own unit")
            assert record.exists()
            assert units.failed() == ""
        wait_for(lambda: hanging not in of_user(ALICE), "the end of what hung")
        units.sweep()
        assert [path for path in (record, pidfile) if path.exists()] == []
    finally:
        record.unlink(missing_ok=True)


def assert_confined(pid: int) -> None:
    """The process has alice's uid, nobody's group, no rights, and the cgroup of her unit; alice cannot trace it."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    uids, gids, none = "\t".join([str(ALICE)] * 4), "\t".join(["65534"] * 4), "0" * 16
    wanted = [
        f"Uid:\t{uids}",
        f"Gid:\t{gids}",
        "NoNewPrivs:\t1",
        *(f"Cap{name}:\t{none}" for name in ("Prm", "Eff", "Bnd")),
    ]
    assert set(wanted) <= set(status)
    assert f"/system.slice/{user_unit(ALICE)}\n" in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii")
    assert b"Permission denied" in run(as_user(ALICE, "cat", f"/proc/{pid}/environ")).err


def is_gone(path: Path) -> bool:
    return not path.exists()


def test_sweep_by_systemd_with_a_file_system_that_hangs(own: dict[int, Path], request: pytest.FixtureRequest) -> None:
    before = of_user(ALICE)
    with unanswered(own[ALICE].parent):
        units: Units = request.getfixturevalue("units")  # with the mount
        for _time in range(2):
            bobs = plant(own[BOB])
            units.sweep()
            wait_for(partial(is_gone, bobs), "bob's sweep")
            wait_for(lambda: units.state(ALICE) == "inactive", "alice's limit of time")
            assert units.failed() == ""
            assert of_user(ALICE) == before


@contextmanager
def uncached(path: Path) -> Iterator[None]:
    """The name `path` is one that the kernel has to look up, since a file that was open was removed there."""
    status = path.stat()
    with path.open("rb") as file:
        path.unlink()
        try:
            yield
        finally:
            path.write_bytes(file.read())
            path.chmod(status.st_mode)
            os.chown(path, status.st_uid, status.st_gid)


def test_keys_in_a_held_directory(starts: Starts, start: Start) -> None:
    with uncached(keys() / "authorized_keys"):
        with held(keys(), NO_LOOKUPS):
            outcomes = [starts.begin(engine) for engine in ("crun", "podman-crun", "rootless")]
            assert_others_go_on(starts, start)
            for outcome in outcomes:
                assert_refused(outcome)
        starts.wait_until_none_is_left()


def test_public_keys_in_a_held_directory(starts: Starts, start: Start) -> None:
    path = directory("public")
    with held(path, NO_LOOKUPS):
        outcome = starts.begin("crun", {"com.hooks.ssh.authorize_ssh_key": str(path / "key")})
        assert_others_go_on(starts, start)
        assert_refused(outcome)
    starts.wait_until_none_is_left()


def test_held_log_file(starts: Starts, start: Start, syslog: Syslog) -> None:
    """What cannot be logged there is said elsewhere."""
    path = directory("log") / "log"
    path.touch()
    os.chown(path, ALICE, ALICE)
    with held(path, NO_WRITES):
        outcome = starts.begin("crun", {"com.hooks.logging.stdoutfd": str(path), "com.hooks.logging.level": "1"})
        assert_others_go_on(starts, start)
        error, seconds = outcome.result(limit())
        assert seconds < limit()
        assert WORDS in error or [message for message in syslog.of_hook() if WORDS in message]
    starts.wait_until_none_is_left()


def test_held_volumes(starts: Starts, start: Start) -> None:
    """The home, where the hook has to make ~/.ssh; and ~/.ssh, on which it mounts, or into which it writes keys."""
    homes = {name: directory(name) for name in ("crun", "runc", "podman-crun")}
    shared = {name: directory(name) for name in ("mounted", "written")}

    mount_point = Path("/home/alice/.ssh")
    mount_point.mkdir(mode=0o700, exist_ok=True)
    os.chown(mount_point, ALICE, ALICE)

    def at(path: Path, destination: str) -> Callable[[dict[str, Any]], None]:
        return lambda config: config["mounts"].append(bind(path, destination))

    with ExitStack() as stack:
        for path in (*homes.values(), *shared.values()):
            stack.enter_context(held(path, NO_CHANGES))
        outcomes = [
            *(starts.begin(name, change=at(homes[name], "/home/alice")) for name in ("crun", "runc")),
            starts.begin("podman-crun", home=str(homes["podman-crun"])),
            starts.begin("crun", change=at(shared["mounted"], "/home/alice/.ssh")),
            starts.begin(
                "crun",
                change=at(shared["written"], "/home/alice/.ssh"),
                settings={"OVERLAY_MOUNT_HOME_SSH": "false"},
            ),
        ]
        assert_others_go_on(starts, start)
        for outcome in outcomes:
            assert_refused(outcome)
        assert_others_go_on(starts, start)
        swept = starts.call(lambda: run([LAUNCHER, "sweep"])).result(within(AT_ONCE))
        assert (swept.status, swept.err) == (0, b"")
    starts.wait_until_none_is_left()


# Stops each process that the hook starts as alice, as soon as she sees it, and tells their names in the end.
STOPPER = """
import os, select, signal, sys
stopped = {}
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = open(f"/proc/{pid}/status").read()
            if status.startswith(("Name:\\tssh_hook", "Name:\\tdropbear")) and "\\nUid:\\t2001\\t2001" in status:
                os.kill(int(pid), signal.SIGSTOP)
                stopped.setdefault(pid, status.split()[1])
        except OSError:
            continue
print(*stopped.values(), flush=True)
"""


@contextmanager
def stopper() -> Iterator[Callable[[], list[str]]]:
    """Gives a function that ends the stopping, and returns the names of the processes that were stopped."""
    command = as_user(ALICE, "/usr/bin/python3", "-ISBc", STOPPER)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()

        def end() -> list[str]:
            return process.communicate("")[0].split()

        try:
            yield end
        finally:
            process.kill()


@pytest.mark.parametrize("change", [None, beside_others], ids=["private", "host"])
def test_stopped_processes(starts: Starts, start: Start, change: Callable[[dict[str, Any]], None] | None) -> None:
    """A start fails, or was complete when she stopped the daemon."""
    try:
        with stopper() as end:
            outcomes = [starts.begin("crun", change=change) for _number in range(6)]
            assert_others_go_on(starts, start)
            seconds = [outcome.result(limit()).seconds for outcome in outcomes]
            assert max(seconds) < limit()
            assert end()
    finally:
        for pid in processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    starts.end()
    starts.wait_until_none_is_left()


def stopped() -> set[int]:
    """The hook's processes that are stopped."""
    found = set()
    for pid in processes():
        with suppress(OSError):  # it has ended
            if "\nState:\tT" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8"):
                found.add(pid)
    return found


def runtimes() -> list[int]:
    """The processes of crun."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # it has ended
            if path.read_text(encoding="utf-8") == "crun\n":
                found.append(int(path.parent.name))
    return found


def is_recorded(known: set[Path]) -> bool:
    """Tell whether there is a record besides the known ones."""
    return bool(set(COPIES.glob("*")) - known)


def test_stopped_process_is_not_forgotten(starts: Starts) -> None:
    """Among the node's processes: who stops the daemon's before it is Dropbear, and has runtime and hook killed, gets
    no daemon when she lets it go on after the sweep.
    """
    caught: list[str] = []
    for _attempt in range(20):
        with stopper() as end:
            known = set(COPIES.glob("*"))
            starts.begin("crun", change=beside_others)
            wait_for(stopped, "a process that was stopped")
            # The hook records the daemon meanwhile: a sweep knows of no other.
            wait_for(partial(is_recorded, known), "the daemon's record")
            caught += end()
        others = set(processes()) - stopped()
        # The container's program runs where the daemon was stopped so late that the start was complete.
        for pid in [*runtimes(), *others, *map(int, running("/bin/sleep", "1000"))]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        def is_swept() -> bool:
            age()
            run([LAUNCHER, "sweep"]).checked()
            return not processes()

        wait_for(is_swept, "end of what was stopped")
        if "ssh_hook" in caught:
            break
    assert "ssh_hook" in caught
    starts.wait_until_none_is_left()
