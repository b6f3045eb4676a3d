"""`ssh_hook attach` brings SSH into containers that run already, without root, and `ssh_hook detach` ends it."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from math import ceil
from pathlib import Path

import attached
import openssh
import pytest
from attached import ENGINES, PODMAN, PORT, Running, attach, hook, is_gone, make_image, stop, tree
from containers import (
    ALICE,
    BOB,
    LAUNCHER,
    SETTINGS,
    Result,
    as_user,
    keys,
    listening,
    processes,
    run,
    running,
    wait_for,
    wait_until_found,
)
from equality import (
    LIST_DESCRIPTORS,
    LOGIN,
    SCRIPT,
    environment,
    facts,
    listed_descriptors,
    namespaces,
    seen_from_outside,
    strange_descriptors,
)
from held import unanswered
from patience import within
from refusals import assert_one_line
from starter import Start
from taken import assert_nobody_takes

Launch = Callable[..., Running]
NUMBERS = itertools.count(300000)
PTRACE_ATTACH, WALL = 16, 0x40000000  # sys/ptrace.h; __WALL of sys/wait.h
# What opens processes of the hook's again and again, until it is killed: each would show the node's tree, or a key.
TRACER = """
import ctypes, os, sys
assert ctypes.CDLL(None).setns(os.open(f"/proc/{sys.argv[1]}/ns/user", os.O_RDONLY), 0) == 0  # gives all capabilities
print("entered", flush=True)
while True:
    for pid in os.listdir("/proc"):
        for name in ("fd/0", "mem", "root/.", "cwd/.", "environ", "exe", "ns/mnt") if pid.isdigit() else ():
            try:
                with open(f"/proc/{pid}/comm") as comm:
                    os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
                    if comm.read() == "ssh_hook\\n":
                        print(pid, name, flush=True)
            except OSError:
                pass
"""


@pytest.fixture
def image() -> Iterator[Path]:
    shutil.rmtree(attached.WHERE, ignore_errors=True)
    attached.WHERE.mkdir()
    yield make_image("image")
    shutil.rmtree(attached.WHERE)


@pytest.fixture
def launch(image: Path) -> Iterator[Launch]:
    begun: list[Running] = []

    def call(engine: str, *prefix: str, tree: Path = image) -> Running:
        begun.append(attached.start(engine, tree, next(NUMBERS), prefix))
        return begun[-1]

    yield call
    for container in begun:
        stop(container)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path / "key")


@pytest.fixture
def ssh(key: Path) -> Callable[..., Result]:
    return lambda command, port=PORT: openssh.login(key, command, port=port)


def supervisors() -> set[int]:
    return {pid for pid, name in processes().items() if name == "ssh_hook"}


def daemon() -> int:
    return next(pid for pid, name in processes().items() if name == "dropbear")


@pytest.mark.parametrize("engine", [*ENGINES, *PODMAN])
def test_session_is_what_the_process_is(launch: Launch, key: Path, engine: str) -> None:
    container = launch(engine)
    before = tree(attached.WHERE)
    attach(container)
    enter = ["nsenter", "--target", str(container.pid), "--net"] if engine == "podman-pasta" else []

    def ask(command: str) -> Result:
        return run([*enter, *openssh.client(key, port=PORT), "alice@127.0.0.1", command])

    session, variables = ask(SCRIPT.replace("$P", "self")), ask("cat /proc/self/environ")
    assert listed_descriptors(ask(LIST_DESCRIPTORS).checked().text) == ["0", "1", "2", "3"]
    assert strange_descriptors(daemon()) == []
    look = ["nsenter", "--target", str(container.pid), "--preserve-credentials", "--user", "--cgroup"]
    process = facts(run([*look, "/bin/sh", "-c", SCRIPT.replace("$P", str(container.pid))]).checked().text + "\n")
    found = facts(session.checked().text + "\n")
    differing = {name for name in process if process[name] != found[name]}
    assert differing <= ({"cgroup"} if engine in PODMAN else set())
    theirs, ours = namespaces(container.pid), namespaces(daemon())
    # A read-only image that lacks mount points is shown in a mount namespace of the sessions' own.
    assert {name for name in theirs if theirs[name] != ours[name]} <= {"mnt"}
    assert theirs["mnt"] == ours["mnt"] or engine in ("ch-run", "bwrap", "podman-read-only")
    of_process = environment(Path(f"/proc/{container.pid}/environ").read_bytes())
    of_session = environment(variables.out)
    login = {name.encode() for name in LOGIN}
    assert {name: value for name, value in of_process.items() if name not in login} == {
        name: value for name, value in of_session.items() if name not in login
    }
    assert hook("detach", str(container.pid)).checked().text == f"detached from process {container.pid}"
    # A container's first process that reaps nobody leaves the daemon a zombie, as it does any other process.
    assert {name for pid, name in processes().items() if not is_gone(pid)} <= {"ssh_hook"}
    wait_for(lambda: all(map(is_gone, processes())), "end of the supervisor, which has closed its socket")
    assert PORT not in listening()
    assert b"ocihooks-ssh" not in Path(f"/proc/{container.pid}/mountinfo").read_bytes()
    assert tree(attached.WHERE) == before
    assert not is_gone(container.pid)


def test_sessions_are_scheduled_as_the_process_is(launch: Launch, ssh: Callable[..., Result]) -> None:
    scheduled = ["chrt", "--batch", "0", "nice", "-n", "15", "ionice", "--class", "3", "setarch", "linux32"]
    container = launch("bwrap", *scheduled)
    attach(container)
    nice = min(os.nice(0) + 15, 19)
    assert ssh("cut -d ' ' -f 19,41 /proc/self/stat").checked().text == f"{nice} {os.SCHED_BATCH}"  # proc_pid_stat(5)
    assert ssh("uname -m").checked().text == "i686"
    assert seen_from_outside(container.pid) == (3 << 13 | 7, "00000008\n")
    assert seen_from_outside(daemon()) == seen_from_outside(container.pid)


@pytest.mark.parametrize("engine", ["ch-run", "ch-run-write-fake", "ch-run-write", "bwrap", "podman"])
def test_ssh_to_another_container_and_back(
    launch: Launch, ssh: Callable[..., Result], image: Path, engine: str
) -> None:
    attach(launch(engine))
    other = launch("ch-run", tree=make_image("other"))
    assert hook("attach", str(other.pid), "--port", "15301").status == 0
    there = "ssh -p 15301 127.0.0.1 'echo there; ssh -p 15300 127.0.0.1 echo back'"
    assert ssh(there).checked().text == "there\nback"
    scp = "scp -P 15301 /etc/passwd 127.0.0.1:/tmp/attach-copied && cmp /etc/passwd /tmp/attach-copied"
    if engine.startswith("ch-run"):  # /tmp is the node's
        assert ssh(scp).checked().text == ""
    Path("/tmp/attach-copied").unlink(missing_ok=True)
    assert hook("wait", "--timeout", str(ceil(within(5))), "--port", "15301", "127.0.0.1").checked().err == b""
    listed = hook("detach")
    assert listed.status == 1
    assert f"ssh_hook detach {other.pid}" in listed.text
    hook("detach", str(other.pid)).checked()
    hook("detach").checked()


@pytest.fixture
def other_key(tmp_path: Path) -> Iterator[Path]:
    """A private key of alice's beside her key set; the public one is in /home/alice/other.pub."""
    public = Path("/home/alice/other.pub")
    public.write_text(f"{openssh.new_key(tmp_path / 'other')}\n", encoding="ascii")
    os.chown(public, ALICE, ALICE)
    yield tmp_path / "other"
    public.unlink()


@pytest.mark.parametrize("engine", ["ch-run", "ch-run-write-fake", "podman"])
def test_what_the_user_asks_for(launch: Launch, other_key: Path, engine: str) -> None:
    """`ssh` in the container then goes to the same port."""
    asked = [f"OCIHOOKS_SSH_PORT={PORT}", "OCIHOOKS_SSH_WAIT=3", "OCIHOOKS_SSH_HOSTS=127.0.0.1:2"]
    asked += ["OCIHOOKS_SSH_AUTHORIZE_SSH_KEY=/home/alice/other.pub"]
    hook("attach", str(launch(engine).pid), variables=asked).checked()
    look = "cd /opt/oci-hooks/ssh; grep -o 'ConnectTimeout 3' ssh_config; cat hostfile; ssh 127.0.0.1 id -u; id -u"
    said = openssh.login(other_key, look, port=PORT).checked().text.splitlines()
    assert said[:2] == ["ConnectTimeout 3", "127.0.0.1 slots=2"]
    assert len(said) == 4 and said[2] == said[3]
    hook("detach").checked()


@pytest.mark.parametrize("engine", ["ch-run", "ch-run-write-fake", "bwrap", "bwrap-write", "podman", "podman-pid-host"])
def test_it_ends_with_the_process(launch: Launch, key: Path, engine: str) -> None:
    container = launch(engine)
    attach(container)
    # A session, and what it leaves behind, which no pid namespace may end.
    run(
        [*openssh.client(key, port=PORT), "alice@127.0.0.1", "setsid sleep 345678 >/dev/null 2>&1 </dev/null &"]
    ).checked()
    with subprocess.Popen([*openssh.client(key, port=PORT), "alice@127.0.0.1", "sleep 345679"]) as session:
        wait_for(lambda: running("sleep", "345678") and running("sleep", "345679"), "sessions")
        stop(container)
        wait_for(lambda: processes() == {}, "end of daemon and supervisor")
        assert running("sleep", "345678") | running("sleep", "345679") == set()
        assert session.wait(timeout=within(10)) == 255


def test_detach_ends_sessions_and_not_the_container(launch: Launch, key: Path) -> None:
    container = launch("bwrap-write")
    attach(container)
    run(
        [*openssh.client(key, port=PORT), "alice@127.0.0.1", "setsid sleep 345678 >/dev/null 2>&1 </dev/null &"]
    ).checked()
    hook("detach").checked()
    assert running("sleep", "345678") == set()
    assert not is_gone(container.pid)
    attach(container)
    hook("detach", str(container.pid)).checked()


def test_detach_tells_of_mounts_that_were_moved(launch: Launch, image: Path) -> None:
    """They cannot be found by their paths any more, and have the user's keys."""
    container = launch("ch-run-write")
    attach(container)
    (image / "opt").rename(image / "elsewhere")
    said = hook("detach").checked().err.decode()
    assert said == (
        "ssh_hook: warning: could not unmount /elsewhere/oci-hooks/ssh in the container: its contents, including "
        "keys, stay until the container ends\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_supervisor_that_is_killed(launch: Launch, number: signal.Signals) -> None:
    container = launch("ch-run-write-fake")
    attach(container)
    (supervisor,) = supervisors()
    os.kill(supervisor, number)
    wait_for(lambda: processes() == {}, "end of the daemon")
    left = b"ocihooks-ssh" in Path(f"/proc/{container.pid}/mountinfo").read_bytes()
    assert left == (number == signal.SIGKILL)
    hook("sweep").checked()  # the name of a door is left, too


@pytest.mark.parametrize("engine", ["ch-run-write-fake", "bwrap-write", "podman", "podman-read-only"])
@pytest.mark.parametrize("killed", ["supervisor", "all"])
def test_what_a_killed_supervisor_left_is_undone_and_done_again(
    launch: Launch, ssh: Callable[..., Result], engine: str, killed: str
) -> None:
    container = launch(engine)
    attach(container)
    (supervisor,), server = supervisors(), daemon()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: is_gone(supervisor), "end of the supervisor")
    if killed == "all":
        with contextlib.suppress(ProcessLookupError):  # the kernel has killed it, without a pid namespace
            os.kill(server, signal.SIGKILL)
        wait_for(lambda: is_gone(server), "end of the daemon")
    if engine != "podman-read-only":  # where sessions have a mount namespace of their own, nothing is left in another
        refused_again = hook("attach", str(container.pid), "--port", str(PORT))
        assert_one_line(
            refused_again.err.decode(), "'ssh_hook detach', with the same PID or name, removes what attach created"
        )
    if engine != "podman-read-only" or killed == "supervisor":
        assert hook("detach", str(container.pid)).checked().text == f"detached from process {container.pid}"
    assert b"ocihooks-ssh" not in Path(f"/proc/{container.pid}/mountinfo").read_bytes()
    assert is_gone(server)
    attach(container)
    assert ssh("echo again").checked().text == "again"
    hook("detach").checked()


@pytest.mark.parametrize("words", [["detach"], ["detach", "PID"]], ids=["only", "by-pid"])
def test_detach_unmounts_nothing_under_a_daemon_without_an_entry(
    launch: Launch, ssh: Callable[..., Result], words: list[str]
) -> None:
    """As one of an earlier version, or whose entry is gone: its container goes on as it is."""
    container = launch("podman")
    attach(container)
    (supervisor,) = supervisors()
    os.kill(supervisor, signal.SIGKILL)  # in a pid namespace, the daemon goes on
    wait_for(lambda: is_gone(supervisor), "end of the supervisor")
    for place in (f"/run/user/{ALICE}/ocihooks-ssh", f"/tmp/ocihooks-ssh-{ALICE}"):
        shutil.rmtree(Path(place) / "daemons", ignore_errors=True)
    refused = hook(*(str(container.pid) if word == "PID" else word for word in words))
    assert refused.status == 1
    assert_one_line(refused.err.decode(), "nothing was unmounted", f"process {daemon()} (dropbear) runs from")
    assert ssh("ls ~/.ssh/id_dropbear >/dev/null && echo served").checked().text == "served"
    os.kill(daemon(), signal.SIGKILL)
    wait_for(lambda: all(map(is_gone, processes())), "end of the daemon and its child")
    hook("detach", str(container.pid)).checked()
    assert b"ocihooks-ssh" not in Path(f"/proc/{container.pid}/mountinfo").read_bytes()


def test_detach_leaves_a_server_of_the_hook_alone(start: Start) -> None:
    container = start("rootless", "busybox")
    wait_until_found()
    said = hook("detach", str(container.init())).err.decode()
    assert_one_line(said, "was not started by attach: it stops with its container", kind="attach-refused")
    assert_one_line(hook("detach").err.decode(), "you have attached no SSH daemon on this node")
    assert container.ssh("exit 7").status == 7


@pytest.fixture(name="steps")
def fixture_steps() -> Iterator[list[Path]]:
    """The cgroups of two steps of a Slurm job, which root makes for its user."""
    freezer = Path("/sys/fs/cgroup/freezer")  # of cgroup v1
    top = freezer if freezer.is_dir() else freezer.parent
    job = top / "slurm" / f"uid_{ALICE}" / "job_7"
    steps = [job / "step_0", job / "step_1"]
    for step in steps:
        step.mkdir(parents=True)
    yield steps
    for step in steps:
        wait_for(partial(is_empty, step), "end of all in the step")
    for directory in (*steps, job, job.parent, job.parent.parent):
        directory.rmdir()


def is_empty(cgroup: Path) -> bool:
    return not (cgroup / "cgroup.procs").read_text(encoding="ascii")


# When a step's task has ended, Slurm kills all that is in the step's cgroup.
STEP = """
step=$1; shift
sh -c 'echo 0 >"$0/cgroup.procs" && exec "$@"' "$step" "$@"
status=$?
while [ -n "$(cat "$step/cgroup.procs")" ]; do kill -s KILL $(cat "$step/cgroup.procs"); sleep 0.1; done
exit "$status"
"""


@pytest.mark.parametrize("engine", ["ch-run", "podman"])
def test_step_of_a_slurm_job(steps: list[Path], launch: Launch, ssh: Callable[..., Result], engine: str) -> None:
    """The command lasts as long as the server, since the step ends with it."""
    container = launch(engine)
    command = as_user(ALICE, LAUNCHER, "attach", str(container.pid), "--port", str(PORT))
    with subprocess.Popen(["sh", "-c", STEP, "sh", str(steps[1]), *command], stdout=subprocess.PIPE) as srun:
        assert srun.stdout is not None
        assert srun.stdout.readline().startswith(b"attached to process ")
        assert (
            b"runs until the SSH daemon stops, since Slurm would kill the daemon at the end of step 7.1"
            in srun.stdout.readline()
        )
        try:
            assert ssh("echo served").checked().text == "served"
            assert srun.poll() is None
            (supervisor,) = (pid for pid in supervisors() if os.getsid(pid) == pid)  # not the command
            assert_nobody_takes(supervisor)
        finally:
            hook("detach").checked()
        assert srun.wait(within(10)) == 0
    assert b"ocihooks-ssh" not in Path(f"/proc/{container.pid}/mountinfo").read_bytes()


def test_step_that_is_ended(steps: list[Path], launch: Launch) -> None:
    """By SIGTERM first, as Slurm and srun do: nothing is left in the container."""
    container = launch("ch-run-write-fake")
    command = as_user(ALICE, LAUNCHER, "attach", str(container.pid), "--port", str(PORT))
    with subprocess.Popen(["sh", "-c", STEP, "sh", str(steps[1]), *command], stdout=subprocess.PIPE) as srun:
        assert srun.stdout is not None
        srun.stdout.readline()
        srun.stdout.readline()
        for pid in (steps[1] / "cgroup.procs").read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):  # it ends with one that has the signal already
                os.kill(int(pid), signal.SIGTERM)
        assert srun.wait(within(10)) == 0
    assert b"ocihooks-ssh" not in Path(f"/proc/{container.pid}/mountinfo").read_bytes()


def test_the_kernel_kills_the_daemon_as_early_as_the_process(launch: Launch) -> None:
    container = launch("ch-run", "choom", "--adjust", "300", "--")
    attach(container)
    assert Path(f"/proc/{daemon()}/oom_score_adj").read_text(encoding="ascii") == "300\n"
    hook("detach").checked()


def test_step_of_the_container_itself(steps: list[Path], launch: Launch) -> None:
    container = launch("ch-run")
    (steps[0] / "cgroup.procs").write_text(str(container.pid), encoding="ascii")
    enter = ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', str(steps[0])]
    done = run([*enter, *as_user(ALICE, LAUNCHER, "attach", str(container.pid), "--port", str(PORT))]).checked()
    assert done.text.startswith("attached to process ") and "\n" not in done.text
    hook("detach").checked()


def test_without_argument(launch: Launch) -> None:
    assert_one_line(hook("attach").err.decode(), "you have no container on this node", kind="no-container")
    first = launch("ch-run")
    assert hook("attach").checked().text == (
        f"attached to process {first.pid} (sleep): its SSH daemon listens on port {SETTINGS['SERVER_PORT_DEFAULT']}"
    )
    hook("detach").checked()
    second = launch("podman")
    listed = hook("attach")
    assert (listed.status, listed.err) == (1, b"")
    assert [line.split() for line in listed.text.splitlines()] == [
        [str(pid), "sleep", "ssh_hook", "attach", str(pid)] for pid in sorted((first.pid, second.pid))
    ]
    assert_one_line(hook("detach").err.decode(), "you have attached no SSH daemon on this node")


def test_by_name(launch: Launch) -> None:
    container = launch("podman")
    assert f"process {container.pid} (" in hook("attach", "--name", container.name).checked().text
    hook("detach", "--name", container.name).checked()
    assert_one_line(hook("attach", "--name", "nobody").err.decode(), "your podman has no container nobody")


def refused(*arguments: str, uid: int = ALICE) -> str:
    done = hook("attach", *arguments, uid=uid)
    assert done.status == 1
    assert done.out == b""
    text = done.err.decode()
    assert_one_line(text)
    wait_for(lambda: processes() == {}, "end of what attach started", 3)
    return text


def test_refusals(launch: Launch) -> None:
    container = launch("ch-run")
    pid = str(container.pid)
    assert "another user or has more rights than you" in refused(pid, uid=BOB)
    assert "run it as the container's user" in run([LAUNCHER, "attach", pid]).err.decode()
    assert "there is no process 4194000" in refused("4194000")
    assert "is not a PID" in refused("1x")
    assert "--port is '0'" in refused(pid, "--port", "0")
    assert "may not listen on port 22" in refused(pid, "--port", "22")
    wrong = hook("attach", pid, variables=["OCIHOOKS_SSH_WAIT=x"])
    assert_one_line(wrong.err.decode(), "OCIHOOKS_SSH_WAIT is 'x': give seconds")


def test_own_process_in_no_container() -> None:
    with subprocess.Popen(as_user(ALICE, "/bin/sleep", "345683")) as process:
        wait_for(lambda: running("/bin/sleep", "345683"), "start")
        assert "it is not in a container" in refused(str(process.pid))
        process.kill()


def test_container_with_the_nodes_own_root() -> None:
    with subprocess.Popen(
        as_user(ALICE, "bwrap", "--ro-bind", "/", "/", "--unshare-user", "/bin/sleep", "345680")
    ) as it:
        wait_for(lambda: running("/bin/sleep", "345680"), "start")
        assert "this node's own" in refused(next(iter(running("/bin/sleep", "345680"))))
        it.kill()
    for pid in running("/bin/sleep", "345680"):
        os.kill(int(pid), signal.SIGKILL)


def test_container_of_roots_engine(start: Start) -> None:
    container = start("podman-crun", "busybox", annotations={"com.hooks.ssh.enabled": "false"})
    assert "only root can enter it" in refused(str(container.init()))


def test_attached_already(launch: Launch) -> None:
    for engine in ("ch-run", "ch-run-write-fake"):
        container = launch(engine)
        attach(container)
        done = hook("attach", str(container.pid), "--port", "15302")
        assert_one_line(done.err.decode(), "already has an SSH daemon")
        hook("detach", str(container.pid)).checked()


def lock_of(container: Running) -> Path:
    """The file that alice's supervisor has locked."""
    (found,) = Path(f"/run/user/{ALICE}/ocihooks-ssh/attached").glob(f"{container.pid}-*")
    return found


def test_another_user_reaches_no_supervisor(launch: Launch) -> None:
    container = launch("ch-run")
    attach(container)
    lock = lock_of(container)
    look = run(as_user(BOB, "cat", str(lock)))
    assert b"Permission denied" in look.err
    (supervisor,) = supervisors()
    assert run(as_user(BOB, "kill", str(supervisor))).status == 1
    assert f"ocihooks-ssh/attached/{ALICE}" not in Path("/proc/net/unix").read_text(encoding="utf-8")
    hook("detach", str(container.pid)).checked()
    assert list(lock.parent.iterdir()) == []


# A process with the user's uid in namespaces of its own, but for the network and, as ch-run shows it, the node's /tmp.
IN_ANOTHER_CONTAINER = ["bwrap", "--ro-bind", "/", "/", "--bind", "/tmp", "/tmp", "--tmpfs", "/run", "--proc", "/proc"]
END_ALL = """
import os, signal, socket
for line in open("/proc/net/unix", encoding="utf-8", errors="replace"):
    if "ocihooks-ssh" in line and "@" in line:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect("\\0" + line.split("@", 1)[1].rstrip("\\n"))
            connection.recv(1)
for name in filter(str.isdigit, os.listdir("/proc")):
    if int(name) not in (1, os.getpid()):
        os.kill(int(name), signal.SIGTERM)
"""


def test_another_container_of_the_same_user_ends_no_daemon(launch: Launch, ssh: Callable[..., Result]) -> None:
    """Not even one on the node's network, as with `podman --network host`."""
    attach(launch("ch-run"))
    command = [*IN_ANOTHER_CONTAINER, "--unshare-user", "--unshare-pid", "/usr/bin/python3", "-c", END_ALL]
    run(as_user(ALICE, *command)).checked()
    assert ssh("echo served").checked().text == "served"
    hook("detach").checked()


def test_a_supervisor_that_is_killed_during_detach(launch: Launch) -> None:
    """As by an image that sees the command: what the supervisor did not undo is undone by detach."""
    container = launch("ch-run-write-fake")
    attach(container)
    (supervisor,) = supervisors()
    # So that it does not go on: detach would wake it if it were only stopped.
    assert ctypes.CDLL(None).ptrace(PTRACE_ATTACH, supervisor, None, None) == 0
    os.waitpid(supervisor, WALL)
    with subprocess.Popen(as_user(ALICE, LAUNCHER, "detach", str(container.pid)), stdout=subprocess.PIPE) as detach:
        wait_for(lambda: is_pending(supervisor, signal.SIGTERM), "detach's signal")
        os.kill(supervisor, signal.SIGKILL)
        os.waitpid(supervisor, WALL)
        assert detach.communicate(timeout=within(30))[0] == f"detached from process {container.pid}\n".encode()
    assert b"ocihooks-ssh" not in Path(f"/proc/{container.pid}/mountinfo").read_bytes()


def is_pending(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return any(line.startswith("ShdPnd:") and int(line.split()[1], 16) >> number - 1 & 1 for line in lines)


def test_port_in_use_leaves_nothing(launch: Launch) -> None:
    first, second = launch("ch-run"), launch("ch-run-write-fake")
    attach(first)
    before = Path(f"/proc/{second.pid}/mountinfo").read_bytes()
    done = hook("attach", str(second.pid), "--port", str(PORT))
    assert_one_line(done.err.decode(), f"port {PORT} is in use", "choose another with --port")
    assert Path(f"/proc/{second.pid}/mountinfo").read_bytes() == before
    hook("detach", str(first.pid)).checked()


def test_groups_that_the_process_lacks(launch: Launch) -> None:
    container = launch("ch-run")
    command = as_user(ALICE, LAUNCHER, "attach", str(container.pid))
    command[command.index("--clear-groups")] = "--groups=100,1234"
    done = run(command)
    assert_one_line(done.err.decode(), "lacks the groups 100, 1234 that you have")
    assert done.status == 1
    wait_for(lambda: processes() == {}, "end of the supervisor")


def test_groups_that_the_caller_lacks(image: Path) -> None:
    command = as_user(ALICE, "ch-run", str(image), "--", "/bin/sleep", "345681")
    command[command.index("--clear-groups")] = "--groups=1234"
    with subprocess.Popen(command) as engine:
        try:
            wait_for(lambda: running("/bin/sleep", "345681"), "start")
            assert "more rights than you: the group 1234" in refused(str(engine.pid))
        finally:
            engine.kill()


def test_seccomp_of_unknown_origin(launch: Launch, ssh: Callable[..., Result]) -> None:
    """ch-run has a filter of its own making, which nobody but root can read."""
    ENGINES["ch-run-seccomp"] = ["ch-run", "--seccomp", "IMAGE", "--"]
    try:
        filtered = launch("ch-run-seccomp")
    finally:
        del ENGINES["ch-run-seccomp"]
    assert "a seccomp filter that no config.json contains" in refused(str(filtered.pid))
    done = hook("attach", str(filtered.pid), "--port", str(PORT), "--without-seccomp")
    assert done.status == 0
    assert_line = done.err.decode()
    assert "sessions lack a seccomp filter" in assert_line
    assert "Seccomp:\t0" in ssh("cat /proc/self/status").checked().text
    hook("detach").checked()


def test_process_that_ends_or_executes_meanwhile(launch: Launch, image: Path) -> None:
    """Whatever happens at whatever moment: a daemon that serves, or one line and nothing left."""
    for attempt in range(12):
        for change in ("kill", "exec"):
            script = f"read _; sleep 0.{attempt * 8 + 20:03}; "
            script += "exit" if change == "kill" else "exec /bin/sleep 345682"
            command = as_user(ALICE, "ch-run", str(image), "--", "/bin/sh", "-c", script)
            with subprocess.Popen(command, stdin=subprocess.PIPE) as engine:
                assert engine.stdin is not None
                wait_for(lambda: Path(f"/proc/{engine.pid}/exe").resolve().name == "busybox", "start")
                engine.stdin.write(b"\n")
                engine.stdin.flush()
                done = hook("attach", str(engine.pid), "--port", str(PORT))
                if done.status:
                    assert_one_line(done.err.decode(), f"process {engine.pid}")
                engine.kill()
            wait_for(lambda: processes() == {}, "end of what was attached")


@pytest.mark.parametrize("engine", ["ch-run", "ch-run-write-fake", "bwrap-write"])
def test_nobody_in_the_container_can_trace_what_attaches(launch: Launch, engine: str) -> None:
    """A process of the same user in the same pid namespace, with all capabilities of the container's user namespace."""
    container = launch(engine)
    look = as_user(ALICE, "/usr/bin/python3", "-ISc", TRACER, str(container.pid))
    with subprocess.Popen(look, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == "entered\n"
        try:
            for _attempt in range(5):
                attach(container)
                hook("detach").checked()
            assert tracer.poll() is None
        finally:
            tracer.kill()
        assert tracer.stdout.read() == ""


def test_hostile_image(launch: Launch, image: Path, tmp_path: Path, ssh: Callable[..., Result]) -> None:
    """Its links lead out, a file is a FIFO, its programs would leave a trace: none is followed, waited for, or run."""
    trace = Path("/tmp/attach-trace")
    for name in ("ssh", "dropbear", "python3", "scp"):
        (image / "bin" / name).write_text(f"#!/bin/sh\ntouch {trace}\n", encoding="utf-8")
        (image / "bin" / name).chmod(0o755)
    (image / "opt").symlink_to("../../../../../home/alice/victim")
    victim = Path("/home/alice/victim")
    victim.mkdir()
    os.chown(victim, ALICE, ALICE)
    (image / "usr").symlink_to("/proc/self/root/bin")
    done = hook("attach", str(launch("ch-run").pid), "--port", str(PORT))
    assert_one_line(done.err.decode(), "/usr/bin/ssh in the container")
    assert list(victim.iterdir()) == []
    (image / "usr").unlink()
    (image / "etc/shells").unlink(missing_ok=True)
    os.mkfifo(image / "etc/shells")
    os.chown(image / "etc/shells", ALICE, ALICE)
    container = launch("ch-run")
    done = hook("attach", str(container.pid), "--port", str(PORT))
    assert_one_line(done.err.decode(), "/etc/shells in the container is not a regular file")
    (image / "etc/shells").unlink()
    attach(container)
    assert ssh("ls -d /opt/oci-hooks/ssh").checked().text == "/opt/oci-hooks/ssh"
    hook("detach", str(container.pid)).checked()
    assert list(victim.iterdir()) == []
    assert not trace.exists()
    victim.rmdir()


def test_no_shell(launch: Launch, image: Path) -> None:
    """The container runs already, so it cannot be started without SSH, whatever its user or the site prefers."""
    for name in ("sh", "ash", "hush", "bash"):
        (image / "bin" / name).unlink(missing_ok=True)
    asked = ["OCIHOOKS_SSH_REQUIRE_SHELL=false", "REQUIRE_SHELL=false"]
    done = hook("attach", str(launch("ch-run").pid), "--port", str(PORT), variables=asked)
    said = b"ssh_hook: error: the container has no shell: sessions need /bin/sh in the image [no-shell]\n"
    assert (done.status, done.out, done.err) == (1, b"", said)


def test_hostile_proc(launch: Launch, image: Path, ssh: Callable[..., Result]) -> None:
    """The image's /proc is a directory of its own making: attach looks at the node's."""
    ENGINES["bwrap-false-proc"] = ["bwrap", "--bind", "IMAGE", "/", "--dev", "/dev", "--unshare-user"]
    false = image / "proc/self/fd"
    false.mkdir(parents=True)
    for number in range(100):
        (false / str(number)).symlink_to("/home")
    (image / "proc/self/setgroups").write_text("allow\n", encoding="ascii")
    run(["chown", "-R", f"{ALICE}:{ALICE}", image / "proc"]).checked()
    try:
        container = launch("bwrap-false-proc")
    finally:
        del ENGINES["bwrap-false-proc"]
    attach(container)
    assert ssh("echo here").checked().text == "here"
    hook("detach").checked()
    assert sorted(path.name for path in Path("/home").iterdir() if path.name == "opt") == []


def test_image_of_another_user(launch: Launch, ssh: Callable[..., Result]) -> None:
    """A shared image, which is root's: nothing can be created there, and no owner is mapped."""
    shared = make_image("shared", owner=0)
    before = tree(shared)
    attach(launch("ch-run", tree=shared))
    assert ssh("id -u; ls -d /opt/oci-hooks/ssh").checked().text == f"{ALICE}\n/opt/oci-hooks/ssh"
    hook("detach").checked()
    assert tree(shared) == before


def test_site_without_overlays(launch: Launch, ssh: Callable[..., Result]) -> None:
    container = launch("ch-run")
    command = as_user(ALICE, LAUNCHER, "attach", str(container.pid), "--port", str(PORT))
    command.insert(command.index("env") + 4, "OVERLAY_MOUNT_HOME_SSH=false")
    assert run(command, cwd="/").checked().err == b""
    assert ssh("ls ~/.ssh/id_dropbear").checked().text.endswith("/.ssh/id_dropbear")
    hook("detach").checked()


def test_hanging_home_fails_by_deadline_alone(launch: Launch) -> None:
    container = launch("ch-run")
    begun = time.monotonic()
    with unanswered(Path("/home/alice")):
        assert "no answer within 10 s" in refused(str(container.pid))
        assert time.monotonic() - begun < 10 + within(10)
