"""Which daemons are found by their entries."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from patience import within
from ssh_hook.commands.connect import choose
from ssh_hook.errors import HookError
from ssh_hook.linux import mounts, process_search
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.process import Process, pid_namespace
from ssh_hook.node import access, entries, entry_reader, inventory, own_places, places, record
from ssh_hook.node.record import Record
from ssh_hook.oci.settings import NO_PORT

UID = 1000
DESCRIPTION = {"engine": "podman", "id": "a" * 64, "name": "it", "ports": "15263", "network": "7", "owner": str(UID)}


@pytest.fixture(name="init")
def fixture_init() -> Iterator[Process]:
    """This process: as a daemon's first process, and as the daemon."""
    process = Process(os.getpid())
    yield process
    process.close()


@pytest.fixture(name="caller", autouse=True)
def fixture_caller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A user of a node on which only this test keeps entries."""
    caller = SimpleNamespace(host_uid=UID, is_rootless=False)
    monkeypatch.setattr(inventory, "Engine", lambda: caller)
    monkeypatch.setattr(own_places, "Engine", lambda: caller)
    monkeypatch.setattr(places, "ROOT_COPIES", str(tmp_path / "lib/copies"))
    monkeypatch.setattr(own_places, "state_directory", lambda uid: str(tmp_path / f"state-{uid}"))
    monkeypatch.setattr(own_places, "temporary_directory", lambda uid: str(tmp_path / f"tmp-{uid}"))
    monkeypatch.setattr(own_places, "JOBS_PLACE", str(tmp_path / "jobs"))
    monkeypatch.setattr(inventory, "JOBS_PLACE", str(tmp_path / "jobs"))
    return caller


def entry(init: Process, door: str = "", bundle: str = "/bundle", **description: str) -> Record:
    """An entry of this process."""
    program = Path("/proc/self/exe").stat()
    identity = (init.pid, init.start_time(), program.st_dev, program.st_ino)
    return record.record_of(
        identity, pid_namespace(), init, Identity(0, 0), "", bundle, door, {**DESCRIPTION, **description}
    )


def change(known: Record, values: dict[str, int | str]) -> None:
    for name, value in values.items():
        if isinstance(value, int):
            known.numbers[name] = value
        else:
            known.texts[name] = value


def kept(known: Record, engine_uid: int = 0, in_job: bool = False) -> Record:
    entries.keep(known, engine_uid, in_job)
    return known


def only() -> inventory.Daemon:
    (daemon,) = inventory.find_daemons()
    return daemon


def test_a_rootful_container(init: Process, tmp_path: Path) -> None:
    known = kept(entry(init, "/door", job="1239", step="2", task="1234_5", leader="1230"))
    daemon = only()
    assert (daemon.pid, daemon.port, daemon.places, daemon.door) == (os.getpid(), 15263, [("", 15263)], "/door")
    assert (daemon.engine, daemon.id, daemon.name, daemon.attached) == ("podman", "a" * 64, "it", None)
    assert (daemon.job, daemon.step, daemon.task, daemon.leader) == ("1239", "2", "1234_5", "1230")
    assert abs(daemon.since - time.time()) < 10**6
    assert daemon.has_own_network
    for job in ("1239", "1234_5", "1234", "1230"):
        assert choose([daemon], job, None) is daemon
    record.remove_kept(known)
    assert inventory.find_daemons() == []


def test_it_is_root_alone_who_writes_and_the_user_who_searches(init: Process, node: Path) -> None:
    known = kept(entry(init))
    directory = node / "entries" / str(UID)
    assert known.texts["entry"] == str(directory / "0")
    assert stat.S_IMODE((node / "entries").stat().st_mode) == 0o711
    assert stat.S_IMODE(directory.stat().st_mode) == 0o710
    assert {path.name for path in directory.iterdir()} == {"0"}
    assert Path(known.texts["copy"]).read_bytes() == known.data()
    assert stat.S_IMODE(Path(known.texts["copy"]).parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(("owner", "name"), [("0", "/0/0"), ("", "")])
def test_a_container_of_root_has_an_entry_too(init: Process, owner: str, name: str) -> None:
    """A sweep removes doors that no entry names."""
    assert kept(entry(init, owner=owner)).texts["entry"].endswith(name)


def of_root() -> list[str]:
    """Paths of the entries that root keeps for the user."""
    return sorted(path for path, _text in places.entries(UID, False))


def test_numbers_are_used_again(init: Process) -> None:
    """And nothing that the user could hold is ever removed."""
    known = [kept(entry(init)) for _number in range(3)]
    known[1].numbers["start_time"] += 1
    record.remove_kept(known[1])
    assert len(of_root()) == 3  # it is another daemon's by now
    known[1].numbers["start_time"] -= 1
    record.remove_kept(known[1])
    assert [Path(path).name for path in of_root()] == ["0", "2"]
    assert Path(known[1].texts["entry"]).read_bytes()[:1] == b"\0"
    assert kept(entry(init)).texts["entry"] == known[1].texts["entry"]
    assert kept(entry(init)).texts["entry"].endswith("/3")


def test_two_starts_at_once(init: Process) -> None:
    children = []
    for _number in range(8):
        child = os.fork()
        if child == 0:
            entries.keep(entry(init), 0, False)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert [Path(path).name for path in of_root()] == [str(number) for number in range(8)]


def test_one_user_has_a_bounded_number(init: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    add = places.add
    monkeypatch.setattr(places, "add", lambda uid, data: add(uid, data, ("", 2)))
    found = [kept(entry(init)).texts["entry"] for _number in range(3)]
    assert [path[-1:] for path in found] == ["0", "1", ""]


def test_a_node_has_a_bounded_number_of_users_who_are_none(init: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """The uid of a container whose start fails may be any. No user is without an entry for that."""
    monkeypatch.setattr(places, "_MAX_STRANGERS", 2)
    for uid in (1, 2, 1):
        places.write(uid, "error", b"x\n")
    with pytest.raises(OSError, match="there are already directories for 2 users"):
        places.write(3, "error", b"x\n")
    assert kept(entry(init, owner="3")).texts["entry"].endswith("/3/0")
    places.write(3, "error", b"x\n")


def test_an_unfinished_entry_is_not_believed(init: Process, tmp_path: Path) -> None:
    data = entry(init).data()
    path = Path(kept(entry(init)).texts["entry"])
    for size in (0, len(data) // 2, data.index(b"owner="), len(data) - 1):
        path.write_bytes(data[:size])
        assert inventory.find_daemons() == [], size


def test_an_entry_of_an_earlier_version_is_none(init: Process) -> None:
    known = entry(init)
    path = Path(kept(known).texts["entry"])
    lines = [line for line in known.data().split(b"\n") if line.split(b"=")[0].decode() not in record.DESCRIPTION]
    path.write_bytes(b"\n".join(lines))
    assert record.parse(path.read_text(encoding="utf-8")) is not None
    assert inventory.find_daemons() == []


def test_what_is_not_roots_is_not_believed(init: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(entry(init))
    only()
    monkeypatch.setattr(access, "_roots", lambda _is_rootless: {os.geteuid() + 1})
    with pytest.raises(HookError, match="is writable by users other than root"):
        inventory.find_daemons()


@pytest.mark.parametrize(
    ("lacks", "in_job", "place"),
    [
        ("", False, "state"),
        ("", True, "jobs"),
        ("state", False, "jobs"),
        ("jobs", True, "state"),
        ("tmp", False, "state"),
    ],
)
def test_a_rootless_container(init: Process, tmp_path: Path, lacks: str, in_job: bool, place: str) -> None:
    places = {"state": f"state-{UID}", "tmp": f"tmp-{UID}", "jobs": f"jobs/{UID}"}
    (tmp_path / "jobs" / str(UID)).mkdir(mode=0o700, parents=True)
    if lacks:
        wrong = tmp_path / places[lacks]
        if wrong.exists():
            wrong.rmdir()
        wrong.write_text("in the way", encoding="ascii")
    known = kept(entry(init), UID, in_job)
    written = {tmp_path / places[each] / "daemons" / known.name() for each in {place, "tmp"} - {lacks}}
    assert {Path(known.texts[text]) for text in ("copy", "entry") if known.texts[text]} == written
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert only().name == "it"
    for path in sorted(written)[1:]:  # as a logout or the end of a job does
        path.unlink()
        assert only().name == "it"
    record.remove_kept(known)
    assert inventory.find_daemons() == []


def test_an_entry_that_an_image_has_written_removes_nothing_else(
    init: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that sees the node's /tmp. The sweep for the user finds it."""
    files = [tmp_path / name for name in ("thesis", "authorized_keys", "door", "ab")]
    for file in files:
        file.touch()
    directory = tmp_path / f"tmp-{UID}/daemons"
    directory.mkdir(mode=0o700, parents=True)
    directory.parent.chmod(0o700)
    names = dict(zip(("copy", "entry", "door"), map(str, files)))
    for number, boot in enumerate(("0" * 36, "/../../a")):
        known = entry(init, bundle="")
        change(known, {**names, "boot_id": boot})
        (directory / str(number)).write_bytes(known.data())
    (directory / f"{known.pid}-{known.numbers['start_time']}-").symlink_to(tmp_path)
    assert entry_reader.collect(str(directory)) == 1
    assert not (directory / "0").exists()
    assert [file for file in files if not file.exists()] == []


@pytest.mark.parametrize("uid", [0, UID])
def test_a_door_is_removed_by_its_user_where_doors_are(
    uid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_places, "Engine", lambda: SimpleNamespace(host_uid=uid))
    doors = [tmp_path / place / "1-2-3" for place in (f"state-{uid}/doors", f"jobs/{uid}", "elsewhere")]
    for door in doors:
        door.parent.mkdir(parents=True)
        door.touch()
        own_places.remove_door(str(door))
    assert [door.exists() for door in doors] == [uid == 0, uid == 0, True]


def test_where_no_place_can_be_used_a_start_says_so(
    init: Process, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As in a batch job of a node without Prolog, where another user has taken the name in /tmp."""
    (tmp_path / f"tmp-{UID}").mkdir()
    (tmp_path / f"tmp-{UID}").chmod(0o777)
    (tmp_path / f"state-{UID}").write_text("in the way", encoding="ascii")
    known = kept(entry(init), UID)
    assert known.texts["copy"] == known.texts["entry"] == ""
    said = capfd.readouterr().err
    assert said.startswith("ssh_hook: warning: 'ssh_hook status' and 'connect' will not find the container")
    assert f"{tmp_path}/tmp-{UID}/daemons: other users can write to it" in said
    assert said.count("\n") == 1


def test_a_full_directory_is_emptied_of_what_nobody_needs(
    init: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a job of many steps under enroot: each has left an entry and a door."""
    place = tmp_path / "jobs" / str(UID)
    place.mkdir(mode=0o700, parents=True)
    create = own_places.create_file

    def full(name: str, data: bytes, mode: int, directory: int) -> int:
        if len(os.listdir(directory)) >= 8:
            raise OSError(28, "No space left on device")
        return create(name, data, mode, directory)

    monkeypatch.setattr(own_places, "create_file", full)
    for number in range(40):
        door = place / f"door-{number}"
        door.touch()
        known = entry(init, str(door), bundle="")
        known.numbers["start_time"] += 0 if number == 0 else number
        kept(known, UID, in_job=True)
        assert known.texts["copy"].startswith(str(place))
    assert len(list((place / "daemons").iterdir())) <= 8
    assert only().pid == os.getpid()
    assert (place / "door-0").exists()
    assert len(list(place.glob("door-*"))) <= 9


def test_what_another_user_has_mounted_in_tmp_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FUSE with allow_other there may never answer: only O_PATH and the mount's id do not ask it."""
    place = tmp_path / "tmp"
    (place / "mine/daemons").mkdir(mode=0o700, parents=True)
    (place / "mine").chmod(0o700)
    os.close(own_places.open_own(f"{place}/mine/daemons"))
    monkeypatch.setattr(mounts, "mount_id", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
    os.close(own_places.open_own(f"{place}/mine/daemons"))  # as a mount of root's in a directory that is root's
    place.chmod(0o1777)
    asked = []
    monkeypatch.setattr(own_places, "is_own", lambda *_status: asked.append("stat"))
    opened = own_places.os.open

    def open_(path: str, flags: int, **more: int) -> int:
        if not flags & os.O_PATH:
            asked.append(path)
        return opened(path, flags, **more)

    monkeypatch.setattr(own_places.os, "open", open_)
    with pytest.raises(PermissionError):
        own_places.open_own(f"{place}/mine/daemons", create=True)
    assert not asked


@pytest.mark.parametrize("name", ["mine", "mine/daemons"])
def test_an_own_directory_is_no_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine/daemons").mkdir(mode=0o700, parents=True)
    (tmp_path / name).rename(tmp_path / "other")
    (tmp_path / name).symlink_to(tmp_path / "other")
    with pytest.raises(NotADirectoryError):
        own_places.open_own(f"{tmp_path}/mine/daemons", create=True)


def test_a_number_that_cannot_be_written_is_free(
    init: Process, tmp_path: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its user may have mounted FUSE on it by then: who unlinks it waits for that."""

    def full(file: int, data: bytes) -> None:
        os.write(file, data[:1])
        raise OSError(28, "No space left on device")

    def not_here(name: str, data: bytes, mode: int, directory: int) -> int:
        os.close(create(name, data[:1], mode, directory))
        raise OSError(28, "No space left on device")

    create = own_places.create_file
    monkeypatch.setattr(places, "write_all", full)
    monkeypatch.setattr(own_places, "create_file", not_here)
    assert kept(entry(init)).texts["entry"] == ""
    (left,) = (node / "entries" / str(UID)).iterdir()
    assert (left.name, left.read_bytes()[:1]) == ("0", b"\0")
    assert list((tmp_path / "lib/copies").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "is_left"),
    [
        ({"start_time": 1}, True),
        ({"start_time": 1, "boot_id": "another"}, True),
        ({"start_time": 1, "pid_namespace": 7}, False),
        ({"start_time": 1, "pidfile_host": "/pidfile"}, False),
        ({"start_time": 1, "bundle": "/bundle"}, False),
        ({"start_time": 1, "bundle": "/bundle", "init_start_time": 1}, True),
        ({}, False),
    ],
)
def test_what_a_sweep_or_poststop_needs_stays(
    init: Process, tmp_path: Path, changes: dict[str, int | str], is_left: bool
) -> None:
    known = entry(init, bundle="")
    change(known, changes)
    kept(known, UID)
    assert entry_reader.collect(str(Path(known.texts["copy"]).parent)) == is_left
    assert Path(known.texts["copy"]).exists() != is_left


@pytest.mark.parametrize("changes", [{"start_time": 1}, {"boot_id": "another"}, {"pid": 2**22}])
def test_a_daemon_that_has_ended(init: Process, changes: dict[str, int | str]) -> None:
    known = entry(init)
    change(known, changes)
    kept(known)
    assert inventory.find_daemons() == []


def test_a_daemon_that_proc_hides_runs(init: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(entry(init, name="hidden"))

    def hide(_pid: int) -> Process:
        raise FileNotFoundError

    monkeypatch.setattr(inventory, "Process", hide)
    monkeypatch.setattr(process_search, "Process", hide)
    daemon = only()
    assert (daemon.name, daemon.uid, daemon.sessions()) == ("hidden", UID, 0)


def test_a_daemon_whose_process_is_silent_runs_as_far_as_is_known(
    init: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_search, "ask", lambda _question, _pids: {})
    for pid in (os.getpid(), 2**22):
        known = entry(init, name="silent")
        known.numbers["pid"] = pid
        kept(known)
    assert only().pid == os.getpid()


def test_a_daemon_of_another_pid_namespace_is_found_by_its_pids(init: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a job that has a pid namespace of its own."""
    known = entry(init)
    known.numbers.update(pid=7, pid_namespace=1)
    kept(known)
    assert inventory.find_daemons() == []
    monkeypatch.setattr(Process, "pids", lambda self: [self.pid, 7] if self.pid == os.getpid() else [self.pid])
    assert (only().pid, only().attached) == (os.getpid(), None)
    record.remove_kept(known)
    known.texts["attached"] = "6"
    kept(known)
    assert only().attached == 0
    record.remove_kept(known)
    known.numbers.update(pid=os.getpid(), pid_namespace=pid_namespace())
    kept(known)
    assert only().attached == 6


def test_places(init: Process) -> None:
    kept(entry(init, ports="[10.1.1.1]:16000 [fd00::1]:16000"))
    daemon = only()
    assert daemon.places == [("10.1.1.1", 16000), ("fd00::1", 16000)]
    assert daemon.addresses == ["10.1.1.1", "fd00::1"]
    assert inventory._places("x [a]:b 70000 -1") == []


def test_a_daemon_with_a_door_alone(init: Process) -> None:
    kept(entry(init, "/door", ports="", network=str(os.stat("/proc/self/ns/net").st_ino)))
    daemon = only()
    assert (daemon.port, daemon.places, daemon.door, daemon.has_own_network) == (NO_PORT, [], "/door", False)


@pytest.mark.parametrize("is_here", [True, False])
@pytest.mark.parametrize("engine_uid", [0, UID])
def test_who_listens_on_a_port(init: Process, caller: SimpleNamespace, engine_uid: int, is_here: bool) -> None:
    network = os.stat("/proc/self/ns/net").st_ino if is_here else 7
    kept(entry(init, ports="16001", network=str(network)), engine_uid)
    caller.host_uid = engine_uid
    found = inventory.find_daemon_of(UID, 16001)
    assert (None if found is None else found.name) == ("it" if is_here else None)
    assert inventory.find_daemon_of(UID, 16002) is inventory.find_daemon_of(UID + 1, 16001) is None


def test_a_daemon_that_is_about_to_start_does_not_listen(init: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start that asks who has its port has its own entry already."""
    kept(entry(init, network=str(os.stat("/proc/self/ns/net").st_ino)))
    assert inventory.find_daemon_of(UID, 15263) is not None
    monkeypatch.setattr(Process, "is_before_exec", lambda _process: True)
    assert inventory.find_daemon_of(UID, 15263) is None


def test_root_sees_all_and_has_no_way_by_the_door_of_another(
    init: Process, caller: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a user's own engine has said counts only for that user."""
    caller.host_uid = 0
    texts = [entry(init, "/door", owner=owner, name=owner).data() for owner in ("0", "1001")]
    monkeypatch.setattr(inventory, "names_in", lambda directory: ["1001", "x", "0"] if directory == "/run/user" else [])
    asked = []

    def answer(_work: object, _what: str, user: Identity, timeout: float, limit: int) -> bytes:
        asked.append((user.uid, user.gid, timeout <= 0.5, limit))
        return b"\0".join(texts)

    monkeypatch.setattr(inventory, "_TIMEOUT", 2.0)
    monkeypatch.setattr(inventory.disposable_process, "run", answer)
    monkeypatch.setattr(inventory, "_is_process_of", lambda uid, pid: (uid, pid) == (1001, os.getpid()))
    (daemon,) = inventory.find_all_daemons()
    assert (daemon.name, daemon.door) == ("1001", "")
    assert asked == [(1001, 65534, True, 1 << 20)]
    assert inventory.find_daemons() == []
    monkeypatch.setattr(inventory.user_child, "users_of_left", lambda: {1001})
    assert inventory.find_all_daemons() == []
    monkeypatch.setattr(inventory.user_child, "users_of_left", set)
    kept(entry(init, "/door"))
    assert [each.name for each in inventory.find_all_daemons()] == ["it"]  # the user's is of the same process


def test_an_entry_of_a_user_for_a_process_of_another_does_not_count(
    init: Process, caller: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process is not of uid 1001, nor in a user namespace that this user has made."""
    caller.host_uid = 0
    monkeypatch.setattr(inventory, "names_in", lambda directory: ["1001"] if directory == "/run/user" else [])
    monkeypatch.setattr(inventory, "_of_user", lambda _uid, _timeout: [entry(init, owner="1001")])
    assert inventory.find_all_daemons() == []
    assert inventory._is_process_of(os.geteuid(), os.getpid())


def test_sessions_lead_sessions_and_are_counted_at_the_process_that_serves() -> None:
    """A daemon that logs logins has a child that serves; any other serves itself."""
    script = "setsid sleep 60 & setsid sleep 60 & (setsid sleep 60 & setsid sleep 60 & wait) & echo; wait"
    with subprocess.Popen(["setsid", "sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        daemon = inventory.Daemon(process.pid, 0, [], 0)
        deadline = time.monotonic() + within(10)
        while daemon.sessions() != 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        found = daemon.sessions()
        for child in inventory._children(process.pid):
            for each in (*inventory._children(child), child):
                with suppress(ProcessLookupError):  # its children have ended, and so has it
                    os.kill(each, signal.SIGKILL)
    assert found == 4
