"""Whoever reaches the port opens connections without end and never logs in: the daemon, the job and the owner go on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import attached
import flood
import openssh
import paramiko
import pytest
from changes import bind, with_resources
from containers import PORT, assert_alive, children, keys, roots_doors, wait_for
from flooded import ADDRESSES, EACH, KINDS, OTHER, flooded, flooded_door, launch, log_in
from hook_log import Syslog
from patience import within
from starter import Start

Change = Callable[[dict[str, Any]], None]

MEBIBYTE = 1 << 20
SECONDS = 3.0  # of logins in each flood; `make soak` takes 60
HUNDREDS = tuple(f"127.0.{number // 250 + 1}.{number % 250 + 1}" for number in range(1000))
LOCALOPTIONS = Path(__file__).parents[2] / "roles/dropbear/files/localoptions.h"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path_factory.mktemp("keys") / "id")


def option(name: str) -> int:
    """What Dropbear is built with."""
    text = LOCALOPTIONS.read_text(encoding="utf-8")
    return int(re.findall(rf"^#define {name} ([0-9]+)$", text, re.MULTILINE)[0])


def with_descriptors(limit: int) -> Change:
    def change(config: dict[str, Any]) -> None:
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": limit, "hard": limit}]

    return change


@pytest.mark.parametrize("descriptors", [1024, 4096])
def test_daemon_outlives_more_connections_than_it_can_hold(start: Start, descriptors: int) -> None:
    """By its own limit, and by that of select(2)."""
    container = start("runc", "busybox", change=with_descriptors(descriptors))
    daemon = container.daemon()
    with flooded("silent", each=512, addresses=("127.0.0.2", "127.0.0.3")):
        assert_alive(container, daemon)
    assert_alive(container, daemon)


@pytest.mark.parametrize("kind", KINDS)
def test_owner_logs_in(start: Start, key: Path, kind: str) -> None:
    """From an address that floods, too; and so does a launcher on another, with all of its sessions at once."""
    container = start("crun", "busybox")
    daemon = container.daemon()
    with flooded(kind):
        log_in(key, SECONDS)
        launch(container, key)
    assert_alive(container, daemon)


@pytest.mark.parametrize("limits", [{}, {"memory": {"limit": 48 * MEBIBYTE}}], ids=["", "48m"])
@pytest.mark.parametrize("kind", [*KINDS, "hasty"])
def test_owner_logs_in_where_queues_are_full(start: Start, key: Path, kind: str, limits: dict[str, Any]) -> None:
    """More connections than the daemon and the kernel have places for, which are renewed as fast as they can be."""
    container = start("crun", "busybox", change=with_resources(**limits))
    daemon = container.daemon()
    with flooded(kind, each=1024):
        log_in(key, SECONDS, OTHER)
        if kind in ("silent", "hasty"):  # the owner's connection can be told from these
            log_in(key, SECONDS, ADDRESSES[0])
    assert_alive(container, daemon)


def listen_overflows() -> int:
    """How many connections the kernel has refused on this network because the queue of a listening socket was full."""
    lines = Path("/proc/net/netstat").read_text(encoding="ascii").splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt: "))
    return int(values[names.index("ListenOverflows")])


@pytest.mark.parametrize(
    ("kind", "addresses", "each", "limits"),
    [
        ("silent", 8, 160, {}),  # few more than there are places
        ("silent", 64, 25, {"pids": {"limit": 64}}),
        ("partial", 8, 200, {}),
        ("partial", 8, 200, {"pids": {"limit": 64}}),
        ("exchanged", 64, 25, {}),
        ("exchanged", 64, 25, {"pids": {"limit": 64}}),
        ("exchanged", 1, 100, {"pids": {"limit": 64}}),  # few wait in the kernel's queue
        ("exchanged", 64, 1, {"pids": {"limit": 43}}),  # 16 processes
    ],
)
def test_a_login_from_elsewhere_takes_three_seconds_at_most(
    start: Start, key: Path, kind: str, addresses: int, each: int, limits: dict[str, Any]
) -> None:
    """None of its packets is lost: the client would send it again only after a second, and then after three."""
    before = listen_overflows()
    container = start("crun", "busybox", change=with_resources(**limits))
    daemon = container.daemon()
    with flooded(kind, each=each, addresses=HUNDREDS[:addresses]):
        took = log_in(key, SECONDS, OTHER)
        assert max(took) <= within(3), took
    assert listen_overflows() == before
    assert_alive(container, daemon)


def test_a_second_login_during_a_flood(start: Start, key: Path) -> None:
    """A minute later, when each address of the flood has been served several times: that is not forgotten."""
    container = start("crun", "busybox", change=with_resources(pids={"limit": 43}))
    daemon = container.daemon()
    with flooded("exchanged", each=1, addresses=HUNDREDS[:64]):
        log_in(key, SECONDS, OTHER)
        time.sleep(option("AUTH_TIMEOUT"))
        took = log_in(key, SECONDS, OTHER)
        assert max(took) <= within(3), took
    assert_alive(container, daemon)


@contextmanager
def stopped(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def come_and_go(clients: int) -> None:
    for _client in range(clients):
        with socket.create_connection(("127.0.0.1", PORT)) as connection:
            connection.sendall(flood.VERSION)


def test_clients_who_have_left_take_no_place(start: Start) -> None:
    """Not even of the address that they came from. They come while the daemon has no processor, as on a busy node."""
    container = start("crun", "busybox", change=with_resources(memory={"limit": 48 * MEBIBYTE}))
    daemon = container.daemon()
    with stopped(server(daemon)):
        come_and_go(100)
        owner = socket.create_connection(("127.0.0.1", PORT))
        owner.sendall(flood.VERSION)
        come_and_go(800)  # more than half of the kernel's queue: the daemon accepts them all
    with owner:
        wait_for(lambda: without_login(daemon) == (9, 1), "the owner's process")  # there are 96 places
        assert is_open(owner)


def got_key_exchange(connection: socket.socket) -> bool:
    """Whether the server sends more than its version."""
    connection.settimeout(within(10))
    received = 0
    with suppress(OSError):
        while received < 256 and (data := connection.recv(256)):
            received += len(data)
    return received >= 256


def test_who_came_first_is_served_first(start: Start) -> None:
    """All from one address, at the same time for the daemon."""
    container = start("crun", "busybox", change=with_resources(memory={"limit": 48 * MEBIBYTE}))
    daemon = container.daemon()
    with ExitStack() as clients:
        with stopped(server(daemon)):
            connections = [
                clients.enter_context(socket.create_connection(("127.0.0.1", PORT))) for _client in range(800)
            ]
            for connection in connections:
                connection.sendall(flood.VERSION)
        # From their processes: of the nine, an eighth is for other addresses
        assert all(map(got_key_exchange, connections[:8]))
    assert without_login(daemon)[0] == 9


@pytest.mark.parametrize(("kind", "each"), [*((kind, EACH) for kind in KINDS), ("hasty", 1024)])
def test_a_flood_of_the_door_takes_no_place_of_the_port(start: Start, key: Path, kind: str, each: int) -> None:
    """All who come by the door are as one address. Where there are places for all of them the user comes there, too."""
    container = start("crun", "busybox")
    daemon = container.daemon()
    (door,) = roots_doors()
    listener = server(daemon)
    before = descriptors(listener)
    with flooded_door(kind, door, each):
        assert kind == "hasty" or descriptors(listener) >= before + EACH // 2
        log_in(key, SECONDS, OTHER)
        if each == EACH:
            log_in(key, SECONDS, options=openssh.BY_DOOR)
    assert_alive(container, daemon)


@pytest.mark.parametrize("kind", [*KINDS, "hasty"])
def test_a_flood_of_the_port_takes_no_place_of_the_door(start: Start, key: Path, kind: str) -> None:
    container = start("crun", "busybox")
    daemon = container.daemon()
    with flooded(kind, each=1024):
        log_in(key, SECONDS, options=openssh.BY_DOOR)
    assert_alive(container, daemon)


@pytest.mark.parametrize(("kind", "memory"), [*((kind, 48 * MEBIBYTE) for kind in KINDS), ("exchanged", -1)])
def test_a_flood_from_hundreds_of_addresses_takes_no_place_of_the_door(
    start: Start, key: Path, kind: str, memory: int
) -> None:
    """Each has as little as the user. Any user of the node has as many, on loopback."""
    container = start("crun", "busybox", change=with_resources(memory={"limit": memory}))
    daemon = container.daemon()
    with flooded(kind, each=2, addresses=HUNDREDS):
        log_in(key, SECONDS, options=openssh.BY_DOOR)
    assert_alive(container, daemon)


def test_sessions_of_attach_go_on(nothing_left: None, key: Path) -> None:
    attached.WHERE.mkdir()
    many_descriptors = ["prlimit", "--nofile=4096:4096"]
    target = attached.start("ch-run", attached.make_image("image"), 345692, many_descriptors)
    try:
        attached.attach(target)
        session = [*openssh.client(key, port=attached.PORT), "alice@127.0.0.1", "read line; echo $line"]
        with subprocess.Popen(session, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            with flooded("silent", attached.PORT, 512, ("127.0.0.2", "127.0.0.3")):
                assert openssh.login(key, "echo here", port=attached.PORT).checked().text == "here"
            assert process.communicate("still here\n")[0] == "still here\n"
        attached.hook("detach").checked()
    finally:
        attached.stop(target)
        shutil.rmtree(attached.WHERE)


def with_job(script: str, **limits: Any) -> Change:
    """The container's first process is the job, and what it needs all the time is what the flood may take."""

    def change(config: dict[str, Any]) -> None:
        with_resources(**limits)(config)
        config["process"]["args"] = ["/bin/sh", "-c", script]

    return change


def holding(used: int, limit: int) -> Change:
    """A job that holds so many MiB of the container's."""
    script = f"mkfifo /tmp/hold; sleep 1000 </tmp/hold & exec dd if=/dev/zero of=/tmp/hold bs={used}M count=1"
    return with_job(script, memory={"limit": limit * MEBIBYTE, "swap": limit * MEBIBYTE})


def resident(pid: int) -> int:
    """The memory of a process, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("VmRSS:")), 0)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def without_login(daemon: int) -> tuple[int, int]:
    """How many processes the daemon may have for connections without login, and how many it has.

    An eighth is for addresses that have none.
    """
    arguments = Path(f"/proc/{daemon}/cmdline").read_bytes().split(b"\0")
    return int(arguments[arguments.index(b"-U") + 1]), len(children(server(daemon)))


def server(daemon: int) -> int:
    """The process that accepts connections for the daemon."""
    (pid,) = children(daemon)
    return pid


@pytest.mark.parametrize(("used", "limit", "processes"), [(465, 512, 102), (24, 48, 9)])
def test_job_that_uses_most_of_its_memory_lives(start: Start, used: int, limit: int, processes: int) -> None:
    container = start("crun", "busybox", change=holding(used, limit))
    job, daemon = container.init(), container.daemon()
    wait_for(lambda: resident(job) >= used, "the job's memory")
    with flooded("exchanged"):
        wait_for(lambda: without_login(daemon) == (processes, processes - processes // 8), "the processes of the flood")
        time.sleep(SECONDS)  # connections are renewed meanwhile
        assert container.init() == job
    assert_alive(container, daemon)
    assert container.init() == job


def test_job_that_starts_processes_lives(start: Start) -> None:
    """It has none for a second, which the flood might take; and its shell ends where it cannot start one."""
    script = "mkfifo /tmp/idle; exec 3<>/tmp/idle; while /bin/true; do read -t 1 line <&3; done"
    container = start("crun", "busybox", change=with_job(script, pids={"limit": 300}))
    job, daemon = container.init(), container.daemon()
    with flooded("exchanged"):
        wait_for(lambda: without_login(daemon) == (112, 98), "the processes of the flood")
        time.sleep(SECONDS)
        assert container.exec("true").status == 0
    assert_alive(container, daemon)
    assert container.init() == job


def test_owner_logs_in_where_the_job_has_most_processes(start: Start, key: Path) -> None:
    """There are fewer than the daemon may give to connections, and a session needs one more of its own."""
    script = "i=0; while [ $((i += 1)) -le 250 ]; do sleep 1000 & done; wait"
    container = start("crun", "busybox", change=with_job(script, pids={"limit": 300}))
    job, daemon = container.init(), container.daemon()
    wait_for(lambda: len(children(job)) > 250, "the processes of the job, beside the daemon")
    with flooded("banner"):
        wait_for(lambda: without_login(daemon)[1] > 40, "the processes of the flood")
        wait_for(lambda: without_login(daemon)[1] < 40, "the end of some of them")
        log_in(key, SECONDS, OTHER)
    assert_alive(container, daemon)


def test_owner_logs_in_where_the_job_leaves_three_processes(start: Start, key: Path) -> None:
    """One for the flood, and two for a session. Its connections, which are hundreds, are older than the owner's."""
    sleepers = 300 - len(["the job", "the daemon", "its server"]) - 3
    script = f"i=0; while [ $((i += 1)) -le {sleepers} ]; do sleep 1000 & done; wait"
    container = start("crun", "busybox", change=with_job(script, pids={"limit": 300}))
    job, daemon = container.init(), container.daemon()
    wait_for(lambda: len(children(job)) == sleepers + 1, "the processes of the job, beside the daemon")
    with flooded("banner"):
        wait_for(lambda: without_login(daemon)[1] == 1, "the end of all but one process of the flood")
        log_in(key, SECONDS, OTHER)
    assert_alive(container, daemon)


def test_few_lines_are_logged_where_no_process_is_left(start: Start, syslog: Syslog) -> None:
    """Whoever connects may cause ten thousand such attempts a second."""

    def change(config: dict[str, Any]) -> None:
        with_resources(pids={"limit": 1})(config)
        config["mounts"].append(bind(Path("/dev/log"), "/dev/log"))

    container = start("crun", "busybox", change=change)
    daemon = container.daemon()
    begin = time.monotonic()
    with flooded("banner"):
        time.sleep(SECONDS)
        lines = len(syslog.with_text("Error forking"))
        assert 1 <= lines <= time.monotonic() - begin + 1
    assert container.daemon() == daemon


@pytest.mark.parametrize("kind", KINDS)
def test_address_keeps_its_share(start: Start, kind: str) -> None:
    """However many connections another address opens: as of an owner who types a passphrase, or has a slow home."""
    container = start("crun", "busybox", change=with_resources(memory={"limit": 48 * MEBIBYTE}))
    with socket.create_connection(("127.0.0.1", PORT), source_address=("127.0.0.9", 0)) as owner:
        owner.sendall(flood.SENT[kind])
        wait_for(lambda: without_login(container.daemon())[1] == (kind != "silent"), "the owner's process")
        with flooded("banner", each=105, addresses=("127.0.0.2",)):
            time.sleep(option("UNAUTH_SHARE") + SECONDS)
        owner.setblocking(False)
        with pytest.raises(BlockingIOError):
            while owner.recv(1 << 16):
                pass
            pytest.fail("the server has closed the owner's connection")


def test_client_gets_few_answers_before_it_logs_in(start: Start) -> None:
    """It might read none of them, and the kernel keep all in the container's memory. "none" is no failed attempt."""
    start("crun", "busybox")
    transport = paramiko.Transport(("127.0.0.1", PORT))
    try:
        transport.start_client(timeout=within(20))
        service, request = paramiko.Message(), paramiko.Message()
        service.add_byte(bytes([5]))  # RFC 4253, section 10
        service.add_string("ssh-userauth")
        request.add_byte(bytes([50]))  # RFC 4252, section 5
        for text in ("alice", "ssh-connection", "none"):
            request.add_string(text)
        transport._send_message(service)
        for _number in range(300):
            if transport.is_active():
                transport._send_message(request)
        wait_for(lambda: not transport.is_active(), "the end of the connection", 20)
    finally:
        transport.close()


def is_open(connection: socket.socket) -> bool:
    try:
        while connection.recv(1 << 16, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return True
    except ConnectionError:
        pass
    return False


def test_login_has_to_be_done_in_time(start: Start) -> None:
    """However often a client sends something, and at whatever step of the login it stays."""
    start("crun", "busybox")
    begin = time.monotonic()
    silent, version, exchange = (socket.create_connection(("127.0.0.1", PORT)) for _client in range(3))
    exchange.sendall(flood.VERSION)
    transport = paramiko.Transport(("127.0.0.1", PORT))
    transport.start_client(timeout=within(20))
    ignored = flood.packet(bytes([2]) + flood.string(b""))  # RFC 4253, section 11.2
    clients: dict[str, tuple[int, Callable[[], bool], Callable[[], object]]] = {
        "silent": (option("BANNER_TIMEOUT"), lambda: is_open(silent), lambda: None),
        "version": (option("AUTH_TIMEOUT"), lambda: is_open(version), lambda: version.sendall(b"x")),
        "key exchange": (option("AUTH_TIMEOUT"), lambda: is_open(exchange), lambda: exchange.sendall(ignored)),
        "authentication": (option("AUTH_TIMEOUT"), transport.is_active, lambda: transport.send_ignore(8)),
    }
    try:
        while clients:
            for name, (limit, goes_on, send_more) in list(clients.items()):
                seconds = time.monotonic() - begin
                if goes_on():
                    assert seconds < limit + within(5), name
                    with suppress(OSError):
                        send_more()
                else:
                    assert seconds > limit - 2, name  # the server counts whole seconds
                    del clients[name]
            time.sleep(1)
    finally:
        transport.close()
        for connection in (silent, version, exchange):
            connection.close()
