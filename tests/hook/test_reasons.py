"""Things that are broken on purpose: `ssh_hook why` or `ssh_hook doctor` names each, and says what to do."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from changes import bind, without_home
from containers import (
    ALICE,
    BOB,
    ENTRIES,
    LAUNCHER,
    PORT,
    SETTINGS,
    Container,
    StartFailed,
    as_user,
    call_hook,
    keys,
    processes,
    run,
    run_in_time,
    text_of,
    wait_for,
    wait_until_found,
)
from held import NO_END, held, unanswered
from patience import within
from starter import Start

LAST = ENTRIES / str(ALICE) / "error"
WARNINGS = LAST.with_name("warning")
NOBODYS = 2999  # a uid that is not in PASSWD_FILE
BUSY = 5  # seconds that a command and its Python take on a busy machine
NO_SSH_HERE = "com.hooks.ssh."

Kept = dict[str, Any]


def user_places(uid: int) -> list[Path]:
    return [Path(f"/run/user/{uid}/ocihooks-ssh/last"), Path(f"/tmp/ocihooks-ssh-{uid}/last")]


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """No earlier call has left a message."""
    for path in [ENTRIES, *user_places(ALICE), *user_places(BOB)]:
        shutil.rmtree(path, ignore_errors=True)
    yield


def why(uid: int = ALICE, *options: str) -> str:
    return run_in_time(as_user(uid, LAUNCHER, "why", *options)).checked().text


def kept(uid: int = ALICE) -> list[Kept]:
    found: list[Kept] = json.loads(why(uid, "--json"))
    return found


def assert_named(level: str, words: tuple[str, ...], uid: int = ALICE, *, kind: str) -> None:
    """The newest message is of this level and kind and has these words, for programs and for people."""
    (newest, *_older) = kept(uid)
    texts = [message["text"] for message in newest["messages"] if message["level"] == level]
    assert [text for text in texts if all(word in text for word in words)], newest
    assert kind in [message["kind"] for message in newest["messages"] if message["level"] == level], newest
    assert abs(time.time() - newest["time"]) < 60
    shown = why(uid).splitlines()
    assert [
        line
        for line in shown
        if line.startswith(f"  {level}: ") and line.endswith(f" [{kind}]") and all(word in line for word in words)
    ], shown
    assert [line for line in shown if line.startswith("    what to do: ")], shown
    assert newest["container"][:12] in shown[0]
    assert newest["container"] in shown[1]


# What fails a start. Each has the words that `why` has to say, the last of them what to do.


def without_shell(root: Path) -> None:
    for name in ("sh", "ash", "hush", "bash"):
        (root / "bin" / name).unlink(missing_ok=True)


def with_change(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    return {"change": edit}


BROKEN: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "port-that-is-none": (
        "annotation-wrong",
        {"annotations": {"com.hooks.ssh.port": "80000"}},
        ("com.hooks.ssh.port", "1 to 65535"),
    ),
    "public-key-that-is-missing": (
        "annotation-wrong",
        {"annotations": {"com.hooks.ssh.authorize_ssh_key": "/no/such/key.pub"}},
        ("com.hooks.ssh.authorize_ssh_key", "/no/such/key.pub: No such file"),
    ),
    "pidfile-that-only-root-may-write": (
        "annotation-wrong",
        {"annotations": {"com.hooks.ssh.pidfile_host": "/root/pid"}},
        ("com.hooks.ssh.pidfile_host", "/root/pid"),
    ),
    "log-that-is-missing": (
        "annotation-wrong",
        {"annotations": {"com.hooks.logging.stderrfd": "/no/such/log"}},
        ("/no/such/log",),
    ),
    "no-shell": (
        "no-shell",
        {"image": "busybox", "prepare": without_shell},
        ("no shell", "com.hooks.ssh.require_shell=false"),
    ),
    "another-users-name": (
        "annotation-wrong",
        {"annotations": {"com.hooks.ssh.user": "bob"}},
        ("com.hooks.ssh.user is 'bob'", "run the container as that user"),
    ),
    "wasm": (
        "container-unfit",
        {"annotations": {"module.wasm.image/variant": "x"}},
        ("module.wasm.image/variant", "start it without"),
    ),
    "kubernetes": (
        "container-unfit",
        {"annotations": {"io.kubernetes.cri.sandbox-id": "x"}},
        ("Kubernetes", "the hook does not serve such containers"),
    ),
    "stage-that-is-too-late": (
        "setting-wrong",
        {"settings": {"JOIN_NAMESPACES": "false"}},
        ("JOIN_NAMESPACES is false", "run it at createContainer"),
    ),
    "volume-over-opt": (
        "image-unfit",
        with_change(lambda config: config["mounts"].append(bind("/usr/share", "/opt"))),
        ("cannot create /opt/oci-hooks ", "create an empty directory oci-hooks/ssh in it"),
    ),
    "dropbear-that-is-not-there": (
        "install-damaged",
        {"settings": {"DROPBEAR_DIR": "/no/such"}},
        ("/no/such/bin/dropbear", "DROPBEAR_DIR"),
    ),
    "setting-that-is-missing": ("setting-wrong", {"settings": {"PASSWD_FILE": None}}, ("PASSWD_FILE", "set it")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_start_that_fails(start: Start, name: str) -> None:
    kind, options, words = BROKEN[name]
    with pytest.raises(StartFailed):
        start("crun", **{"image": "debian", **options})
    assert_named("error", words, kind=kind)


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "crun"])
def test_no_keys(start: Start, engine: str) -> None:
    keys().rename(keys().with_name("aside"))
    try:
        with pytest.raises(StartFailed):
            start(engine)
        assert_named("error", ("alice has no SSH keys", "run 'ssh_hook keygen'"), kind="no-keys")
        assert doctor("keys")[0] == "warning"
        assert "run 'ssh_hook keygen'" in doctor("keys")[1]
    finally:
        keys().with_name("aside").rename(keys())


@pytest.mark.parametrize("engine", ["podman-crun", "rootless"])
def test_port_is_taken(start: Start, engine: str) -> None:
    with socket.create_server(("0.0.0.0", PORT)):
        with pytest.raises(StartFailed):
            start(engine)
        assert_named(
            "error",
            (f"port {PORT} is in use", "choose another with the annotation com.hooks.ssh.port"),
            kind="port-taken",
        )
        result, text = doctor("port")
        assert result == "warning"
        assert f"port {PORT} on this node is in use by a process of uid 0; " in text  # alice may not see which
        assert f"port {PORT} on this node is in use by process {os.getpid()} (" in doctor("port", 0)[1]


def test_rootless_without_a_runtime_directory(start: Start) -> None:
    """As in a batch job, on a node without a login."""
    runtime = Path("/run/user", str(ALICE))
    with pytest.raises(StartFailed):
        start("rootless", annotations={"com.hooks.ssh.port": "x"})
    assert list((runtime / "ocihooks-ssh/last").iterdir())
    shutil.rmtree(runtime / "ocihooks-ssh/last")
    aside = runtime.with_name("aside")
    command = ["unshare", "--user", "--map-root-user", LAUNCHER, "start-ssh-daemon"]
    runtime.rename(aside)
    try:
        environment = [f"{name}={value}" for name, value in SETTINGS.items()]
        assert run(as_user(ALICE, "env", *environment, *command), b'{"status": 5}').status == 1
        assert Path(f"/tmp/ocihooks-ssh-{ALICE}").stat().st_uid == ALICE
        assert_named("error", ("the container's state",), kind="config-wrong")
    finally:
        aside.rename(runtime)
        shutil.rmtree(f"/tmp/ocihooks-ssh-{ALICE}")


def test_directory_of_another_user_in_tmp_is_not_used() -> None:
    runtime = Path("/run/user", str(ALICE))
    aside = runtime.with_name("aside")
    runtime.rename(aside)
    trap = Path(f"/tmp/ocihooks-ssh-{ALICE}")
    (trap / "last").mkdir(parents=True, mode=0o777)
    for path in (trap, trap / "last"):
        os.chown(path, BOB, BOB)
        path.chmod(0o777)
    try:
        environment = [f"{name}={value}" for name, value in SETTINGS.items()]
        command = ["unshare", "--user", "--map-root-user", LAUNCHER, "start-ssh-daemon"]
        assert run(as_user(ALICE, "env", *environment, *command), b'{"status": 5}').status == 1
        assert not list((trap / "last").iterdir())
    finally:
        aside.rename(runtime)
        shutil.rmtree(trap)


def test_user_who_is_not_in_passwd_file(start: Start) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["user"]["uid"] = NOBODYS

    with pytest.raises(StartFailed):
        start("crun", change=change)
    assert_named(
        "error", (f"no user has the uid {NOBODYS}", "add one, or refresh the file"), NOBODYS, kind="user-unknown"
    )


# What starts without what was asked for.


def ssh_that_is_a_link(root: Path) -> None:
    (root / "home/alice").mkdir(parents=True, exist_ok=True)
    (root / "home/alice/.ssh").symlink_to("/tmp")


@pytest.mark.parametrize("engine", ["podman-crun", "rootless"])
@pytest.mark.parametrize("value", ["yes", "True", "1", ""])
def test_enabled_that_is_no_answer(start: Start, engine: str, value: str) -> None:
    container = start(engine, annotations={"com.hooks.ssh.enabled": value})
    assert container.exec("true").status == 0
    assert not Path(container.bundle(), "ssh_hook.daemon").exists()
    assert_named(
        "warning", ("com.hooks.ssh.enabled is neither true nor false", "no SSH", "give true"), kind="annotation-wrong"
    )


@pytest.mark.parametrize("engine", ["podman-crun", "rootless"])
def test_disabled(start: Start, engine: str) -> None:
    container = start(engine, annotations={"com.hooks.ssh.enabled": "false", "com.hooks.ssh.prot": "1"})
    assert container.exec("true").status == 0
    assert kept() == []


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("prot", "port"), ("authorised_ssh_key", "authorize_ssh_key"), ("pidfile", "pidfile_host"), ("Wait", "wait")],
)
def test_annotation_that_nobody_knows(start: Start, wrong: str, right: str) -> None:
    container = start("crun", network="private", annotations={NO_SSH_HERE + wrong: "1"})
    assert container.ssh("exit 7").status == 7
    assert_named(
        "warning",
        (f"{NO_SSH_HERE}{wrong} has no effect", f"did you mean {NO_SSH_HERE}{right}?"),
        kind="annotation-wrong",
    )


def test_many_annotations_that_nobody_knows(start: Start) -> None:
    annotations = {f"{NO_SSH_HERE}{'x' * 5000}{number}\n": "1" for number in range(100)}
    container = start("crun", network="private", annotations=annotations)
    assert container.ssh("exit 7").status == 7
    (newest,) = kept()
    assert len(newest["messages"]) == 4
    assert WARNINGS.stat().st_size < 16 << 10


@pytest.mark.parametrize("name", ["com.hooks.ssh.enable", "com.hook.ssh.enabled"])
def test_annotation_that_calls_no_hook(start: Start, name: str) -> None:
    """`why` first says that its messages are of other containers."""
    with_ssh = start("rootless", network="none")
    with pytest.raises(StartFailed):
        start("rootless", annotations={"com.hooks.ssh.port": "0"})
    silent = start("rootless", "busybox", enabled=False, annotations={name: "true"})
    right = f"start it again with the annotation com.hooks.ssh.enabled instead of {name}"
    wanted = (f"your container {silent.name} (podman, ", f") runs without SSH: {right}")
    result, text = doctor("containers")
    assert result == "problem"
    assert all(word in text for word in wanted), text
    for command in ("status", "why"):
        done = run_in_time(as_user(ALICE, LAUNCHER, command)).checked()
        (warning,) = done.err.decode().splitlines()
        assert all(word in warning for word in wanted), warning
    first, second, *_others = done.text.splitlines()
    assert first.startswith("messages about container ") and " ago); no message about " in first
    assert silent.name in first and with_ssh.name not in first  # which had a warning
    assert first.split()[3].strip(",;") in second
    assert doctor("containers", BOB)[0] == "ok"


def test_annotations_of_others_mean_no_ssh(start: Start) -> None:
    """Another hook's, and those of a container that shall have none."""
    others = {"com.hooks.mpi.enabled": "true", "com.hooks.slurm.enabled": "true", "com.docker.compose.ssh": "1"}
    start("rootless", "busybox", enabled=False, annotations=others)
    start("rootless", "busybox", annotations={"com.hooks.ssh.enabled": "false", "com.hooks.ssh.prot": "1"})
    assert doctor("containers") == ("ok", "containers with an SSH daemon: 0")


@pytest.fixture(name="place")
def fixture_place() -> Iterator[Path]:
    """A directory that alice can reach."""
    place = Path("/run/reasons")
    place.mkdir(mode=0o755)
    yield place
    shutil.rmtree(place)


def test_hook_that_the_engine_does_not_know(start: Start, place: Path) -> None:
    silent = start("rootless", "busybox", hooks_dir=place)
    result, text = doctor("containers")
    assert result == "problem"
    assert silent.name in text and "podman called no hook for the annotations" in text


def test_bundles_that_are_none(start: Start, place: Path) -> None:
    """A FIFO, text, and a file system that never answers: the last makes all wait for two seconds."""
    silent = start("rootless", "busybox", enabled=False, annotations={"com.hooks.ssh.enable": "true"})
    for name in ("fifo", "text", "hangs"):
        (place / name).mkdir()
    os.mkfifo(place / "fifo/config.json")
    (place / "text/config.json").write_text("[" * 100000, encoding="utf-8")
    with monitor(place, "fifo"), monitor(place, "text"):
        _result, text = doctor("containers")
    assert silent.name in text
    assert "cannot check your podman container text and 1 more: its config.json is not readable" in text
    begin = time.monotonic()
    with unanswered(place / "hangs"), monitor(place, "hangs"):
        done = run(as_user(ALICE, LAUNCHER, "status")).checked()
        told = run(as_user(ALICE, LAUNCHER, "doctor")).text
    assert "could not list your containers within 2 s" in done.err.decode()
    assert re.search("^warning +containers .*could not list your containers within 2 s", told, re.MULTILINE), told
    assert time.monotonic() - begin < 2 * (2 + within(BUSY))


@contextmanager
def monitor(place: Path, bundle: str) -> Iterator[None]:
    """Meanwhile a process of alice's is called as podman's conmon, of a container with this bundle."""
    script = place / "conmon"
    script.write_text("#!/bin/sh\nread -r _\n", encoding="ascii")
    script.chmod(0o755)
    arguments = ["-b", str(place / bundle), "-c", "0" * 64, "-n", bundle]
    with subprocess.Popen(as_user(ALICE, str(script), *arguments), stdin=subprocess.PIPE) as process:
        wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text(encoding="ascii") == "conmon\n", "conmon")
        yield
        process.kill()


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "rootless"])
def test_port_that_is_not_published(start: Start, engine: str) -> None:
    network = "pasta" if engine == "rootless" else "bridge"
    container = start(engine, network=network)
    assert container.ssh("exit 7").status == 7
    assert_named("warning", ("its own network", f"--publish {PORT}:{PORT}", "--network host"), kind="port-unusable")
    result, text = doctor("containers")
    assert result == "warning"
    assert f"does not publish port {PORT}, so other nodes cannot reach it" in text
    assert text.endswith("or, except in rootless Docker, --network host")


@pytest.mark.parametrize("engine", ["podman-crun", "rootless"])
def test_port_that_is_published(start: Start, engine: str) -> None:
    network = "pasta" if engine == "rootless" else "bridge"
    start(engine, network=network, options=["--publish", f"{PORT}:{PORT}"])
    assert kept() == []
    wait_until_found()
    assert doctor("containers") == ("ok", "containers with an SSH daemon: 1, all respond")


def test_home_in_which_nothing_can_be_put(start: Start) -> None:
    start("crun", network="private", prepare=ssh_that_is_a_link, change=without_home)
    assert_named("warning", ("/home/alice/.ssh", "your keys are only in /opt/oci-hooks/ssh"), kind="image-unfit")


# What doctor finds without a container.


def doctor(check: str, uid: int = ALICE, env: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Return the result and the text of one check; AssertionError where status or form of all are wrong."""
    variables = [f"{name}={value}" for name, value in (env or {}).items()]
    done = run_in_time(as_user(uid, "env", *variables, LAUNCHER, "doctor", "--json"))
    results = {entry["check"]: (entry["result"], entry["text"]) for entry in json.loads(done.text)}
    assert done.status == int(any(result == "problem" for result, _text in results.values()))
    people = run(as_user(uid, "env", *variables, LAUNCHER, "doctor")).text.splitlines()
    assert [line.split()[1] for line in people] == list(results)
    return results[check]


def test_all_is_well() -> None:
    for check in ("account", "home", "keys", "programs", "engine", "kernel", "port", "packages", "containers"):
        assert doctor(check)[0] == "ok", doctor(check)


def test_root_without_keys() -> None:
    """Root looks after the containers of others, and its home is not among theirs."""
    aside = Path("/home/root-aside")
    Path("/home/root").rename(aside)
    try:
        home, own_keys = doctor("home", 0), doctor("keys", 0)
        text = run([LAUNCHER, "status"]).checked().text
        found = json.loads(run([LAUNCHER, "status", "--json"]).checked().text)
    finally:
        aside.rename("/home/root")
    assert home == ("ok", "root has no directory /home/root for keys, and needs it only for its own containers")
    assert own_keys[0] == "ok"
    assert "root has no keys in /home/root/" in own_keys[1]
    assert "keys: " not in text
    assert (found["keys"], found["keys_problem"]) == ("", "")


def test_root_where_homes_are_not_mounted() -> None:
    result, text = doctor("home", 0, {"HOOK_BASE_DIR": "/no/such"})
    assert result == "problem"
    assert "): is its file system mounted?" in text


def test_home_is_not_mounted() -> None:
    aside = Path("/home/alice-aside")
    Path("/home/alice").rename(aside)
    try:
        result, text = doctor("home")
    finally:
        aside.rename("/home/alice")
    assert result == "problem"
    assert "): is its file system mounted?" in text


def test_home_that_others_can_write() -> None:
    home = Path("/home/alice")
    mode = home.stat().st_mode & 0o7777
    home.chmod(0o777)
    try:
        result, text = doctor("home")
    finally:
        home.chmod(mode)
    assert result == "warning"
    assert "run chmod go-w /home/alice" in text


def test_key_that_is_damaged() -> None:
    key = keys() / "id_dropbear"
    data = key.read_bytes()
    key.write_bytes(data[:20])
    try:
        result, text = doctor("keys")
    finally:
        key.write_bytes(data)
    assert result == "problem"
    assert str(key) in text


def test_user_without_an_entry() -> None:
    result, text = doctor("account", NOBODYS)
    assert result == "problem"
    assert f"no user with uid {NOBODYS}" in text


def test_programs_that_are_not_there() -> None:
    result, text = doctor("programs", env={"DROPBEAR_DIR": "/no/such"})
    assert result == "problem"
    assert "/no/such/bin/dropbear" in text


def test_own_configuration_that_hides_the_hook() -> None:
    path = Path("/home/alice/.config/containers/containers.conf")
    path.write_text('[engine]\nhooks_dir = [\n  "/no/hooks",\n]\n', encoding="ascii")
    try:
        result, text = doctor("engine")
    finally:
        path.unlink()
    assert result == "problem"
    assert f"no hook JSON in /no/hooks ({path}) calls {LAUNCHER}" in text
    assert "correct hooks_dir" in text


def test_no_engine() -> None:
    result, text = doctor("engine", env={"PATH": "/no/such"})
    assert result == "problem"
    assert "load the module of your container engine" in text


def test_no_subordinate_ids() -> None:
    path = Path("/etc/subuid")
    text = path.read_text(encoding="ascii")
    path.write_text("bob:100000:65536\n", encoding="ascii")
    try:
        result, said = doctor("rootless")
    finally:
        path.write_text(text, encoding="ascii")
    assert result == "warning"
    assert "/etc/subuid has no range for alice" in said


def test_container_that_is_paused(start: Start) -> None:
    container: Any = start("podman-crun")
    wait_until_found()
    if container.podman("pause", container.name).status != 0:
        os.kill(container.daemon(), signal.SIGSTOP)
    try:
        result, text = doctor("containers")
    finally:
        container.podman("unpause", container.name)
        os.kill(container.daemon(), signal.SIGCONT)
    assert result == "problem"
    assert f"container {container.name} does not respond on port {PORT}" in text


# The file.


def fail(start: Start, **options: Any) -> None:
    with pytest.raises(StartFailed):
        start("crun", **{"annotations": {"com.hooks.ssh.port": "x"}, **options})


def test_only_its_user_may_read_it(start: Start) -> None:
    fail(start)
    path = LAST
    assert run(as_user(ALICE, "cat", str(path))).status == 0
    assert run(as_user(BOB, "cat", str(path), name="bob")).status == 1
    assert kept(BOB) == []
    for uid in (ALICE, BOB):
        for directory in (LAST.parent, ENTRIES, ENTRIES.parent):  # who can list one can hold its lock
            assert run(as_user(uid, "ls", str(directory))).status == 2
        assert run(as_user(uid, "sh", "-c", f"echo >{path}")).status != 0
        assert run(as_user(uid, "touch", f"{LAST.parent}/x")).status == 1


def test_a_file_system_on_it_holds_up_no_start(start: Start) -> None:
    """Its user's, in a mount namespace of her own: whoever replaces the file waits until she ends."""
    fail(start)
    before = LAST.stat().st_ino
    LAST.write_text("")
    with held(LAST, NO_END) as process:
        fail(start)
        assert LAST.stat().st_ino == before
        assert "1 to 65535" in text_of(LAST)
        assert process.poll() is None


def test_root_sees_whose_it_was(start: Start) -> None:
    fail(start)
    shown = run([LAUNCHER, "why"]).checked().text
    assert f"of uid {ALICE}" in shown
    assert "1 to 65535" in shown


def test_success_leaves_it_and_writes_none(start: Start) -> None:
    start("crun").stop().checked()
    assert not LAST.exists()
    fail(start)
    before = LAST.stat().st_mtime_ns
    start("crun").stop().checked()
    assert LAST.stat().st_mtime_ns == before
    assert not WARNINGS.exists()


def test_warning_does_not_hide_an_error(start: Start) -> None:
    fail(start)
    start("crun", annotations={"com.hooks.ssh.prot": "1"})
    assert [entry["messages"][0]["level"] for entry in sorted(kept(), key=lambda entry: str(entry["messages"]))] == [
        "error",
        "warning",
    ]


def test_what_a_stranger_writes_is_printable(start: Start) -> None:
    fail(start, annotations={"com.hooks.ssh.port": "\x1b]0;x\x07\n\u202e" + "x" * 10_000})
    for text in (text_of(LAST), why()):
        assert all(line.isprintable() for line in text.splitlines())
        assert len(text) < 4096


def test_where_it_cannot_be_written_the_start_fails_as_ever(start: Start) -> None:
    ENTRIES.parent.mkdir(exist_ok=True)
    ENTRIES.write_text("", encoding="ascii")
    try:
        fail(start)
        assert kept() == []
    finally:
        ENTRIES.unlink()


def test_no_key_is_in_it(start: Start) -> None:
    fail(start, annotations={"com.hooks.ssh.authorize_ssh_key": "/home/alice/.oci-hooks/ssh/keys/id_dropbear"})
    assert_named("error", ("is not an SSH public key",), kind="annotation-wrong")
    data = LAST.read_bytes()
    assert (keys() / "id_dropbear").read_bytes()[-20:] not in data


def test_nothing_to_say() -> None:
    assert "run 'ssh_hook doctor'" in why()
    assert kept() == []


def test_call_without_a_container() -> None:
    assert call_hook(b"nonsense").status == 1
    assert "the container's state" in run([LAUNCHER, "why"]).checked().text


def is_listed(container: Container) -> Kept:
    """Its entry, which is there as soon as its own program runs: the engine may have ended a moment before."""
    deadline = time.monotonic() + within(10)
    entries: list[Kept] = []
    while not entries:
        told = run_in_time(as_user(ALICE, LAUNCHER, "status", "--json")).checked()
        found = json.loads(told.text)
        entries = [entry for entry in found["containers"] if entry["pid"] == container.daemon()]
        assert entries or time.monotonic() < deadline, (container.daemon(), processes(), told)
    assert found["keys"].startswith("SHA256:")
    (entry,) = entries
    return entry


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "rootless", "crun", "runc"])
def test_status(start: Start, engine: str) -> None:
    container = start(engine)
    entry = is_listed(container)
    assert (entry["port"], entry["network"], entry["sessions"]) == (PORT, "node", 0)
    assert abs(time.time() - entry["since"]) < 60
    if "podman" in engine or engine == "rootless":
        assert (entry["engine"], entry["name"]) == ("podman", container.name)
        assert len(entry["id"]) == 64
    shown = run_in_time(as_user(ALICE, LAUNCHER, "status")).checked().text
    assert shown.startswith("keys: OK (SHA256:")
    assert str(PORT) in shown.splitlines()[-1]


def test_status_is_of_the_caller_alone(start: Start) -> None:
    start("podman-crun")
    others = run(as_user(BOB, LAUNCHER, "status", name="bob")).checked().text
    assert "you have no container with an SSH daemon" in others
