"""OpenSSH's client from the node, with nothing but what `ssh_hook client-config` made, and what Remote-SSH of VS Code
does with it: a shell on standard input, a server that is brought and started, forwards to a loopback port in the
container.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openssh
import paramiko
import pytest
from cable import address, near_address, plug
from containers import ALICE, BOB, IMAGES, LAUNCHER, PORT, SETTINGS, Container, Result, as_user, keys, run, wait_for
from patience import within
from starter import Start, Starter

HOME = Path("/home/alice")
CLIENT = HOME / ".oci-hooks/ssh/client"
ALIAS = f"container-{address(0)}"
LOGIN_PORT = 2222
SERVER_PORT = 8123  # in the container
EDITOR = HOME / ".remote-editor"  # in the container too


# What a user does once


@contextlib.contextmanager
def ssh_directory(home: Path, uid: int, text: str) -> Iterator[Path]:
    """`~/.ssh` of a user with this configuration; at the end it is as before, or empty."""
    directory = home / ".ssh"
    directory.mkdir(mode=0o700, exist_ok=True)
    before = set(directory.iterdir())
    (directory / "config").write_text(text, encoding="utf-8")
    for path in (directory, directory / "config"):
        os.chown(path, uid, uid)
    yield directory
    for path in set(directory.iterdir()) - before:
        path.unlink()


def client_config(*hosts: str) -> list[str]:
    return run(as_user(ALICE, LAUNCHER, "client-config", *hosts)).checked().text.splitlines()


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    include = client_config(address(0))[1]
    assert include == "Include ~/.oci-hooks/ssh/client/config"
    with ssh_directory(HOME, ALICE, f"{include}\n"):
        yield
    shutil.rmtree(CLIENT)


def with_localhost(root: Path) -> None:
    """Give an image the file that engines bring."""
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n", encoding="ascii")


@pytest.fixture(scope="module", params=["debian", "busybox"])
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    starter = Starter()
    started = starter("crun", request.param, network="private", prepare=with_localhost)
    plug(started.init(), 0)
    yield started
    starter.remove_all()


def alices(*command: str, stdin: bytes = b"") -> Result:
    return run(as_user(ALICE, *command), stdin)


def ssh(*arguments: str, stdin: bytes = b"") -> Result:
    return alices("ssh", *arguments, stdin=stdin)


@contextlib.contextmanager
def running(*command: str, uid: int = ALICE, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(as_user(uid, *command), **options) as process:
        limit = threading.Timer(60, process.kill)  # whoever reads from it must not wait for ever
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


# Commands and files


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_commands(container: Container, status: int) -> None:
    result = ssh(ALIAS, f"cat; echo to stderr >&2; exit {status}", stdin=b"\0\xff" * 1000)
    assert (result.status, result.out, result.err) == (status, b"\0\xff" * 1000, b"to stderr\n")


def test_command_that_dies_of_a_signal(container: Container) -> None:
    assert ssh(ALIAS, "kill -9 $$").status == 255


def test_it_is_the_container(container: Container) -> None:
    for kind in ("mnt", "net", "pid"):
        inside = container.exec("readlink", f"/proc/self/ns/{kind}").checked().text
        assert ssh(ALIAS, f"readlink /proc/self/ns/{kind}").checked().text == inside


def test_nothing_is_asked_or_learned(container: Container) -> None:
    assert ssh("-v", ALIAS, "true", stdin=b"yes\n").checked().err.count(b"authenticity") == 0
    assert {path.name for path in (HOME / ".ssh").iterdir()} == {"config"}


@pytest.mark.parametrize("options", [(), ("-O",)])
def test_scp(container: Container, tmp_path: Path, options: tuple[str, ...]) -> None:
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    data = os.urandom(2_000_000)
    (tree / "sub" / "a b").write_bytes(data)
    os.chown(tmp_path, ALICE, ALICE)
    alices("scp", *options, "-q", "-r", str(tree), f"{ALIAS}:/tmp/tree").checked()
    assert container.path("/tmp/tree/sub/a b").read_bytes() == data
    alices("scp", *options, "-q", "-r", f"{ALIAS}:/tmp/tree", str(tmp_path / "back")).checked()
    assert (tmp_path / "back/sub/a b").read_bytes() == data
    ssh(ALIAS, "rm -r /tmp/tree").checked()


def test_sftp(container: Container) -> None:
    result = alices("sftp", "-q", "-b", "-", ALIAS, stdin=b"mkdir /tmp/made\nls /tmp\nrmdir /tmp/made\n").checked()
    assert b"/tmp/made" in result.out


@contextlib.contextmanager
def paramiko_client(known_hosts: str) -> Iterator[paramiko.SSHClient]:
    """A client that is connected to the container with the files of `client-config`; it refuses unknown host keys."""
    with paramiko.SSHClient() as client:
        client.load_host_keys(known_hosts)
        client.connect(
            address(0), PORT, "alice", key_filename=str(CLIENT / "id_container"), allow_agent=False, look_for_keys=False
        )
        yield client


def test_paramiko(container: Container) -> None:
    with paramiko_client(str(CLIENT / "known_hosts")) as client:
        stdin, stdout, stderr = client.exec_command("readlink /proc/self/ns/pid; cat; echo to stderr >&2; exit 7")
        stdin.write(b"\0\xff")
        stdin.channel.shutdown_write()
        assert stdout.read() == container.exec("readlink", "/proc/self/ns/pid").checked().out + b"\0\xff"
        assert stderr.read() == b"to stderr\n"
        assert stdout.channel.recv_exit_status() == 7
        with client.open_sftp() as sftp:
            sftp.putfo(io.BytesIO(b"data"), "/tmp/by-paramiko")
        assert container.path("/tmp/by-paramiko").read_bytes() == b"data"


def test_paramiko_refuses_another_host_key(container: Container, tmp_path: Path) -> None:
    """One that is not in known_hosts, and one that is there with another key."""
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text("", encoding="ascii")
    with pytest.raises(paramiko.SSHException, match="not found in known_hosts"), paramiko_client(str(known_hosts)):
        pass
    another = paramiko.ECDSAKey.generate()
    text = f"[{address(0)}]:{PORT} {another.get_name()} {another.get_base64()}\n"
    known_hosts.write_text(text, encoding="ascii")
    with pytest.raises(paramiko.BadHostKeyException), paramiko_client(str(known_hosts)):
        pass


def test_x11_stays_off(container: Container) -> None:
    assert ssh("-X", ALIAS, 'echo "<$DISPLAY>"').checked().text == "<>"


@pytest.mark.parametrize("engine", ["podman-crun", "podman-runc", "rootless", "keep-id"])
def test_every_engine(start: Start, engine: str) -> None:
    """On the node's own network, as users start containers."""
    options = ["--userns=keep-id"] if engine == "keep-id" else []
    container = start("rootless" if options else engine, options=options)
    client_config("127.0.0.1", "localhost")
    for alias in ("container-127.0.0.1", "container-localhost"):
        assert ssh(alias, "readlink /proc/self/ns/mnt; exit 3") == (
            3,
            container.exec("readlink", "/proc/self/ns/mnt").out,
            b"",
        )
    sent = HOME / "sent"
    sent.write_bytes(b"data")
    alices("scp", "-q", str(sent), "container-localhost:/tmp/").checked()
    assert container.path("/tmp/sent").read_bytes() == b"data"
    sent.unlink()
    proxy = free_port()
    with running("ssh", "-N", "-D", str(proxy), "container-localhost"):
        wait_for(lambda: accepts(proxy), "the forward")
        with socks(proxy, "127.0.0.1", PORT) as connection:
            assert connection.recv(4) == b"SSH-"


# Many channels


def daemons_connections(container: Container) -> int:
    listed = ["nsenter", "--net", "--target", str(container.init()), "ss", "-Htn", "state", "established"]
    return len(run([*listed, f"sport = :{PORT}"]).checked().text.splitlines())


def test_fifty_sessions_at_once_on_one_connection(container: Container) -> None:
    path = f"{HOME}/.ssh/control"
    with running("ssh", "-M", "-S", path, "-N", ALIAS):
        wait_for(lambda: ssh("-S", path, "-O", "check", ALIAS).status == 0, "the connection")
        # None of them ends before all have begun.
        command = "echo begun >>/tmp/begun; until [ $(wc -l </tmp/begun) -ge 50 ]; do sleep 0.1; done; cat; exit "
        sessions = [
            subprocess.Popen(
                as_user(ALICE, "ssh", "-S", path, ALIAS, f"{command} {number}"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for number in range(50)
        ]
        for number, session in enumerate(sessions):
            out, _err = session.communicate(b"%d" % number, timeout=within(60))
            assert (session.returncode, out) == (number, b"%d" % number)
        assert daemons_connections(container) == 1
    ssh(ALIAS, "rm /tmp/begun").checked()


# An editor that brings its server


def tarball() -> bytes:
    """A server: one static program, and what it serves."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(IMAGES / "busybox.rootfs" / "bin" / "busybox", "server/busybox")
        page = tarfile.TarInfo("server/www/index.html")
        page.size = len(b"served\n")
        tar.addfile(page, io.BytesIO(b"served\n"))
    return stream.getvalue()


# On standard input of a shell: says how far it is, starts the server if it does not run, and stays.
BOOTSTRAP = f"""
echo "== begin $(uname -s)"
cd "$HOME/.remote-editor" || exit 1
[ -x server/busybox ] || {{ echo "== unpack"; tar -xzf server.tar.gz; }}
page() {{ server/busybox wget -q -O - http://127.0.0.1:{SERVER_PORT}/; }}
if ! page >/dev/null 2>&1; then
    (trap '' HUP; exec server/busybox httpd -f -p 127.0.0.1:{SERVER_PORT} -h server/www) >log 2>&1 </dev/null &
    echo "== started"
fi
tries=0
until page >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || exit 1
    sleep 0.1
done
echo "== listening on {SERVER_PORT}"
"""


@pytest.fixture
def editor() -> Iterator[None]:
    """Takes back what the editor did."""
    yield
    for pid in server_pids():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not server_pids(), "end of the server")
    shutil.rmtree(EDITOR, ignore_errors=True)


def server_pids() -> list[int]:
    """The servers, in the bed. Not the processes that a server forks for its connections: those end a little later."""
    wanted = f"\0httpd\0-f\0-p\000127.0.0.1:{SERVER_PORT}\0".encode()
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (path / "cmdline").read_bytes():
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    return [pid for pid, parent in parents.items() if parent not in parents]


def bring_by_scp() -> None:
    local = HOME / "server.tar.gz"
    local.write_bytes(tarball())
    ssh(ALIAS, "mkdir -p .remote-editor").checked()
    alices("scp", "-q", str(local), f"{ALIAS}:.remote-editor/").checked()
    local.unlink()


def bring_on_stdin(alias: str = ALIAS) -> None:
    command = "mkdir -p .remote-editor && cd .remote-editor && cat >server.tar.gz"
    ssh("-T", alias, command, stdin=tarball()).checked()


def read_until(process: subprocess.Popen[bytes], marker: str) -> list[str]:
    """The lines that the process writes, up to the one that begins so."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.decode().rstrip())
        if lines[-1].startswith(marker):
            return lines
    raise AssertionError(f"no {marker}: {lines}")


def feed(process: subprocess.Popen[bytes], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text.encode())
    process.stdin.flush()


def socks(proxy: int, host: str, port: int) -> socket.socket:
    """A connection to `host` by way of a SOCKS 5 proxy; ConnectionError if it cannot be had."""
    connection = socket.create_connection(("127.0.0.1", proxy), timeout=within(10))
    connection.sendall(b"\5\1\0")
    assert connection.recv(2) == b"\5\0"
    connection.sendall(b"\5\1\0\3" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big"))
    answer = connection.recv(10)
    if answer[1:2] != b"\0":
        connection.close()
        raise ConnectionError(answer)
    return connection


def page(connection: socket.socket) -> bytes:
    with connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while more := connection.recv(4096):
            answer += more
    return answer.rpartition(b"\r\n\r\n")[2]


def direct(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=within(10))


SHELL = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}


@pytest.mark.parametrize("bring", [bring_by_scp, bring_on_stdin])
def test_remote_editor(container: Container, editor: None, bring: Callable[[], None]) -> None:
    bring()
    shell = "bash" if container.path("/bin/bash").exists() else "sh"
    proxy = free_port()
    with running("ssh", "-T", "-D", str(proxy), ALIAS, shell, **SHELL) as session:
        feed(session, BOOTSTRAP)
        lines = read_until(session, "== listening")
        assert lines == ["== begin Linux", "== unpack", "== started", f"== listening on {SERVER_PORT}"]
        for name in ("127.0.0.1", "localhost"):
            assert page(socks(proxy, name, SERVER_PORT)) == b"served\n"
        # A window with many panes: all channels are open at the same time, and beside them the shell is alive.
        connections = [socks(proxy, "127.0.0.1", SERVER_PORT) for number in range(100)]
        feed(session, "echo == alive\n")
        read_until(session, "== alive")
        assert [page(connection) for connection in connections] == [b"served\n"] * 100
        assert daemons_connections(container) == 1
        assert session.stdin is not None
        session.stdin.close()
        assert session.wait(within(10)) == 0

    assert len(server_pids()) == 1, "the server goes on without the connection"
    with running("ssh", "-T", "-D", str(proxy), ALIAS, shell, **SHELL) as session:
        feed(session, BOOTSTRAP)
        assert read_until(session, "== listening") == ["== begin Linux", f"== listening on {SERVER_PORT}"]
        assert page(socks(proxy, "127.0.0.1", SERVER_PORT)) == b"served\n"
        session.kill()  # a laptop that is closed
    wait_for(lambda: daemons_connections(container) == 0, "end of the connection")
    assert len(server_pids()) == 1


def test_local_forward(container: Container, editor: None) -> None:
    bring_on_stdin()
    ssh("-T", ALIAS, "sh", stdin=BOOTSTRAP.encode()).checked()
    port = free_port()
    with running("ssh", "-N", "-L", f"{port}:127.0.0.1:{SERVER_PORT}", ALIAS):
        wait_for(lambda: accepts(port), "the forward")
        assert page(direct(port)) == b"served\n"
        assert not accepts(port, near_address(0)), "nobody else is let in"
    assert not accepts(SERVER_PORT, address(0)), "the server itself is for the container alone"
    assert not accepts(SERVER_PORT)


def test_forwards_go_no_further_than_the_container(container: Container) -> None:
    """A loopback port there is the container's and not the node's, in both directions."""
    port, proxy, back = free_port(), free_port(), free_port()
    with socket.create_server(("127.0.0.1", 0)) as nodes:
        target = nodes.getsockname()[1]
        forwards = ["-L", f"{port}:127.0.0.1:{target}", "-D", str(proxy), "-R", f"{back}:127.0.0.1:{target}"]
        with running("ssh", "-N", *forwards, ALIAS, stderr=subprocess.DEVNULL):
            wait_for(lambda: accepts(proxy), "the forwards")
            with direct(port) as connection:
                assert connection.recv(1) == b""
            with pytest.raises(ConnectionError):
                socks(proxy, "127.0.0.1", target)
            nodes.settimeout(0.2)
            with pytest.raises(TimeoutError):
                nodes.accept()
            assert not accepts(back), "what is forwarded back listens in the container"
            assert not accepts(back, address(0)), "and only on its loopback"
            entered = ["nsenter", "--net", "--target", str(container.init()), "ss", "-Hltn", f"sport = :{back}"]
            wait_for(lambda: run(entered).text, "the forward back")


def without_pid_namespace(config: dict[str, Any]) -> None:
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [entry for entry in namespaces if entry["type"] != "pid"]


@pytest.mark.parametrize("change", [None, without_pid_namespace])
def test_server_ends_with_the_container(
    start: Start, editor: None, change: Callable[[dict[str, Any]], None] | None
) -> None:
    container = start("crun", "busybox", network="private", change=change)
    plug(container.init(), 1)
    client_config(address(1))
    bring_on_stdin(f"container-{address(1)}")
    ssh(f"container-{address(1)}", "sh", stdin=BOOTSTRAP.encode()).checked()
    (pid,) = server_pids()
    container.stop().checked()
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "end of the server")


# Whom it trusts, and from where


@pytest.fixture
def replaced_keys(tmp_path: Path) -> Iterator[Path]:
    """New keys of alice's, whose old ones come back. It is a copy of the host keys that the client knew before."""
    kept, known_before = tmp_path / "kept", CLIENT / "known_hosts_before"
    shutil.copytree(keys(), kept, symlinks=True)
    shutil.copy(CLIENT / "known_hosts", known_before)
    known_before.chmod(0o644)
    alices(LAUNCHER, "keygen", "--overwrite").checked()
    yield known_before
    for entry in kept.iterdir():
        (keys() / entry.name).write_bytes(entry.read_bytes())


def test_new_keys_are_in_its_files(start: Start, replaced_keys: Path) -> None:
    """For who has a copy of earlier ones, as on a laptop, the host key of new containers is another's."""
    container = start("crun", "busybox", network="private")
    plug(container.init(), 2)
    there = f"HostName={address(2)}"
    refused = ssh("-o", there, "-o", f"UserKnownHostsFile={replaced_keys}", ALIAS, "echo wrong", stdin=b"yes\n")
    assert (refused.status, refused.out) == (255, b"")
    assert b"Host key verification failed" in refused.err
    assert ssh("-o", there, ALIAS, "echo right").checked().text == "right"


@pytest.fixture
def laptop() -> Iterator[int]:
    """The pid of a process in another network, which has a cable to the node and no way to the containers."""
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as process:
        wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text(encoding="ascii") == "sleep\n", "the laptop")
        plug(process.pid, 3)
        yield process.pid
        process.kill()


@contextlib.contextmanager
def login_node(directory: Path, public_key: str) -> Iterator[None]:
    """An SSH server of the node, at the laptop's cable, that lets alice in with this key."""
    binaries = Path(SETTINGS["DROPBEAR_DIR"]) / "bin"
    directory.mkdir(mode=0o700)
    (directory / "authorized_keys").write_text(public_key + "\n", encoding="ascii")
    run([binaries / "dropbearkey", "-t", "ecdsa", "-f", directory / "host_key"]).checked()
    for path in (directory, *directory.iterdir()):
        os.chown(path, ALICE, ALICE)
    files = ["-r", f"{directory}/host_key", "-D", str(directory), "-P", f"{directory}/pid"]
    with running(str(binaries / "dropbear"), "-F", *files, "-p", f"{near_address(3)}:{LOGIN_PORT}"):
        wait_for((directory / "pid").exists, "the login node")
        yield


def test_from_a_laptop_by_a_jump_host(container: Container, laptop: int) -> None:
    """Bob's account stands for alice's on her laptop: it has a copy of the directory, and a key for the login node."""
    home = Path("/home/bob")
    copy = home / ".oci-hooks/ssh/client"
    shutil.copytree(CLIENT, copy)
    for path in (copy, *copy.iterdir()):
        os.chown(path, BOB, BOB)
    place = HOME / "login"
    text = (
        "Include ~/.oci-hooks/ssh/client/config\n"
        "Host container-*\n    ProxyJump login\n"
        f"Host login\n    HostName {near_address(3)}\n    Port {LOGIN_PORT}\n"
        "    User alice\n    IdentityFile ~/.ssh/laptop\n"
        "    StrictHostKeyChecking accept-new\n"
    )
    from_there = ["nsenter", "--net", "--target", str(laptop), *as_user(BOB, "ssh", name="bob")]
    try:
        with ssh_directory(home, BOB, text) as directory, login_node(place, openssh.new_key(directory / "laptop")):
            os.chown(directory / "laptop", BOB, BOB)
            result = run([*from_there, ALIAS, "id -un; exit 7"])
            assert (result.status, result.out) == (7, b"alice\n"), result.err
            assert run([*from_there, "-o", "ProxyJump=none", "-o", "ConnectTimeout=2", ALIAS, "true"]).status == 255
    finally:
        shutil.rmtree(copy)
        shutil.rmtree(place)
