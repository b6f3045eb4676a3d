"""Which container `ssh_hook connect` takes, and what it makes of its arguments."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import within
from ssh_hook.commands import connect
from ssh_hook.commands.connect import HERE, _locate, _parse_job, _unquoted, choose
from ssh_hook.dispatch import dispatch
from ssh_hook.errors import HookError
from ssh_hook.linux import syscalls
from ssh_hook.node.inventory import Daemon
from ssh_hook.schedulers import slurm as module
from ssh_hook.schedulers.nodes import launcher


def daemon(pid: int, name: str = "", job: str = "", container: str = "", step: str = "") -> Daemon:
    made = Daemon(pid, 1000, [("", 15263)], 0)
    made.name, made.job, made.id, made.step = name, job, container, step
    return made


FIRST = daemon(11, "solver", "12", "abcdef")
SECOND = daemon(12, "job13", "", "abd111")
THIRD = daemon(13, "", "12.server")


@pytest.mark.parametrize(
    ("job", "name", "found"),
    [
        (None, "solver", FIRST),
        (None, "abc", FIRST),
        (None, "13", THIRD),
        ("13", None, SECOND),
    ],
)
def test_the_one_that_is_meant(job: str | None, name: str | None, found: Daemon) -> None:
    assert choose([FIRST, SECOND, THIRD], job, name) is found
    assert choose([FIRST], None, None) is FIRST


@pytest.mark.parametrize(
    ("job", "name", "words"),
    [
        (
            None,
            None,
            r"you have 3 containers on .*; choose one with --name NAME or PID in the ProxyCommand: "
            r"11 \(solver, port 15263, job 12\); 12 ",
        ),
        ("12", None, r"2 containers of job 12 on .*11 .*; 13 \(port 15263, job 12\.server\)$"),
        ("1", None, r"no container of job 1 has an SSH daemon on .*; your containers there: 11 "),
        (None, "ab", r"no container called ab has an SSH daemon"),
        (None, "1", r"no container called 1 has an SSH daemon"),
    ],
)
def test_none_or_several(job: str | None, name: str | None, words: str) -> None:
    with pytest.raises(HookError, match=words):
        choose([FIRST, SECOND, THIRD], job, name)


def test_no_container() -> None:
    with pytest.raises(HookError, match=r"you have no container with an SSH daemon on .*: run 'ssh_hook why' there"):
        choose([], None, "x")


def test_tasks_of_an_array() -> None:
    """By the number that each has of Slurm, by the array's name, and by the array alone if that names one."""
    last, other = daemon(21, job="1234"), daemon(22, job="1239")  # Slurm gives one of the tasks the array's number
    last.task, other.task = "1234_7", "1234_5"
    for job, found in (("1234_7", last), ("1234_5", other), ("1239", other), ("1234", last)):
        assert choose([FIRST, last, other], job, None) is found
    assert choose([FIRST, other], "1234", None) is other
    third = daemon(23, job="1240")
    third.task = "1234_6"
    with pytest.raises(HookError, match=r"2 containers of job 1234 .*22 .*job 1234_5\); 23 .*job 1234_6\)$"):
        choose([FIRST, other, third], "1234", None)
    with pytest.raises(HookError, match=r"no container of job 123 "):
        choose([FIRST, last, other], "123", None)


def test_steps_of_a_job() -> None:
    """By Slurm's number; where a job's containers are in no step, in the order of their starts."""
    first, second, later = (
        daemon(41, job="77", step="0"),
        daemon(42, job="77", step="1"),
        daemon(43, job="77", step="9"),
    )
    batch = daemon(44, job="77")
    for job, found in (("77.0", first), ("77.1", second), ("77.9", later)):
        assert choose([FIRST, batch, later, second, first], job, None) is found
    assert choose([FIRST, daemon(45, job="78"), batch], "77", None) is batch
    with pytest.raises(HookError, match=r"no container of job 77\.2 .* 41 \(port 15263, job 77\.0\); 42 .*job 77\.1\)"):
        choose([first, second], "77.2", None)
    with pytest.raises(HookError, match=r"2 containers of job 77\.1 .*42 .*job 77\.1\); 46 .*job 77\.1\)$"):
        choose([first, second, daemon(46, job="77", step="1")], "77.1", None)
    last = daemon(47, job="77")
    for job, found in (("77.0", batch), ("77.1", last)):
        assert choose([FIRST, batch, last], job, None) is found
    with pytest.raises(HookError, match=r"no container of job 77\.2"):
        choose([batch, last], "77.2", None)
    last.task = "76_1"
    assert choose([batch, last], "76_1.0", None) is last


def test_names_cannot_write_to_the_terminal() -> None:
    with pytest.raises(HookError) as error:
        choose([daemon(1, "\x1b[2J"), daemon(2, "\n")], None, None)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("text", "node", "expected"),
    [
        ("1234", None, ("1234", None)),
        ("job1234", None, ("1234", None)),
        ("node002.job1234", None, ("1234", "node002")),
        ("job12.server.site", None, ("12.server.site", None)),
        ("n1.job12", "n2", ("12", "n2")),
        (None, "n2", (None, "n2")),
        ("12_[3]", None, ("12_[3]", None)),
        ("1234.1", None, ("1234.1", None)),
        ("job1234.1", None, ("1234.1", None)),
        ("node002.job1234_5.1", None, ("1234_5.1", "node002")),
    ],
)
def test_jobs(text: str | None, node: str | None, expected: tuple[str | None, str | None]) -> None:
    assert _parse_job(text, node) == expected


def test_the_quotes_that_windows_ssh_leaves() -> None:
    words = ["'job1234'", "job1234", "'", "''job1''", "x'job1'", None]
    assert [_unquoted(word) for word in words] == ["job1234", "job1234", "'", "'job1'", "x'job1'", None]


@pytest.mark.parametrize(
    "text", ["", "job", "jobs", "x.jobs", "-1", "1 2", "1;id", "$(id)", "1" * 99, "a.b.job1", "n1.12"]
)
def test_no_jobs(text: str) -> None:
    with pytest.raises(HookError, match="give the number of a job"):
        _parse_job(text, None)


# What squeue prints of jobs by --format "%A %i %T %N". The first line of an array is of the tasks that wait.
JOBS = {
    "12": "12 12 RUNNING node[002-003]",
    "13": "13 13 PENDING ",
    "14": "",
    "1234": "1234 1234_[6-9%2] PENDING \n1239 1234_5 RUNNING node004",
    "1234_5": "1239 1234_5 RUNNING node004,node007",
    "1234_6": "1234 1234_[6-9%2] PENDING ",
    "2000": "2000 2000_[3-9] PENDING \n2002 2000_2 RUNNING node002\n2001 2000_1 RUNNING node[001-003]",
    "2100": "2102 2100_2 COMPLETING node002\n2101 2100_1 RUNNING node001",
    "3000": "3000 3000+0 RUNNING node001\n3001 3000+1 RUNNING node002",  # a heterogeneous job: its first component
    "3001": "3001 3000+1 RUNNING node002",
    "3100": "$(id) 3100 RUNNING node001",
}


@pytest.fixture(name="slurm")
def fixture_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command squeue that knows JOBS."""
    for job, text in JOBS.items():
        (tmp_path / job).write_text(f"{text}\n" if text else "", encoding="ascii")
    squeue = tmp_path / "squeue"
    squeue.write_text(
        f"""#!/bin/sh
[ "$1 $2 $4 $5" = "--noheader --jobs --format %A %i %T %N" ] || exit 3
cat {tmp_path}/"$3" 2>/dev/null && exit
echo "slurm_load_jobs error: Invalid job id specified" >&2
exit 1
""",
        encoding="ascii",
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("job", "node", "expected"),
    [
        ("12", None, ("12", "node002")),
        ("1234", None, ("1239", "node004")),
        ("1234_5", None, ("1239", "node004")),
        ("1234_5", "node007", ("1239", "node007")),
        ("1234_6", "node007", ("1234_6", "node007")),
        ("999_1", "node007", ("999_1", "node007")),
        ("2100", None, ("2101", "node001")),
        ("3000", None, ("3000", "node001")),
    ],
)
def test_where_slurm_has_a_job(slurm: None, job: str, node: str | None, expected: tuple[str, str]) -> None:
    assert _locate(job, node) == expected


@pytest.mark.parametrize(
    ("job", "node", "expected"),
    [
        ("12.1", None, ("12.1", "node002")),
        ("1234_5.1", None, ("1239.1", "node004")),
        ("12.1", "node003", ("12.1", "node003")),
        ("12.server", "node003", ("12.server", "node003")),
    ],
)
def test_a_step_is_where_its_job_is(slurm: None, job: str, node: str | None, expected: tuple[str, str]) -> None:
    assert connect._complete(job, node) == expected


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("13", r"job 13 has no node yet \(pending\): see squeue --jobs 13"),
        ("14", r"job 14 has ended: see sacct --jobs 14$"),
        ("1234_6", r"job 1234_6 has no node yet \(pending\)"),
        ("999", r"Slurm has no job 999: slurm_load_jobs error: Invalid job id specified"),
        (
            "2000",
            r"job 2000 is an array with 2 running tasks: choose one, such as job2000_2: "
            r"2000_2 \(node002\), 2000_1 \(node\[001-003\]\)$",
        ),
        ("3100", r"job 3100 has ended"),
    ],
)
def test_jobs_without_one_first_node(slurm: None, job: str, words: str) -> None:
    with pytest.raises(HookError, match=words):
        _locate(job, None)


@pytest.mark.parametrize(
    ("job", "number", "nodes"),
    [
        ("12", 12, ["node002", "node003"]),
        ("1234", 1239, ["node004"]),
        ("1234_5", 1239, ["node004", "node007"]),
        ("2100", 2101, ["node001"]),
        ("3000", 3000, ["node001", "node002"]),
        ("3001", 3000, ["node002"]),
    ],
)
def test_all_nodes_of_a_job(slurm: None, job: str, number: int, nodes: list[str]) -> None:
    assert module.find_nodes(job, 600) == (number, nodes)


@pytest.mark.parametrize("job", ["13", "14", "999", "2000", "3100"])
def test_jobs_without_nodes(slurm: None, job: str) -> None:
    with pytest.raises(HookError, match=rf"\bjob {job}\b"):
        module.find_nodes(job, 600)


def test_without_slurm_a_job_has_no_nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        HookError,
        match=r"cannot find where job 12 runs, since there is no squeue in PATH: give the hosts and their --port$",
    ):
        module.find_nodes("12", 600)


def test_a_slurm_that_does_not_answer(slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another question may help; what else does is another thing for each command."""
    (tmp_path / "squeue").write_text("#!/bin/sh\nexec sleep 100\n", encoding="ascii")
    begun = time.monotonic()
    with pytest.raises(module.NotYetError, match=r"where job 12 runs \(squeue\): give the hosts and their --port$"):
        module.find_nodes("12", 0.2)
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    with pytest.raises(module.NotYetError, match=r"\(squeue\): give the hosts and their --port$"):
        module.find_nodes("12", 600)
    with pytest.raises(HookError, match=r"\(squeue\): give the node too: ssh_hook connect --job JOB NODE$"):
        _locate("12", None)
    assert time.monotonic() - begun < within(20)


def test_a_controller_that_squeue_does_not_reach(slurm: None, tmp_path: Path) -> None:
    """Another question may help."""
    said = "slurm_load_jobs error: Socket timed out on send/recv operation"
    (tmp_path / "squeue").write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n", encoding="ascii")
    with pytest.raises(
        module.NotYetError, match=rf"^Slurm did not report where job 12 runs \({said}\): give the hosts"
    ):
        module.find_nodes("12", 600)


def test_a_squeue_that_cannot_be_run(slurm: None, tmp_path: Path) -> None:
    """Another question does not help."""
    (tmp_path / "squeue").write_bytes(b"\x7fELF")
    with pytest.raises(HookError, match=r"where job 12 runs \(squeue\): give the hosts") as error:
        module.find_nodes("12", 600)
    assert not isinstance(error.value, module.NotYetError)


def test_without_slurm_the_words_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _locate("1234_5", None) == ("1234_5", HERE)
    assert _locate("1234_5", "node002") == ("1234_5", "node002")


@pytest.mark.parametrize(
    ("words", "number", "node"),
    [
        (["--job", "job1234_5"], "1239", "node004"),
        (["--job", "node007.job1234_5"], "1239", "node007"),
        (["--job", "job12"], "12", "node002"),
        (["--job", "node009.job999"], "999", "node009"),  # Slurm is not asked
    ],
)
def test_the_node_is_asked_for_the_number_that_its_cgroup_has(
    slurm: None, monkeypatch: pytest.MonkeyPatch, words: list[str], number: str, node: str
) -> None:
    asked: list[list[str]] = []

    def execute(_program: str, command: list[str]) -> None:
        asked.append(command)
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(os, "execvp", execute)
    parser = ArgumentParser()
    connect.add_arguments(parser)
    with pytest.raises(HookError, match=f"cannot run ssh to reach {node}"):
        connect.run(parser.parse_args(words), {})
    (command,) = asked
    assert command[command.index("--") + 1] == node
    assert command[-4:] == ["connect", "--job", number, HERE]


@pytest.fixture(name="srun")
def fixture_srun(slurm: None, tmp_path: Path) -> Iterator[Path]:
    """A command srun, which keeps its arguments, its variables and its session, and passes bytes; returns its place."""
    srun = tmp_path / "srun"
    srun.write_text(
        f"""#!/bin/sh
printf '%s\\n' "$@" >{tmp_path}/arguments
env >{tmp_path}/variables
cut -d' ' -f6 /proc/$$/stat >{tmp_path}/session
cat
exit "$(cat {tmp_path}/status)"
""",
        encoding="ascii",
    )
    srun.chmod(0o755)
    (tmp_path / "status").write_text("0", encoding="ascii")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


def by_srun(*words: str) -> int:
    parser = ArgumentParser()
    connect.add_arguments(parser)
    return connect.run(parser.parse_args(["--via", "srun", *words]), {})


def through(data: bytes, *words: str) -> bytes:
    """Return what comes back of `data` by this way, in a process of its own."""
    reader, writer = os.pipe()
    sent, source = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(sent, 0)
        os.dup2(writer, 1)
        for descriptor in (sent, source, reader, writer):
            os.close(descriptor)
        os._exit(by_srun(*words))
    os.close(writer)
    os.close(sent)
    with os.fdopen(source, "wb") as stream:
        stream.write(data)
    with os.fdopen(reader, "rb") as stream:
        received = stream.read()
    assert os.waitpid(pid, 0)[1] == 0
    return received


def test_a_step_of_the_job_leads_to_the_node(srun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("SLURM_LABELIO", "SLURM_JOB_ID", "SRUN_CPUS_PER_TASK", "_SLURM_SPANK_OPTION_pyxis_container_image")
    for name in ("SLURM_CONF", "OTHER", *options):
        monkeypatch.setenv(name, "1")
    data = bytes(range(256)) * 16
    assert through(data, "--job", "job1234_5.1") == data
    arguments = (srun / "arguments").read_text(encoding="ascii").splitlines()
    assert arguments[-7:] == ["--jobid=1239", "--nodelist=node004", launcher(), "connect", "--job", "1239.1", HERE]
    assert {"--overlap", "--nodes=1", "--ntasks=1", "--unbuffered"} < set(arguments[:-7])
    variables = {line.partition("=")[0] for line in (srun / "variables").read_text(encoding="utf-8").splitlines()}
    assert {name for name in variables if "SLURM" in name or name in (*options, "OTHER")} == {"SLURM_CONF", "OTHER"}
    assert int((srun / "session").read_text(encoding="ascii")) != os.getsid(0)


@pytest.mark.parametrize(("status", "result"), [(0, 0), (1, 1), (7, 1)])
def test_what_the_step_has_said_is_not_said_again(srun: Path, status: int, result: int) -> None:
    (srun / "status").write_text(str(status), encoding="ascii")
    assert by_srun("--job", "node003.job12") == result


def test_a_step_that_ends_before_its_time(srun: Path) -> None:
    (srun / "status").write_text("143", encoding="ascii")
    with pytest.raises(
        HookError, match=r"^the job step on node002 was killed, perhaps because job 12 has ended: see squeue"
    ):
        by_srun("--job", "12")


def test_a_step_takes_a_job(srun: Path) -> None:
    with pytest.raises(
        HookError, match=r"^--via srun reaches only containers of a job: give --job, or use ssh job1234$"
    ):
        by_srun("node002.container")
    assert not (srun / "arguments").exists()


@pytest.mark.parametrize("before", ["", "trap '' TERM; "])
def test_a_step_that_does_not_begin(srun: Path, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    """As where the scheduler does not answer: srun waits, and does not see that ssh has ended."""
    (srun / "srun").write_text(f"#!/bin/sh\n{before}exec sleep 600\n", encoding="ascii")
    monkeypatch.setattr(connect, "_STEP_START", 1.0)
    monkeypatch.setattr(connect, "_STEP_END", 0.2)
    with pytest.raises(HookError, match=r"^no step of job 12 started on node002 within 1 s: see squeue --jobs 12$"):
        by_srun("--job", "12")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_step_ends_where_nobody_reads(srun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_descriptor: int, _data: bytes) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(connect, "write_all", write)
    (srun / "srun").write_text("#!/bin/sh\nwhile echo y; do :; done\n", encoding="ascii")
    with pytest.raises(HookError, match=r"^the job step on node002 was killed"):
        by_srun("--job", "12")


def test_a_step_that_stays_where_nobody_reads(srun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "_STEP_END", 0.2)
    (srun / "srun").write_text("#!/bin/sh\nexec sleep 600 >&-\n", encoding="ascii")
    with pytest.raises(HookError, match=r"^the job step on node002 was killed"):
        by_srun("--job", "12")


@pytest.mark.parametrize("first", [b"y", b""], ids=["begun", "waiting"])
def test_a_step_that_is_silent_when_ssh_ends(srun: Path, first: bytes) -> None:
    """As where its node does not answer, or Slurm lets it wait."""
    (srun / "srun").write_text(f"#!/bin/sh\nprintf '%s' {first.decode()}\nexec sleep 600\n", encoding="ascii")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        connect._STEP_END = 0.2
        os.dup2(writer, 1)
        for descriptor in (reader, writer):
            os.close(descriptor)
        try:
            by_srun("--job", "12")
        except HookError as error:
            os._exit(7 if "the job step on node002 was killed" in str(error) else 8)
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, len(first)) == first
    os.close(reader)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_without_srun(srun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (srun / "srun").unlink()
    monkeypatch.setenv("PATH", str(srun))
    with pytest.raises(HookError, match=r"^cannot run srun to reach node002: No such file"):
        by_srun("--job", "12", "node002")


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """A daemon's port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture(autouse=True)
def prctl(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What is asked of the kernel for the process, and not done: it is pytest's."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(syscalls, "prctl", lambda *words: asked.append(words))
    return asked


def with_door(port: socket.socket, path: Path | str) -> Daemon:
    made = Daemon(11, 1000, [("", port.getsockname()[1])], 0)
    made.door = str(path)
    return made


def test_a_door_comes_before_the_port(
    port: socket.socket, tmp_path: Path, capfd: pytest.CaptureFixture[str], prctl: list[tuple[int, int]]
) -> None:
    path = tmp_path / "door"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with connect._open(with_door(port, path)) as peer:
            listener.accept()[0].close()
            assert peer.family == socket.AF_UNIX
    assert prctl == [(syscalls.PR_SET_DUMPABLE, 0)]
    assert capfd.readouterr().err == ""


def test_a_door_whose_queue_is_full_is_waited_for(port: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "door"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.settimeout(60)
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        accepting = threading.Timer(0.2, lambda: [listener.accept()[0].close() for _peer in range(2)])
        accepting.start()
        with connect._open(with_door(port, path)) as peer:
            assert peer.family == socket.AF_UNIX
        accepting.join()


@pytest.mark.parametrize("is_left", [False, True], ids=["gone", "left"])
def test_without_its_door_the_port_serves(
    port: socket.socket, tmp_path: Path, capfd: pytest.CaptureFixture[str], is_left: bool
) -> None:
    path = tmp_path / "door"
    if is_left:  # by a daemon that has ended: root's are removed later
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
    with connect._open(with_door(port, path)) as peer:
        assert peer.family == socket.AF_INET
    said = "the door of your container (a socket on the node) is gone: a logout or the end of a job removes it; "
    assert said in capfd.readouterr().err


def test_a_daemon_that_never_had_a_door_is_reached_in_silence(
    port: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    with connect._open(with_door(port, "")) as peer:
        assert peer.family == socket.AF_INET
    assert capfd.readouterr().err == ""


def test_without_door_and_port_there_is_no_way(tmp_path: Path) -> None:
    without = Daemon(11, 1000, [], 0)
    without.door = str(tmp_path / "missing")
    with pytest.raises(
        HookError,
        match=r"^the door of your container .* is gone: .*; the container has no port, so start it again, with a port",
    ):
        connect._open(without)
    without.door = ""  # as for root, who is not its user
    with pytest.raises(
        HookError,
        match=r"^the container has no port, and its door \(a socket on the node\) admits only its user: run this as",
    ):
        connect._open(without)
    with pytest.raises(HookError, match=r"choose one with --name NAME or PID in the ProxyCommand: 11 \(no port\); 12 "):
        choose([without, SECOND], None, None)


def test_container_that_comes_up_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--wait` searches again, but not for one of several, nor when the time is over."""
    found: list[list[Daemon]] = [[], [SECOND], [SECOND, FIRST]]
    monkeypatch.setattr(connect, "_WAIT_POLL", 0.0)
    monkeypatch.setattr(connect, "find_daemons", lambda: found.pop(0))
    assert connect._wait_for("12", None, 1000) is FIRST
    found = [[FIRST, THIRD]]
    with pytest.raises(HookError, match="2 containers of job 12 on"):
        connect._wait_for("12", None, 1000)
    found = [[], []]
    with pytest.raises(HookError, match="you have no container"):
        connect._wait_for("12", None, 0)


def test_no_wait_for_a_client_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "find_daemons", list)
    reader, writer = os.pipe()
    kept = os.dup(1)
    os.dup2(writer, 1)
    os.close(writer)
    os.close(reader)
    try:
        with pytest.raises(HookError, match="you have no container"):
            connect._wait_for("12", None, 3600)
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@pytest.mark.parametrize("text", ["", "-1", "x", "3601", "1.5", "99999"])
def test_seconds_to_wait_that_cannot_be(text: str) -> None:
    with pytest.raises(HookError, match=r"--wait is '.*': give seconds from 0 to 3600"):
        dispatch("connect", [f"--wait={text}"], {})


def test_the_node_waits_as_long() -> None:
    """And without --wait, a node with an earlier version is asked as before."""
    assert connect._wait_words(120) == ["--wait", "120"]
    assert connect._wait_words(0) == []
