"""The containers of a job of many hosts: host files, and ``first``. The hosts are addresses of the node's loopback."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import paramiko
import pytest
from containers import ALICE, ENGINES, LAUNCHER, PORT, Plain, Result, as_user, plain_create, run, running, wait_for
from hook_log import Syslog
from patience import within
from refusals import assert_refused
from starter import Start

HOSTS = "com.hooks.ssh.hosts"
FIRST = "/opt/oci-hooks/ssh/bin/first"
STATE = "/opt/oci-hooks/ssh/first"
FILES = {
    "/opt/oci-hooks/ssh/hostfile": "127.0.6.1 slots=4\n127.0.6.2 slots=4\n127.0.6.3 slots=1",
    "/opt/oci-hooks/ssh/hostfile.mpich": "127.0.6.1:4\n127.0.6.2:4\n127.0.6.3:1",
    "/opt/oci-hooks/ssh/hosts": "127.0.6.1\n127.0.6.2\n127.0.6.3",
    "/job/hostfile": "127.0.6.1 slots=4\n127.0.6.2 slots=4\n127.0.6.3 slots=1",
}


@pytest.mark.parametrize("image", ["busybox", "debian"])
@pytest.mark.parametrize("engine", ENGINES)
def test_host_files(start: Start, engine: str, image: str) -> None:
    container = start(engine, image, annotations={HOSTS: "127.0.6.1+1:4,127.0.6.3"})
    for path, content in FILES.items():
        assert container.exec("cat", path).checked().text == content
        assert container.ssh(f"cat {path}").checked().text == content
    writes = container.ssh("echo x >>/opt/oci-hooks/ssh/hosts").status == 0
    assert writes is (engine == "rootless")  # there the user is the container's root


def test_host_files_from_slurms_notation(start: Start) -> None:
    container = start("crun", "busybox", annotations={HOSTS: "nid[001-002,007]:4"})
    assert container.exec("cat", "/opt/oci-hooks/ssh/hostfile.mpich").checked().text == "nid001:4\nnid002:4\nnid007:4"


def test_no_host_files_without_the_annotation(start: Start) -> None:
    container = start("crun", "busybox")
    assert container.exec("ls", "/opt/oci-hooks/ssh").checked().text.split() == [
        *("bin", "dropbear", "etc", "id_openssh", "known_hosts", "overlay", "ssh_config")
    ]
    assert container.exec("test", "-e", "/job").status == 1


def test_known_hosts_for_clients_without_patterns(start: Start, tmp_path: Path) -> None:
    """paramiko logs in with the container's own files, at each of its hosts and at no other."""
    listen = {"LISTEN_ADDRESSES": "127.0.6.1"}
    container = start("crun", "busybox", settings=listen, annotations={HOSTS: "n1+200,127.0.6.1"})
    known, key = tmp_path / "known_hosts", tmp_path / "key"
    known.write_bytes(container.exec("cat", "/opt/oci-hooks/ssh/known_hosts").checked().out)
    key.write_bytes(container.exec("cat", "/opt/oci-hooks/ssh/id_openssh").checked().out)
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(known))
        client.connect("127.0.6.1", PORT, "alice", key_filename=str(key), allow_agent=False, look_for_keys=False)
        assert client.exec_command("id -u")[1].read() == b"2001\n"
        assert client.get_host_keys().lookup(f"[n201]:{PORT}") is not None
        assert client.get_host_keys().lookup(f"[n202]:{PORT}") is None
    assert max(map(len, known.read_text(encoding="ascii").splitlines())) < 16384


def of_image(rootfs: Path) -> None:
    (rootfs / "job").mkdir()
    (rootfs / "job/hostfile").write_text("own slots=1\n", encoding="ascii")


def read_only(config: dict[str, Any]) -> None:
    config["root"]["readonly"] = True


def a_link(rootfs: Path) -> None:
    (rootfs / "job").symlink_to("/nowhere/else")


def a_file(rootfs: Path) -> None:
    (rootfs / "job").write_bytes(b"")


def test_file_of_deepspeed_that_the_image_has(start: Start) -> None:
    container = start("crun", "busybox", annotations={HOSTS: "a,b"}, prepare=of_image)
    assert container.exec("cat", "/job/hostfile").checked().text == "own slots=1"


@pytest.mark.parametrize(("prepare", "there"), [(a_link, "/nowhere/else"), (a_file, "regular empty file")])
def test_file_of_deepspeed_that_cannot_be(start: Start, prepare: Callable[[Path], None], there: str) -> None:
    """The container starts without, and has what its image has."""
    container = start("crun", "busybox", annotations={HOSTS: "a,b"}, prepare=prepare)
    assert container.exec("cat", "/opt/oci-hooks/ssh/hosts").checked().text == "a\nb"
    look = "for path in /job /nowhere; do readlink $path || stat -c %F $path; done"
    assert container.exec("sh", "-c", look).text == there


def test_file_of_deepspeed_on_a_volume(start: Start, tmp_path: Path) -> None:
    """Root makes nothing there."""
    (tmp_path / "job").mkdir(mode=0o755)

    def volume(config: dict[str, Any]) -> None:
        options = ["rbind", "rprivate"]
        config["mounts"].append(
            {"destination": "/job", "type": "bind", "source": f"{tmp_path}/job", "options": options}
        )

    container = start("crun", "busybox", annotations={HOSTS: "a,b"}, change=volume)
    assert container.exec("ls", "/job").checked().text == ""
    assert list((tmp_path / "job").iterdir()) == []


def test_as_many_hosts_as_may_be(start: Start) -> None:
    container = start("crun", "busybox", annotations={HOSTS: "n00001+16383:65535"})
    assert container.exec("wc", "-l", "/opt/oci-hooks/ssh/hostfile").checked().text.split()[0] == "16384"
    assert container.exec("tail", "-n1", "/opt/oci-hooks/ssh/hostfile.mpich").checked().text == "n16384:65535"
    assert container.ssh("true").checked().status == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_many_hosts_whose_names_have_several_numbers(start: Start, engine: str) -> None:
    """16 cabinets of HPE's, 4096 nodes, whose names need one entry for two of them."""
    places = list(itertools.product(range(16), range(8), range(8), range(2), range(2)))
    names = [f"x{1000 + x}c{c}s{s}b{b}n{n}" for x, c, s, b, n in places]
    listed = ",".join(name + "+1:8" for name in names[::2])
    assert len(listed) > 36000
    container = start(engine, "busybox", annotations={HOSTS: listed})
    assert container.exec("cat", "/opt/oci-hooks/ssh/hostfile").checked().text.splitlines() == [
        f"{name} slots=8" for name in names
    ]
    assert container.ssh("wc -l </opt/oci-hooks/ssh/hosts").checked().text == "4096"


@pytest.mark.parametrize(
    "value",
    [
        *("", ",", "a,", "a,,b", "a b", "-oProxyCommand=x", "a//b", "*", "a[1-3", "a;b", "\u00e4", "a\nb", ".", "::1"),
        *("a:0", "a:", "a:65536", "a:1:2", "a+", "a+0", "a+x", "a+1", "n1+16384", "n1,n1", "n1+2,n2", "n" * 254),
        ",".join(f"node{number}-ib" for number in range(16000)),
    ],
    ids=lambda value: value[:12],
)
def test_lists_that_are_refused(start: Start, syslog: Syslog, value: str) -> None:
    message = assert_refused(start, syslog, "crun", HOSTS, image="busybox", annotations={HOSTS: value})
    assert len(message) < 400


USERS_OWN = dict.fromkeys(("host", "name", "status", "ssh", "count"), "mine")  # variables, as a shell may name its own


class Job:
    """Containers of one job, whose program is ``first``: one on each host, started by crun in the foreground."""

    def __init__(self, tmp_path: Path) -> None:
        self._directory = tmp_path
        self.containers: dict[str, Plain] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self,
        address: str,
        *command: str,
        hosts: str = "127.0.6.1+2",
        wait: int = 10,
        image: str = "busybox",
        runtime: str = "crun",
    ) -> None:
        """Start the container on the host `address`."""

        def change(config: dict[str, Any]) -> None:
            config["process"]["args"] = [FIRST, *command]

        container = plain_create(
            runtime,
            image,
            change=change,
            settings={"LISTEN_ADDRESSES": address},
            annotations={HOSTS: hosts, "com.hooks.ssh.wait": str(wait)},
            env={"WHERE": address, **USERS_OWN},
        )
        self.containers[address] = container
        with (
            (self._directory / f"{address}.out").open("wb") as out,
            (self._directory / f"{address}.err").open("wb") as err,
        ):
            self.processes[address] = subprocess.Popen(
                [runtime, "run", "--bundle", str(container.directory), container.name],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
            )

    def start_all(self, *command: str, **options: Any) -> None:
        for number in (1, 2, 3):
            self.start(f"127.0.6.{number}", *command, **options)

    def statuses(self, seconds: float = 20) -> list[int]:
        """Wait for the end of all containers; their exit statuses."""
        deadline = time.monotonic() + within(seconds)
        return [process.wait(max(0.1, deadline - time.monotonic())) for process in self.processes.values()]

    def out(self, address: str) -> str:
        return (self._directory / f"{address}.out").read_text(encoding="utf-8")

    def err(self, address: str) -> str:
        return (self._directory / f"{address}.err").read_text(encoding="utf-8")

    def end(self) -> None:
        for address, process in self.processes.items():
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
            self.containers[address].remove()


@pytest.fixture
def job(tmp_path: Path, nothing_left: None) -> Iterator[Job]:
    job = Job(tmp_path)
    yield job
    job.end()


LAUNCHER_LIKE = (
    "sh",
    "-c",
    'while read -r host; do ssh -n "$host" "echo from \\$WHERE"; done </opt/oci-hooks/ssh/hosts; exit "$1"',
    "sh",
)


@pytest.mark.parametrize("image", ["busybox", "debian"])
@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize("status", [0, 42])
def test_the_command_runs_on_the_first_host_and_all_end_with_it(
    job: Job, runtime: str, image: str, status: int
) -> None:
    job.start_all(*LAUNCHER_LIKE, str(status), runtime=runtime, image=image)
    assert job.statuses() == [status] * 3
    assert job.out("127.0.6.1") == "from 127.0.6.1\nfrom 127.0.6.2\nfrom 127.0.6.3\n"
    assert job.out("127.0.6.2") == job.out("127.0.6.3") == ""
    assert [job.err(f"127.0.6.{number}") for number in (1, 2, 3)] == ["", "", ""]


def test_the_others_come_first(job: Job) -> None:
    for number in (3, 2):
        job.start(f"127.0.6.{number}", *LAUNCHER_LIKE, "7")
    time.sleep(1)
    assert [process.poll() for process in job.processes.values()] == [None, None]
    job.start("127.0.6.1", *LAUNCHER_LIKE, "7")
    assert job.statuses() == [7] * 3


def test_the_others_come_late(job: Job) -> None:
    job.start("127.0.6.1", *LAUNCHER_LIKE, "0")
    time.sleep(1)
    assert job.out("127.0.6.1") == ""
    for number in (3, 2):
        job.start(f"127.0.6.{number}", *LAUNCHER_LIKE, "0")
    assert job.statuses() == [0] * 3
    assert job.out("127.0.6.1") == "from 127.0.6.1\nfrom 127.0.6.2\nfrom 127.0.6.3\n"


def test_one_host(job: Job) -> None:
    job.start("127.0.6.1", *LAUNCHER_LIKE, "5", hosts="127.0.6.1:8")
    assert job.statuses() == [5]
    assert job.out("127.0.6.1") == "from 127.0.6.1\n"


@pytest.mark.parametrize("image", ["busybox", "debian"])
def test_variables_of_the_user_reach_the_command(job: Job, image: str) -> None:
    """A shell runs it, which exports its own variables where the user has exported some of that name."""
    job.start("127.0.6.1", "sh", "-c", "echo $host $name $status $ssh $count", hosts="127.0.6.1:8", image=image)
    assert job.statuses() == [0]
    assert job.out("127.0.6.1").split() == list(USERS_OWN.values())


def test_one_that_does_not_come_ends_all_and_is_named(job: Job) -> None:
    seconds = ceil(within(5))
    for number in (1, 2):
        job.start(f"127.0.6.{number}", *LAUNCHER_LIKE, "0", wait=seconds)
    started = time.monotonic()
    assert job.statuses(seconds + 20) == [1, 1]
    assert time.monotonic() - started < seconds + within(15)
    assert job.out("127.0.6.1") == ""
    assert "first: no container of this job answers on 127.0.6.3\n" in job.err("127.0.6.1")
    assert job.err("127.0.6.2") == ""


def test_the_first_does_not_come(job: Job) -> None:
    for number in (2, 3):
        job.start(f"127.0.6.{number}", *LAUNCHER_LIKE, "0", wait=1)
    assert job.statuses() == [255, 255]
    for number in (2, 3):
        assert job.err(f"127.0.6.{number}").endswith(
            "first: no container of this job answers on 127.0.6.1, the first of its hosts\n"
        )


def test_the_first_is_killed(job: Job) -> None:
    job.start_all("sleep", "1000")
    wait_for(lambda: running("sleep", "1000"), "start of the command")
    answers = [job.containers[f"127.0.6.{number}"].path(f"{STATE}/answer") for number in (2, 3)]
    wait_for(lambda: {path.read_bytes() for path in answers} == {b"following\n"}, "sessions of the others")
    job.containers["127.0.6.1"].runtime("kill", job.containers["127.0.6.1"].name, "KILL").checked()
    assert job.statuses(15) == [137, 255, 255]
    for number in (2, 3):
        assert job.err(f"127.0.6.{number}").endswith(
            "first: the container on 127.0.6.1, which runs the command, has ended or is out of reach\n"
        )


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_ends_all(job: Job, name: str) -> None:
    job.start_all("sh", "-c", "trap 'echo ending; exit 9' TERM; echo begun; while :; do sleep 0.1; done")
    wait_for(lambda: job.out("127.0.6.1") == "begun\n", "start of the command")
    time.sleep(0.5)
    job.containers["127.0.6.1"].runtime("kill", job.containers["127.0.6.1"].name, name).checked()
    assert job.statuses(8) == [9, 9, 9]
    assert job.out("127.0.6.1") == "begun\nending\n"


def test_a_signal_ends_one_of_the_others(job: Job) -> None:
    job.start_all("sh", "-c", "echo begun; until [ -e /tmp/end ]; do sleep 0.1; done")
    wait_for(lambda: job.out("127.0.6.1") == "begun\n", "start of the command")
    answer = job.containers["127.0.6.2"].path(f"{STATE}/answer")
    wait_for(lambda: answer.read_bytes() == b"following\n", "the session of the other")
    job.containers["127.0.6.2"].runtime("kill", job.containers["127.0.6.2"].name, "TERM").checked()
    assert job.processes["127.0.6.2"].wait(within(10)) != 0
    job.containers["127.0.6.1"].path("/tmp/end").touch()
    assert job.statuses()[::2] == [0, 0]


def test_connections_that_a_launcher_leaves_behind(job: Job) -> None:
    """They end by themselves, before the containers do: no error of theirs follows the launcher's last line."""
    launcher = """
        mkfifo /tmp/said && exec 3<>/tmp/said
        ssh -n 127.0.6.2 "echo in; sleep 0.5; echo last >&2" 3<&- >/tmp/said &
        read -r _ <&3 # however long the login takes, the launcher ends in the middle of the session
        exit 3
    """
    job.start_all("sh", "-c", launcher)
    assert job.statuses() == [3] * 3
    assert job.err("127.0.6.1") == "last\n"
    assert [job.err(f"127.0.6.{number}") for number in (2, 3)] == ["", ""]


def test_a_connection_that_does_not_end_is_not_waited_for_long(job: Job) -> None:
    job.start_all("sh", "-c", 'ssh -n 127.0.6.2 "sleep 1000" & sleep 0.5; exit 3')
    assert job.statuses() == [3] * 3


def test_standard_input_and_arguments(job: Job) -> None:
    job.start("127.0.6.1", "sh", "-c", 'cat; printf "<%s>" "$@"', "sh", "a  b", "*", "", "'", hosts="127.0.6.1")
    process = job.processes["127.0.6.1"]
    assert process.stdin is not None
    process.stdin.write(b"in\n")
    process.stdin.close()
    assert job.statuses() == [0]
    assert job.out("127.0.6.1") == "in\n<a  b><*><><'>"


@pytest.mark.parametrize(("command", "status"), [((), 2), (("no-such-program",), 127)])
def test_bad_commands(job: Job, command: tuple[str, ...], status: int) -> None:
    job.start("127.0.6.1", *command, hosts="127.0.6.1")
    assert job.statuses() == [status]
    assert job.err("127.0.6.1") != ""


def options(*arguments: str, env: tuple[str, ...] = (), uid: int = ALICE) -> Result:
    return run(as_user(uid, "env", *env, LAUNCHER, "options", *arguments))


SLURM = ("SLURM_JOB_ID=777", "SLURM_JOB_NODELIST=127.0.0.1", "SLURM_TASKS_PER_NODE=3")


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "rootless"])
def test_whole_jobs_with_what_options_prints(start: Start, engine: str) -> None:
    """As in a job script: what the shell makes of an unquoted $(ssh_hook options). The job has two sets."""
    containers = []
    for number, port in ((1, 20777), (2, 21880)):
        line = f"printf '%s\\n' $({LAUNCHER} options --set {number})"
        words = run(as_user(ALICE, "env", *SLURM, "sh", "-c", line)).checked().text.splitlines()
        assert not [word for word in words if set(" \t\"'\\*?[]{}~") & set(word)]
        words.remove("--network=host")
        words.remove("--annotation=com.hooks.ssh.enabled=true")
        container = start(engine, "busybox", options=words, command=("sleep", "1000"))
        assert container.exec("cat", "/opt/oci-hooks/ssh/hostfile").checked().text == "127.0.0.1 slots=3"
        assert container.ssh("echo $PDSH_RCMD_TYPE $SSH_CONNECTION").checked().text.endswith(f" {port}")
        containers.append(container)


def test_podman_runs_first(start: Start) -> None:
    words = options("--hosts", "127.0.0.1:2").checked().text.split()
    command = ["podman", "run", "--rm", "--user", f"{ALICE}:{ALICE}", "--env=HOME=/", *words]
    result = run([*command, "localhost/ssh-test/busybox", FIRST, "sh", "-c", "cat $HYDRA_HOST_FILE; exit 3"])
    assert (result.status, result.text) == (3, "127.0.0.1:2"), result


def test_a_port_that_is_taken_names_the_next(start: Start, syslog: Syslog) -> None:
    start("crun", "busybox")
    message = assert_refused(start, syslog, "crun", f"port {PORT} is in use", image="busybox")
    assert "choose another with the annotation com.hooks.ssh.port or --port of 'ssh_hook options'" in message
    assert f", such as {PORT + 1}, which is free here, or stop the process that uses it" in message


def test_options_for_docker_names_the_user() -> None:
    words = options("--engine", "docker", "--hosts", "a").checked().text.split()
    assert words[:4] == [
        "--network=host",
        "--device=ocihooks.org/ssh=on",
        f"--user={ALICE}:{ALICE}",
        "--annotation=com.hooks.ssh.user=alice",
    ]
