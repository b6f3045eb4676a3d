"""SSH in containers of enroot: in the position in which it calls its hooks (lib/enroot.py), in busybox."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from containers import (
    ALICE,
    LAUNCHER,
    PORT,
    WORK,
    as_user,
    kept_records,
    keys,
    listening,
    processes,
    run,
    run_in_time,
    running,
    wait_for,
    wait_until_found,
)
from enroot import HOOKS, SCRIPT, Enroot
from recorded import age

Enter = Callable[..., Enroot]
BANNER = b"SSH-2.0-"
ENDED = f"/run/user/{ALICE}/ocihooks-ssh/last/{ALICE}.ended"
QUIET = 0.4  # seconds; an open gate takes a hundredth of that
FIELDS = (
    *("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters"),
    *("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Umask"),
)
# What a process of the container's could do to one of the hook's: each would show the host's tree, or a key.
LOOK = (
    "for name in fd/0 mem root/. cwd/. environ exe ns/mnt; do ( : <$1/$name ) 2>/dev/null && echo $name; done; exit 0"
)


@pytest.fixture
def enroot(nothing_left: None) -> Iterator[Enter]:
    started: list[Enroot] = []

    def start(**options: Any) -> Enroot:
        started.append(Enroot(**options))
        return started[-1]

    yield start
    for container in started:
        container.remove()


def connect(port: int = PORT) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=QUIET)


def serves() -> bool:
    """Tell whether the daemon answers within a while; AssertionError where nothing listens."""
    with closing(connect()) as client:
        try:
            return client.recv(64).startswith(BANNER)
        except TimeoutError:
            return False


def hooks_processes() -> dict[int, str]:
    """The daemon, its server and its watcher, by pid."""
    return {pid: name for pid, name in processes().items() if name.startswith(("dropbear", "ssh_hook"))}


def are_alone() -> bool:
    """Whether they run, and the hook has ended."""
    return sorted(hooks_processes().values()) == ["dropbear", "dropbear", "ssh_hook"]


def watcher() -> int:
    return next(pid for pid, name in hooks_processes().items() if name == "ssh_hook")


def daemon() -> int:
    return next(pid for pid, name in hooks_processes().items() if name.startswith("dropbear"))


def status(path: str | Path) -> dict[str, str]:
    return fields(Path(path).read_text(encoding="utf-8"))


def fields(text: str) -> dict[str, str]:
    found = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _colon, value in found if name in FIELDS}


# Sessions.


def test_login(enroot: Enter) -> None:
    container = enroot(env={"VALUE": "two  blanks and a $HOME"}).wait_until_it_runs()
    session = container.ssh('id -u; printf \'%s\\n\' "$VALUE" "$HOME"; exit 7')
    assert session.status == 7
    assert session.text.splitlines() == ["2001", "two  blanks and a $HOME", "/home/alice"]


@pytest.mark.parametrize("remap", [False, True])
def test_a_session_may_do_what_the_container_may(enroot: Enter, remap: bool) -> None:
    """With --root, enroot leaves all capabilities over its user namespace to the container."""
    container = enroot(remap=remap, env={"HOME": "/root"} if remap else {}).wait_until_it_runs()
    own = status(f"/proc/{container.init()}/status")
    assert own["NoNewPrivs"] == "1" and own["Seccomp_filters"] == "1"
    assert (own["CapBnd"].strip("0") != "") == remap
    session = container.ssh("cat /proc/self/status").checked()
    assert fields(session.text) == {**own, "Uid": "\t".join("0000" if remap else [str(ALICE)] * 4)} | {
        name: fields(session.text)[name] for name in ("Uid", "Gid")
    }
    assert container.ssh("id -u; id -g").text == container.exec("sh", "-c", "id -u; id -g").text


@pytest.fixture
def other_key() -> Iterator[Path]:
    """A public key of alice's beside her key set."""
    private, public = Path("/home/alice/other"), Path("/home/alice/other.pub")
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", private]).checked()
    run(["chown", f"{ALICE}:{ALICE}", private, public]).checked()
    yield public
    private.unlink()
    public.unlink()


def test_detach_leaves_its_server_alone(enroot: Enter) -> None:
    """No record tells a user that this server is not one of attach's."""
    container = enroot().wait_until_it_runs()
    wait_for(serves, "the daemon's answer")
    wait_until_found()
    refused = run(as_user(ALICE, LAUNCHER, "detach", str(container.init())))
    assert refused.status == 1
    assert "was not started by attach: it stops with its container" in refused.err.decode()
    assert container.ssh("echo served").checked().text == "served"


def from_outside(port: int, command: str) -> list[str]:
    """The command line of a session from outside of containers, by that key."""
    options = ["-i", "/home/alice/other", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    return as_user(ALICE, "ssh", "-p", str(port), *options, "127.0.0.1", command)


def test_what_the_user_asks_for(enroot: Enter, other_key: Path) -> None:
    requests = {
        "OCIHOOKS_SSH": "true",
        "OCIHOOKS_SSH_PORT": "15999",
        "OCIHOOKS_SSH_WAIT": "3",
        "OCIHOOKS_SSH_HOSTS": "127.0.0.1:2",
        "OCIHOOKS_SSH_AUTHORIZE_SSH_KEY": str(other_key),
        "OCIHOOKS_SSH_PIDFILE_CONTAINER": "/home/alice/pid",
    }
    container = enroot(requests=requests).wait_until_it_runs()
    assert listening() >= {15999}
    assert container.ssh("echo here").checked().text == "here"
    assert "ConnectTimeout 3" in container.exec("cat", "/opt/oci-hooks/ssh/ssh_config").text
    assert container.exec("cat", "/opt/oci-hooks/ssh/hostfile").text == "127.0.0.1 slots=2"
    assert container.exec("cat", "/home/alice/pid").text == str(daemon())
    assert run(from_outside(15999, "echo from outside")).checked().text == "from outside"


def test_a_home_that_enroot_mounts_afterwards(enroot: Enter) -> None:
    """Neither the daemon nor the container's ssh needs what the hook could put into ~/.ssh."""
    before = sorted(path.name for path in Path("/home/alice").rglob("*"))
    container = enroot(mounts="/home/alice:/home/alice").wait_until_it_runs()
    assert container.ssh("ls -d ~/.oci-hooks").checked().text == "/home/alice/.oci-hooks"
    assert sorted(path.name for path in Path("/home/alice").rglob("*")) == before


def test_two_scripts_start_one_daemon(enroot: Enter) -> None:
    """The site's directory of hooks and the user's own may both have it."""
    directory = WORK / "enroot-hooks.d"
    directory.mkdir()
    for name in ("a.sh", "b.sh"):
        (directory / name).symlink_to(SCRIPT)
    container = enroot(hooks=str(directory)).wait_until_it_runs()
    assert container.ssh("echo here").checked().text == "here"
    wait_for(lambda: len(hooks_processes()) == 3, "end of the session")


def test_what_the_node_mounts_meanwhile(enroot: Enter) -> None:
    """As root's podman, which binds its store on itself: the mount comes into the container's namespace, too."""
    directory, store = WORK / "enroot-waits.d", WORK / "enroot-store"
    here, on = directory / "here", directory / "on"
    for path in (directory, store):
        path.mkdir(parents=True)
    directory.chmod(0o777)
    waits = directory / "10-wait.sh"
    waits.write_text(f"#!/bin/sh\n: >{here}\nuntil [ -e {on} ]; do sleep 0.1; done\n", encoding="utf-8")
    waits.chmod(0o755)
    (directory / "20-hook.sh").symlink_to(SCRIPT)
    container = enroot(hooks=str(directory))
    wait_for(here.exists, "the hooks")
    run(["mount", "--bind", store, store]).checked()
    run(["mount", "-o", "remount,bind,nosuid,nodev", store]).checked()  # as the root
    try:
        assert f" {store} " in Path(f"/proc/{container.process.pid}/mountinfo").read_text(encoding="utf-8")
        on.touch()
        container.wait_until_it_runs()
        wait_for(serves, "the daemon's answer")
    finally:
        run(["umount", store]).checked()


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_who_does_not_ask_gets_nothing(enroot: Enter, value: str) -> None:
    """Nor does the image: its variables are the container's."""
    container = enroot(requests={"OCIHOOKS_SSH": value}, env={"OCIHOOKS_SSH": "1"}).wait_until_it_runs()
    assert PORT not in listening() and not processes()
    assert not (container.root / "opt" / "oci-hooks").exists()


# The gate.


@pytest.mark.parametrize("remap", [False, True])
@pytest.mark.parametrize("step", ["switch", "drop", "exec"])
def test_nobody_is_served_before_the_program_runs(enroot: Enter, step: str, remap: bool) -> None:
    container = enroot(hold=[step], remap=remap)
    container.wait_at(step)
    assert not serves()
    container.go_on(step)
    container.wait_until_it_runs()
    wait_for(serves, "the daemon's answer")


def test_a_program_that_its_user_may_not_read(enroot: Enter, other_key: Path) -> None:
    """Nobody sees which one it is; but that it runs is seen by the capabilities that the first process has dropped."""

    def prepare(root: Path) -> None:
        (root / "program").mkdir()
        program = root / "program" / "sleep"
        shutil.copy(root / "bin" / "busybox", program)
        program.chmod(0o711)  # root's

    requests = {"OCIHOOKS_SSH": "1", "OCIHOOKS_SSH_AUTHORIZE_SSH_KEY": str(other_key)}
    container = enroot(command=("/program/sleep", "1000"), hold=["exec"], prepare=prepare, requests=requests)
    container.wait_at("exec")
    assert not serves()
    container.go_on("exec")
    wait_for(serves, "the daemon's answer")
    look = as_user(ALICE, "ls", "-l", f"/proc/{container.init()}/exe")
    assert "Permission denied" in run(look).err.decode()
    assert run(from_outside(PORT, "echo served")).checked().text == "served"


@pytest.mark.parametrize("step", ["switch", "exec"])
def test_nobody_of_the_container_sees_into_the_hooks_processes(enroot: Enter, step: str) -> None:
    """As a process would look that runs in the container's user namespace, with what the container has."""
    container = enroot(hold=[step])
    container.wait_at(step)
    enter = ("nsenter", "--user", "--preserve-credentials", "--target", str(container.init()))
    drop = ("setpriv", "--no-new-privs")  # the capabilities that it enters with end at execve
    wait_for(are_alone, "daemon, its server and watcher alone")
    for victim in hooks_processes():
        assert run(as_user(ALICE, *enter, *drop, "sh", "-c", LOOK, "sh", f"/proc/{victim}")).checked().text == ""
    own = as_user(ALICE, *enter, *drop, "sh", "-c", LOOK, "sh", "/proc/self")
    assert "environ" in run(own).checked().text  # the look sees what it may
    container.go_on(step)


def test_nobody_of_the_container_sees_into_the_watcher(enroot: Enter) -> None:
    container = enroot().wait_until_it_runs()
    wait_for(serves, "the daemon's answer")
    assert container.exec("sh", "-c", LOOK, "sh", f"/proc/{watcher()}").checked().text == ""
    assert "environ" in container.exec("sh", "-c", LOOK, "sh", f"/proc/{container.init()}").checked().text
    open_files = {os.readlink(path) for path in Path(f"/proc/{watcher()}/fd").iterdir()}
    own = ("/dev/null", "/memfd:", "/proc", "anon_inode")
    assert {name for name in open_files if not name.startswith(own)} == {ENDED}
    assert os.path.samefile(f"/proc/{watcher()}/root", f"/proc/{container.init()}/root")


def test_a_root_directory_that_is_closed_meanwhile(enroot: Enter) -> None:
    """As that of a step that is cancelled, which pyxis removes: no path is left, and the watcher needs none."""
    container = enroot(hold=["exec"])
    container.wait_at("exec")
    wait_for(are_alone, "daemon, its server and watcher alone")
    mode = container.root.stat().st_mode
    container.root.chmod(0)
    time.sleep(QUIET)
    assert are_alone()
    container.root.chmod(mode)
    container.go_on("exec")
    container.wait_until_it_runs()
    wait_for(serves, "the daemon's answer")


def test_a_container_that_may_do_less_than_sessions_gets_none(enroot: Enter) -> None:
    """Where another than enroot's own program switched the root: sessions would lack what it took away."""
    container = enroot(filters=1).wait_until_it_runs()
    wait_for(lambda: not processes() and PORT not in listening(), "end of the daemon")
    assert container.exec("true").status == 0
    assert "has ended before the container: its sessions would have more rights than the container" in why()


def test_a_log_that_nobody_reads_holds_nothing_up(enroot: Enter) -> None:
    """The watcher reports to the container's /dev/log, whose owner may leave it full."""
    path = WORK / "log"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it,
    ):
        log.bind(str(path))
        path.chmod(0o666)
        it.setblocking(False)
        it.connect(str(path))
        with suppress(BlockingIOError):
            while True:
                it.send(b"full")
        enroot(filters=1, mounts=f"{path}:/dev/log").wait_until_it_runs()
        wait_for(lambda: not processes() and PORT not in listening(), "end of the daemon")
    path.unlink()


# The end.


def test_sessions_end_with_the_container(enroot: Enter, other_key: Path) -> None:
    requests = {"OCIHOOKS_SSH": "1", "OCIHOOKS_SSH_AUTHORIZE_SSH_KEY": str(other_key)}
    container = enroot(requests=requests).wait_until_it_runs()
    orphan = "setsid sh -c 'sleep 4321 & exec sleep 4322' >/dev/null 2>&1 </dev/null &"
    container.ssh(orphan).checked()
    wait_for(lambda: running("sleep", "4321") and running("sleep", "4322"), "the session's processes")
    with subprocess.Popen(from_outside(PORT, "sleep 4323"), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        wait_for(lambda: running("sleep", "4323"), "the session")
        container.end()
        wait_for(lambda: not processes(), "end of the daemon")
    assert not any(running("sleep", str(seconds)) for seconds in (4321, 4322, 4323))
    assert PORT not in listening()


def test_a_root_file_system_that_is_removed_under_it(enroot: Enter) -> None:
    """Its mounts go with it, /proc too, and pyxis removes it as soon as the tasks have ended."""
    container = enroot().wait_until_it_runs()
    wait_for(serves, "the daemon's answer")
    run(["rm", "-rf", "--one-file-system", container.root]).checked()
    assert not Path(f"/proc/{watcher()}/root/proc").exists()
    container.end()
    wait_for(lambda: not processes() and PORT not in listening(), "end of the daemon")


def test_a_container_lives_while_others_are_in_it(enroot: Enter) -> None:
    """pyxis ends the first process when the tasks of a job have joined."""
    container = enroot().wait_until_it_runs()
    wait_for(serves, "the daemon's answer")
    with subprocess.Popen(container.entered("sleep", "4331"), stdin=subprocess.DEVNULL) as task:
        wait_for(lambda: running("sleep", "4331"), "the task")
        container.end()
        time.sleep(QUIET)
        wait_for(serves, "the daemon's answer")
        task.kill()
    wait_for(lambda: not processes(), "end of the daemon")


# Tasks of pyxis. Its container's first process stops itself; the tasks join, one continues it, and it exits.

PYXIS = ("/bin/sh", "-c", "kill -STOP $$; exit 0")
TASK = ("/bin/sleep", "4341")


def execute(task: subprocess.Popen[bytes]) -> None:
    """Have the task execute its program."""
    assert task.stdin is not None
    task.stdin.close()
    wait_for(lambda: Path(f"/proc/{task.pid}/cmdline").read_bytes().startswith(b"/bin/sleep"), "the task's program")


@pytest.mark.parametrize("remap", [False, True])
def test_tasks_keep_it_before_they_execute(enroot: Enter, remap: bool) -> None:
    """The watcher may trace none that has yet to execute, nor root of `enroot --root` then."""
    container = enroot(remap=remap, command=PYXIS).wait_until_it_runs()
    container.wait_until_it_stops()
    wait_for(serves, "the daemon's answer")
    tasks = [container.join(*TASK), container.join(*TASK)]
    container.exits()
    time.sleep(QUIET)
    wait_for(serves, "the daemon's answer")
    for task in tasks:
        execute(task)
    tasks[1].kill()
    time.sleep(QUIET)
    wait_for(serves, "the daemon's answer")
    tasks[0].kill()
    wait_for(lambda: not processes() and PORT not in listening(), "end of the daemon")


def test_a_sweep_while_tasks_run(enroot: Enter) -> None:
    """The first process has ended, but not the container. A sweep of an earlier version looks at what is recorded."""
    container = enroot(command=PYXIS).wait_until_it_runs()
    container.wait_until_it_stops()
    task = container.join(*TASK)
    container.exits()
    execute(task)
    assert kept_records()
    for path in kept_records():
        lines = dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines()[1:])
        assert lines["init_pid"] == lines["pid"], "the first process stands for it"
    age()
    run_in_time(as_user(ALICE, LAUNCHER, "sweep")).checked()
    assert task.poll() is None
    wait_for(serves, "the daemon's answer")
    task.kill()
    wait_for(lambda: not processes() and PORT not in listening(), "end of the daemon")
    run_in_time(as_user(ALICE, LAUNCHER, "sweep")).checked()
    assert not kept_records()


def test_a_watcher_that_sees_the_tasks_alone(enroot: Enter) -> None:
    """On a busy node the first process may have ended when the watcher first looks at it."""
    container = enroot(command=PYXIS, hold=["exec"])
    container.wait_at("exec")
    wait_for(are_alone, "daemon, its server and watcher alone")
    os.kill(watcher(), signal.SIGSTOP)
    container.go_on("exec")
    container.wait_until_it_runs()
    container.wait_until_it_stops()
    container.join(*TASK)
    container.exits()
    assert not serves()
    os.kill(watcher(), signal.SIGCONT)
    wait_for(serves, "the daemon's answer")


# A job step of pyxis that joins the running container of an earlier step (--container-name).


def of_step(**requests: str) -> dict[str, str]:
    """The variables of a step of pyxis."""
    return {"OCIHOOKS_SSH": "1", "SLURM_JOB_ID": "1234", "PYXIS_RUNTIME_PATH": "/run/pyxis", **requests}


def joins(enroot: Enter, first: Enroot) -> subprocess.Popen[bytes]:
    """Have a step join the container `first`; return its task, which executes its program.

    As pyxis does it: with a second container in the same root file system, which ends when the task has joined.
    """
    second = enroot(beside=first, command=PYXIS, requests=of_step()).wait_until_it_runs()
    second.wait_until_it_stops()
    task = first.join(*TASK)
    second.exits()
    assert second.said() == ""
    execute(task)
    return task


def test_a_step_that_joins_has_ssh_by_the_first(enroot: Enter) -> None:
    """It needs no port of its own, and starts no process of ours."""
    first = enroot(requests=of_step()).wait_until_it_runs()
    before = set(processes())
    joins(enroot, first)
    assert set(processes()) == before
    assert first.ssh("echo served").checked().text == "served"


def test_attach_after_the_step_that_started_ssh(enroot: Enter, other_key: Path) -> None:
    """Slurm kills all processes of the first step, with its daemon; its user attaches another one from the node.

    The user need not know the pid of a process in the container.
    """
    first = enroot(requests=of_step()).wait_until_it_runs()
    task = joins(enroot, first)
    for process in (first.init(), daemon()):
        os.kill(process, signal.SIGKILL)
    wait_for(lambda: not processes(), "end of the daemon")
    requests = [f"OCIHOOKS_SSH_PORT={PORT}", f"OCIHOOKS_SSH_AUTHORIZE_SSH_KEY={other_key}"]
    attach = [LAUNCHER, "attach", "--without-seccomp"]
    assert f"attached to process {task.pid} " in run_in_time(as_user(ALICE, *requests, *attach)).checked().text
    assert run(from_outside(PORT, "echo served")).checked().text == "served"
    task.kill()
    wait_for(lambda: PORT not in listening(), "end of the daemon")


def test_a_second_container_in_one_root_file_system(enroot: Enter) -> None:
    """No task joins the first (no_exec), and it asks for another port: it has a daemon of its own."""
    first = enroot(requests=of_step()).wait_until_it_runs()
    second = enroot(beside=first, requests=of_step(OCIHOOKS_SSH_PORT=str(PORT + 1))).wait_until_it_runs()
    assert first.ssh("echo first").checked().text == "first"
    assert {PORT, PORT + 1} <= listening()
    assert second.ssh("echo second").checked().text == "second"


def test_a_container_of_another_root_file_system_is_not_joined(enroot: Enter) -> None:
    enroot(requests=of_step()).wait_until_it_runs()
    failed = enroot(requests=of_step()).fails()
    assert_one_line(failed, f"port {PORT} is in use by ")
    assert "choose another with OCIHOOKS_SSH_PORT=auto or a number" in failed


# SSH that ends before its container.


def why(*options: str) -> str:
    return run_in_time(as_user(ALICE, LAUNCHER, "why", *options)).checked().text


def test_a_daemon_that_is_killed_is_explained(enroot: Enter) -> None:
    container = enroot(env={"HOME": "/home/alice"}).wait_until_it_runs()
    wait_for(serves, "the daemon's answer")
    os.kill(daemon(), signal.SIGKILL)
    wait_for(lambda: not processes(), "end of the watcher")
    assert f"container {container.root.name}" in why()
    assert f"error: SSH at port {PORT} has ended before the container: its daemon was killed" in why()


def test_an_end_with_the_container_is_no_error(enroot: Enter) -> None:
    before = why("--json")
    container = enroot().wait_until_it_runs()
    wait_for(serves, "the daemon's answer")
    container.end()
    wait_for(lambda: not processes(), "end of the daemon")
    assert why("--json") == before


@pytest.mark.parametrize("step", ["switch", "exec"])
def test_a_container_that_ends_before_it_runs(enroot: Enter, step: str) -> None:
    container = enroot(hold=[step])
    container.wait_at(step)
    wait_for(are_alone, "daemon, its server and watcher alone")
    container.end()
    wait_for(lambda: not processes() and PORT not in listening(), "end of the daemon")


def test_neither_of_the_two_outlives_the_other(enroot: Enter) -> None:
    container = enroot().wait_until_it_runs()
    os.kill(daemon(), signal.SIGTERM)
    wait_for(lambda: not processes(), "end of the watcher")
    assert container.exec("true").status == 0


# What is refused, in a line.


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        ({"OCIHOOKS_SSH": "yes; echo no"}, "OCIHOOKS_SSH must be 1 or true"),
        ({"OCIHOOKS_SSH_PORT": "0"}, "OCIHOOKS_SSH_PORT is '0': give a port number from 1 to 65535"),
        ({"OCIHOOKS_SSH_WAIT": "$(id)"}, "OCIHOOKS_SSH_WAIT is '$(id)': give seconds"),
        ({"OCIHOOKS_SSH_AUTHORIZE_SSH_KEY": "/etc/shadow"}, "OCIHOOKS_SSH_AUTHORIZE_SSH_KEY: cannot read /etc/shadow"),
        ({"OCIHOOKS_SSH_PIDFILE_CONTAINER": "pid"}, "OCIHOOKS_SSH_PIDFILE_CONTAINER is 'pid': give the absolute path"),
    ],
)
def test_refused(enroot: Enter, requests: dict[str, str], said: str) -> None:
    container = enroot(requests={"OCIHOOKS_SSH": "1", **requests})
    assert_one_line(container.fails(), said)


def test_no_shell(enroot: Enter) -> None:
    """enroot runs the container's program through a shell, so a start without SSH would fail as well."""

    def without_shell(root: Path) -> None:
        for name in ("sh", "ash", "hush", "bash"):
            (root / "bin" / name).unlink(missing_ok=True)

    said = enroot(prepare=without_shell).fails()
    assert said == "ssh_hook: error: the container has no shell: sessions need /bin/sh in the image [no-shell]\n"


def assert_one_line(text: str, said: str) -> None:
    assert text.startswith(f"ssh_hook: error: {said}") and text.count("\n") == 1, text


def test_a_port_that_is_taken(enroot: Enter) -> None:
    with socket.create_server(("127.0.0.1", PORT)):
        assert_one_line(enroot().fails(), f"port {PORT}")


def test_without_proc(enroot: Enter) -> None:
    def with_null(root: Path) -> None:
        (root / "dev").mkdir(exist_ok=True)
        run(["mknod", root / "dev" / "null", "c", "1", "3"]).checked()
        (root / "dev" / "null").chmod(0o666)

    # The device of a file system of the user's namespace cannot be opened, so that comes first.
    assert enroot(without_mounts=True, prepare=with_null).fails().startswith("ssh_hook: error: ")


CALLS = [
    ({}, "ENROOT_PID is not set: only enroot calls this command"),
    ({"ENROOT_PID": "1", "ENROOT_ROOTFS": "/x", "ENROOT_ENVIRON": "/x"}, "ENROOT_PID is 1, which is not the process"),
    ({"ENROOT_PID": "-1"}, "ENROOT_PID is '-1', not a PID"),
    ({"ENROOT_PID": "$$", "ENROOT_ROOTFS": "rootfs"}, "ENROOT_ROOTFS is 'rootfs', not an absolute path"),
    ({"ENROOT_PID": "$$", "ENROOT_ROOTFS": "/tmp"}, "ENROOT_ENVIRON is not set"),
    ({"ENROOT_PID": "$$", "ENROOT_ROOTFS": "/tmp", "ENROOT_ENVIRON": "/no"}, "cannot read the container's variables"),
    (
        {"ENROOT_PID": "$$", "ENROOT_ROOTFS": "/tmp", "ENROOT_ENVIRON": "/dev/zero"},
        "cannot read the container's variables",
    ),
    (
        {"ENROOT_PID": "$$", "ENROOT_ROOTFS": "/", "ENROOT_ENVIRON": "/etc/hostname"},
        "the container's root directory / is",
    ),
]


@pytest.mark.parametrize(("variables", "said"), CALLS)
def test_a_user_calls_the_script(nothing_left: None, variables: dict[str, str], said: str) -> None:
    """Whatever she says it is, in a user and mount namespace of her own."""
    assignments = " ".join(f'{name}="{value}"' for name, value in variables.items())
    line = f"OCIHOOKS_SSH=1 {assignments} {SCRIPT}; exit $?"
    unshared = ("unshare", "--user", "--map-current-user", "--mount", "--keep-caps", "sh", "-c", line)
    called = run(as_user(ALICE, *unshared))
    assert called.status == 1
    assert_one_line(called.err.decode(), said)


def test_a_user_calls_the_script_outside(nothing_left: None) -> None:
    """Without a user namespace: as alice, and as root."""
    for prefix in ([], ["setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups"]):
        called = run([*prefix, "env", "-i", "PATH=/usr/bin:/bin", "OCIHOOKS_SSH=1", "ENROOT_PID=1", SCRIPT])
        assert called.status == 1
        assert_one_line(called.err.decode(), "enroot runs without a user namespace")


# A hostile image.


def tree(*places: str) -> set[tuple[str, int, int]]:
    """All files there, with size and time of change."""
    found = set()
    for place in places:
        for path in (Path(place), *Path(place).rglob("*")):
            state = path.lstat()
            found.add((str(path), state.st_size, state.st_mtime_ns))
    return found


@pytest.mark.parametrize("path", ["opt", "usr/bin", "etc", "etc/passwd", "etc/profile.d", "home/alice", "usr/bin/ssh"])
@pytest.mark.parametrize("target", ["/home/alice/canary", "/proc/self/cwd/canary", "../../../../../home/alice/canary"])
def test_links_of_the_image_lead_nowhere_outside(enroot: Enter, path: str, target: str) -> None:
    """All on the host that the user may write is at stake here: the hook runs as the user."""
    canary = Path("/home/alice/canary")
    canary.mkdir()
    os.chown(canary, ALICE, ALICE)

    def prepare(root: Path) -> None:
        place = root / path
        run(["rm", "-rf", place]).checked()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    try:
        before = tree(str(canary), str(keys()))
        container = enroot(prepare=prepare)
        try:
            container.wait_until_it_runs()
        except AssertionError:
            assert_one_line(container.said(), "")
        assert tree(str(canary), str(keys())) == before
    finally:
        run(["rm", "-rf", canary]).checked()


def test_the_site_runs_the_script_last() -> None:
    """It reads the container's variables, which enroot's own hooks set."""
    assert sorted(["10-home.sh", "98-nvidia.sh", "99-mellanox.sh", Path(SCRIPT).name])[-1] == Path(SCRIPT).name
    assert os.access(f"{HOOKS}/{Path(SCRIPT).name}", os.X_OK)
