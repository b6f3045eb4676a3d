"""`ssh_hook wait` on a node: peers that are there, come late, never come, or are something else."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path

import pytest
from cable import address, plug
from changes import of_bob
from containers import ALICE, BOB, LAUNCHER, PORT, SETTINGS, Container, Result, as_user, processes, run, wait_for
from kinds import separate
from patience import within
from starter import Start


def command(*arguments: str, env: tuple[str, ...] = ()) -> list[str]:
    return as_user(ALICE, *env, LAUNCHER, "wait", *arguments)


def wait(*arguments: str, env: tuple[str, ...] = ()) -> Result:
    return run(command(*arguments, env=env))


def refusal(result: Result) -> str:
    """The one line with which it failed."""
    assert (result.status, result.out) == (1, b"")
    line = result.err.decode()
    assert line.startswith("ssh_hook: error: ")
    assert line.count("\n") == 1
    return separate(line)[0]


def listen_on(start: Start, address: str) -> Container:
    return start("crun", "busybox", settings={"LISTEN_ADDRESSES": address})


def test_all_are_there(start: Start) -> None:
    containers = [listen_on(start, f"127.0.6.{number}") for number in (1, 2, 3)]
    started = time.monotonic()
    result = wait("127.0.6.[1-3]")
    assert (result.status, result.out, result.err) == (0, b"", b"")
    assert time.monotonic() - started < within(10)
    for number, container in enumerate(containers, 1):
        assert container.ssh("echo here", host=f"127.0.6.{number}").text == "here", "the probe did no harm"


def test_a_container_that_lets_nobody_in(start: Start) -> None:
    """wait logs in as users do: the right host key is not enough."""
    container = listen_on(start, "127.0.6.1")
    container.path("/home/alice/.ssh/authorized_keys").write_bytes(b"")
    assert "127.0.6.1 (it does not let alice log in)" in refusal(wait("--timeout", str(ceil(within(4))), "127.0.6.1"))


def test_peers_that_come_late(start: Start) -> None:
    listen_on(start, "127.0.6.1")
    with subprocess.Popen(command("--timeout", "60", "127.0.6.[1-3]"), stderr=subprocess.PIPE) as waiting:
        for number in (2, 3):
            time.sleep(0.7)
            assert waiting.poll() is None, "it waits for all"
            listen_on(start, f"127.0.6.{number}")
        came = time.monotonic()
        assert waiting.wait(within(10)) == 0
        assert time.monotonic() - came < 2 + within(5), "the longest delay between two attempts is 2 s"
        assert waiting.stderr is not None
        assert waiting.stderr.read() == b""


def test_each_that_does_not_answer_is_named_with_its_reason(start: Start, silent: str, swallowed: str) -> None:
    listen_on(start, "127.0.6.1")
    started = time.monotonic()
    result = wait("--timeout", "6", "127.0.6.[1-3]", silent, swallowed, "no-such-host.invalid")
    assert 6 <= time.monotonic() - started < 5 + within(4.5), "attempts that begin after 5 s are cut short"
    line = refusal(result)
    assert line.startswith(f"ssh_hook: error: 5 of 6 hosts do not answer on port {PORT} after 6 s: ")
    assert "127.0.6.2, 127.0.6.3 (connection refused)" in line
    assert f"{swallowed} (no answer)" in line
    assert "no-such-host.invalid (not resolved: " in line
    assert "127.0.6.1" not in line


def test_one_that_accepts_and_says_nothing(silent: str) -> None:
    assert f"{silent} (connected, but it is not an SSH server)" in refusal(wait("--timeout", "6", silent))


def test_resolver_that_does_not_answer(tmp_path: Path) -> None:
    """Nothing interrupts the C library there; the time is kept all the same."""
    configuration = tmp_path / "resolv.conf"
    configuration.write_text("nameserver 127.0.0.153\n", encoding="ascii")
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.153", 53))
        started = time.monotonic()
        asked = command("--timeout", "2", "some-host.example")
        line = refusal(run(["unshare", "--mount", "sh", "-c", script, configuration, *asked]))
        assert 2 <= time.monotonic() - started < 2 + within(5), "the C library gives up after 10 s"
        server.settimeout(0)
        assert b"some-host" in server.recv(1000)
    assert line.endswith(" after 2 s: some-host.example (no answer)")


def test_hundreds_of_hosts(start: Start) -> None:
    start("crun", "busybox")
    started = time.monotonic()
    assert wait("--timeout", str(ceil(within(50))), "127.0.[1-4].[1-200]").status == 0
    assert time.monotonic() - started < within(45)


def test_many_dead_hosts_are_cut_and_cost_little() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ceil(within(4))
    line = refusal(wait("--timeout", str(seconds), "127.0.[1-4].[1-100]"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert " 400 of 400 hosts do not answer " in line
    assert line.endswith(" and 392 more (connection refused)")
    assert len(line) < 300
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.625 * seconds


def test_user_with_few_processes_left(start: Start) -> None:
    start("crun", "busybox", change=of_bob)
    # The kernel counts a user's processes in all beds, but for each user namespace by itself.
    alone = ["unshare", "--user", "--map-users=0:0:65536", "--map-groups=0:0:65536"]

    def limited(processes: int) -> Result:
        return run(alone + as_user(BOB, "prlimit", f"--nproc={processes}", LAUNCHER, "wait", "127.0.1.[1-50]"))

    assert limited(16).checked().err == b""
    assert "the user's limit of processes is reached (ulimit -u)" in refusal(limited(1))


def test_containers_of_another_user(start: Start) -> None:
    """They do not count as there, and nothing of the user's is told to them."""
    start("crun", "busybox", change=of_bob)
    line = refusal(wait("--timeout", str(ceil(within(4))), "127.0.6.[1-3]"))
    assert line.endswith(
        "127.0.6.1, 127.0.6.2, 127.0.6.3 (not your container, or one that started before your keys changed)"
    )


def test_it_comes_after_another_users(start: Start) -> None:
    bobs = start("crun", "busybox", change=of_bob)
    with subprocess.Popen(command("--timeout", "60", "127.0.6.1")) as waiting:
        time.sleep(1)
        assert waiting.poll() is None
        bobs.stop().checked()
        start("crun", "busybox")
        assert waiting.wait(within(12)) == 0


@contextmanager
def serving(address: str, answer: bytes, hangs_up: bool) -> Iterator[None]:
    """Have a server on the port of containers send `answer` to each client, and then hang up, or say nothing more."""
    clients: list[socket.socket] = []

    def serve(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                clients.append(server.accept()[0])
                clients[-1].sendall(answer)
                if hangs_up:
                    clients.pop().close()

    with socket.create_server((address, PORT)) as server:
        thread = threading.Thread(target=serve, args=[server])
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    for client in clients:
        client.close()


def test_server_that_sends_the_words_of_ssh() -> None:
    """It ends each connection with those that ssh has for a login that is not permitted."""
    address = "127.0.7.2"
    text = f"x\nwait@{address}: Permission denied (publickey).".encode()
    payload = b"\1" + (2).to_bytes(4, "big") + len(text).to_bytes(4, "big") + text + bytes(4)  # SSH_MSG_DISCONNECT
    padding = 12 - (len(payload) + 1) % 8
    packet = (1 + len(payload) + padding).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)
    with serving(address, b"SSH-2.0-liar\r\n" + packet, hangs_up=True):
        line = refusal(wait("--timeout", str(ceil(within(4))), address))
    assert line.endswith(f"{address} (connected, but the connection ended before ssh could check the host key)")


def test_user_of_a_directory_service(start: Start) -> None:
    """No entry of theirs is in the node's /etc/passwd."""
    start("crun", "busybox")
    hidden = 'grep -v ^alice: /etc/passwd >/run/passwd && mount --bind /run/passwd /etc/passwd && exec "$@"'
    asked = command("127.0.0.1")
    assert run(["unshare", "--mount", "sh", "-c", hidden, "sh", *asked]).checked().err == b""


def test_clients_end_with_it(start: Start) -> None:
    """The server greets them and says nothing more."""
    address = "127.0.7.3"
    with serving(address, b"SSH-2.0-silent\r\n", hangs_up=False):
        refusal(wait("--timeout", "2", address))
        wait_for(lambda: not processes(), "end of the clients", 3)


def test_user_without_keys() -> None:
    line = refusal(run(as_user(ALICE + 1000, LAUNCHER, "wait", "127.0.6.1")))
    assert line == f"ssh_hook: error: no user with uid {ALICE + 1000} in PASSWD_FILE {SETTINGS['PASSWD_FILE']}: " + (
        "ask the administrator to refresh it"
    )


def test_hosts_of_slurm_and_of_a_file(start: Start, tmp_path: Path) -> None:
    start("crun", "busybox")
    slurm = "SLURM_JOB_NODELIST=127.0.0.[1-3],localhost"
    assert wait(env=(slurm,)).checked().err == b""
    assert "127.0.0.1" in refusal(wait("--port", str(PORT + 1), "--timeout", "1", env=(slurm,)))
    file = tmp_path / "hosts"
    file.write_text("# nodes\n127.0.0.1 slots=4\n127.0.0.2:4\n", encoding="ascii")
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    assert wait("--hostfile", str(file)).checked().err == b""
    refusal(wait("--port", str(PORT + 1), "--timeout", "1", "--hostfile", str(file)))


def test_containers_in_networks_of_their_own(start: Start) -> None:
    """Each on a cable of its own to the node; the last one is plugged in while the wait is on."""
    containers = [start("crun", "busybox", network="private") for number in range(3)]
    first, second, third = [address(number) for number in range(3)]
    plug(containers[0].init(), 0)
    plug(containers[1].init(), 1)
    assert wait(first, second).status == 0
    with subprocess.Popen(command("--timeout", "60", first, second, third)) as waiting:
        time.sleep(1)
        assert waiting.poll() is None
        plug(containers[2].init(), 2)
        assert waiting.wait(within(12)) == 0


def test_interrupted_it_ends_at_once_and_says_nothing() -> None:
    with (
        socket.create_server(("127.0.6.9", PORT)) as server,
        subprocess.Popen(command("127.0.6.9"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as waiting,
    ):
        server.settimeout(within(10))
        with server.accept()[0]:
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(within(4)) == -signal.SIGINT, "the attempt takes 5 s, the wait 60 s"
        assert waiting.stdout is not None
        assert waiting.stdout.read() == b""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no hosts: give them"),
        (["--", "-oProxyCommand=touch /tmp/x"], "not the name or address of a host"),
        (["a\nb"], "not the name or address of a host"),
        (["n[1-99999999]"], "more than 65536 hosts"),
        (["--timeout", "soon", "a"], "--timeout is 'soon'"),
        (["--port", "0", "a"], "--port is '0'"),
        (["--hostfile", "/root/secret"], "cannot read --hostfile /root/secret: Permission denied"),
        (["--fast", "a"], "unrecognized arguments: --fast: see 'ssh_hook wait --help'"),
    ],
)
def test_bad_calls(arguments: list[str], words: str) -> None:
    assert words in refusal(wait(*arguments))


def test_what_was_found_does_not_depend_on_the_callers_directory(tmp_path: Path) -> None:
    """Python modules of the caller's are not imported."""
    (tmp_path / "queue.py").write_text("raise SystemExit('imported')\n", encoding="ascii")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = run([LAUNCHER, "wait", "--timeout", str(ceil(within(4))), "127.0.6.9"], env=environment, cwd=tmp_path)
    assert "connection refused" in refusal(result)
