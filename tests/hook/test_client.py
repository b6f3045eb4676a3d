"""The container's ssh towards another container: what each option of OpenSSH's command line does there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from containers import ALICE, PORT, WORK, Container, Plain, Podman, Result, children, repeat_while, run, wait_for
from patience import within
from programs import with_openssh
from starter import Start
from terminal import terminal

NETWORK = "10.98.7"
DEAD = f"{NETWORK}.200"
NO_ANSWER = re.compile(rb": no answer \(tried for 2 s\)")


def named(prepare: Callable[[Path], None] | None = None) -> Callable[[Path], None]:
    """Prepares an image in which the other container has a name; `prepare` prepares it further."""

    def prepared(root: Path) -> None:
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{NETWORK}.1 far\n{DEAD} dead\n", encoding="ascii")
        if prepare is not None:
            prepare(root)

    return prepared


def programs_of_openssh(root: Path) -> None:
    with_openssh(root)
    shutil.copy("/usr/bin/ssh-agent", root / "usr/bin")


def connect(far: Container, near: Container, number: int) -> None:
    """A cable between the networks of two containers; `number` is that of the address at its near end."""
    enter = ["nsenter", "--net", "--target"]
    cable = f"to{number}"
    far_ip = [*enter, str(far.init()), "ip"]
    near_ip = [*enter, str(near.init()), "ip"]
    run([*far_ip, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(near.init())]).checked()
    run([*far_ip, "link", "set", cable, "master", "bridge"]).checked()
    run([*far_ip, "link", "set", cable, "up"]).checked()
    run([*near_ip, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0"]).checked()
    run([*near_ip, "link", "set", "eth0", "up"]).checked()


@pytest.fixture(scope="module")
def far(start_shared: Start) -> Container:
    """The container at the other end."""
    container = start_shared("crun", "busybox", network="private")
    ip = ["nsenter", "--net", "--target", str(container.init()), "ip"]
    run([*ip, "link", "add", "bridge", "type", "bridge"]).checked()
    run([*ip, "address", "add", f"{NETWORK}.1/24", "dev", "bridge"]).checked()
    run([*ip, "link", "set", "bridge", "up"]).checked()
    return container


@pytest.fixture(scope="module")
def busybox(start_shared: Start, far: Container) -> Container:
    """A container without OpenSSH."""
    container = start_shared("crun", "busybox", network="private", prepare=named())
    connect(far, container, 2)
    return container


@pytest.fixture(scope="module")
def openssh(start_shared: Start, far: Container) -> Container:
    """A container with OpenSSH's client."""
    container = start_shared("crun", "debian", network="private", prepare=named(programs_of_openssh))
    connect(far, container, 3)
    return container


@pytest.fixture(scope="module", params=["busybox", "openssh"])
def near(request: pytest.FixtureRequest) -> Container:
    container: Container = request.getfixturevalue(request.param)
    return container


def ssh(container: Container, *arguments: str | bytes, stdin: bytes = b"") -> Result:
    return container.exec("ssh", *arguments, stdin=stdin)


def in_network(container: Container, *command: str) -> list[str]:
    """A command of the bed in the container's network."""
    return ["nsenter", "--net", "--target", str(container.init()), *command]


def address(container: Container) -> str:
    """Of the container, as the other one reaches it."""
    said = run(in_network(container, "ip", "-4", "-o", "address", "show", "dev", "eth0")).checked().text
    return said.split(" inet ")[1].split("/")[0]


def is_listening(container: Container, port: int) -> bool:
    said = run(in_network(container, "ss", "-Hltn", f"sport = :{port}")).checked().text
    return said != ""


SERVICE = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        with server.accept()[0] as connection:
            connection.sendall(b"served\\n")
"""


@contextmanager
def service(container: Container, port: int) -> Iterator[None]:
    """Something that says "served" to whoever connects to the loopback port in the container's network."""
    command = in_network(container, "python3", "-c", SERVICE, str(port))
    with subprocess.Popen(command) as process:
        try:
            wait_for(lambda: is_listening(container, port), "the service")
            yield
        finally:
            process.kill()


def fetch(container: Container, port: int, host: str = "127.0.0.1") -> str:
    """What is said at a port that the container reaches."""
    return run(in_network(container, "bash", "-c", f"exec 3<>/dev/tcp/{host}/{port} && cat <&3")).text


@pytest.fixture
def background() -> Iterator[Callable[[], None]]:
    """Ends, when called and at the end, the clients that were left in the background."""

    def end() -> None:
        for path in Path("/proc").iterdir():
            try:
                line = (path / "cmdline").read_bytes()
            except (OSError, ValueError):
                continue
            if path.name.isdigit() and line.startswith((b"ssh\0", b"ssh: /tmp/")):
                os.kill(int(path.name), signal.SIGTERM)

    yield end
    end()


# Commands

RIGHT = (0, b"right\n", b"")


@pytest.mark.parametrize(
    "options",
    [
        ["-4"],
        ["-Kkxa"],
        ["-2", "-a", "-x", "-l", "alice", "-o", "ConnectTimeout=10"],  # pdsh
        ["-oConnectTimeout=10s", "-oServerAliveInterval=1m", "-oIgnoreUnknown=Whatever", "-oWhatever=1"],  # Ray, Hadoop
        ["-oGSSAPIAuthentication=no", "-oGSSAPIDelegateCredentials=no"],
        ["-q"],
        ["-a"],
        ["-n"],
        ["-T"],
        ["-p", str(PORT)],
        ["-l", "alice"],
        ["-F", "none"],
        ["-e", "none"],
        ["-S", "none"],
        ["-g"],
        ["-c", "aes256-ctr", "-m", "hmac-sha2-256"],
        ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "StrictHostKeyChecking=no"],
        ["-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR", "-oForwardX11=no", "-oForwardAgent=no"],
        ["-oControlMaster=auto", "-oControlPersist=60s", "-oServerAliveInterval=15", "-oServerAliveCountMax=3"],
        ["-oPermitLocalCommand=no", "-oClearAllForwardings=yes", "-oRemoteCommand=none", "-oRequestTTY=no"],
        ["-oSendEnv=LANG", "-oPasswordAuthentication=no", "-oPreferredAuthentications=publickey"],
        ["-oNumberOfPasswordPrompts=0", "-oExitOnForwardFailure=yes", "-oIdentitiesOnly=yes", "-oCompression=no"],
        [f"-oPort={PORT}", "-oUser=alice", "-oTCPKeepAlive=yes", "-oAddressFamily=any", "-oProxyCommand=none"],
    ],
    ids=str,
)
def test_options_before_and_after_the_host(near: Container, options: list[str]) -> None:
    assert ssh(near, *options, "far", "echo right") == RIGHT
    assert ssh(near, "far", *options, "echo right") == RIGHT


LAUNCHES = {
    "pdsh": ["-2", "-a", "-x", "-l", "alice", "-o", "ConnectTimeout=10", "far", "echo right"],
    "DeepSpeed": ["-o", "PasswordAuthentication=no", "-o", "StrictHostKeyChecking=no", "far", "echo right"],
    "sshfs": ["-x", "-a", "-oClearAllForwardings=yes", "-oServerAliveInterval=15", "-2", "far", "echo right"],
    "Hadoop": [
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "ConnectTimeout=10s",
        "far",
        "echo right",
    ],
    "Ray": [
        *("-tt", "-q", "-i", "/home/alice/ray_bootstrap_key.pem", "-o", "StrictHostKeyChecking=no"),
        *("-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "ExitOnForwardFailure=yes"),
        *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "ControlMaster=auto"),
        *("-o", "ControlPath=/tmp/ray/%C", "-o", "ControlPersist=10s", "-o", "ConnectTimeout=120s"),
        *("alice@far", "bash --login -c -i 'true' >/dev/null 2>&1; echo right"),
    ],
    "Open MPI": ["-x", "far", "PATH=/opt/mpi/bin:$PATH ; export PATH ; echo right"],
    "MPICH": ["-x", "far", '"/bin/echo"', '"right"'],
    "Intel MPI": ["-q", "-x", "far", "/bin/echo", "right"],
    "rsync": ["-p", str(PORT), "-l", "alice", "far", "echo", "right"],
    "git": ["-o", "SendEnv=GIT_PROTOCOL", "far", "echo 'right'"],
    "ansible": [
        *("-C", "-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", "KbdInteractiveAuthentication=no"),
        *("-o", "PreferredAuthentications=gssapi-with-mic,gssapi-keyex,hostbased,publickey", "-o", 'User="alice"'),
        *("-o", "ConnectTimeout=10", "-o", "ControlPath=/tmp/ansible-%C", "far", "/bin/sh -c 'echo right && sleep 0'"),
    ],
    "VS Code": ["-T", "-D", "8011", "-o", "ConnectTimeout=15", "far", "sh"],
}


@pytest.mark.parametrize("program", LAUNCHES)
def test_command_lines_of_programs(near: Container, program: str) -> None:
    near.exec("mkdir", "-p", "/tmp/ray").checked()
    result = ssh(near, *LAUNCHES[program], stdin=b"echo right\n" if program == "VS Code" else b"")
    assert (result.status, result.out.replace(b"\r", b"")) == (0, b"right\n"), result.err
    for option in LAUNCHES[program]:
        if option.startswith("ControlPath="):
            ssh(near, "-O", "exit", "-o", option, "far").checked()


@pytest.mark.parametrize(
    "destination", ["far", "alice@far", "ssh://far", f"ssh://alice@far:{PORT}/", f"{NETWORK}.1", "ssh://far/"]
)
def test_destinations(near: Container, destination: str) -> None:
    assert ssh(near, destination, "echo right") == RIGHT
    assert ssh(near, "--", destination, "echo right") == RIGHT


def test_it_is_the_other_container(near: Container, far: Container) -> None:
    there = far.exec("readlink", "/proc/self/ns/net").checked().text
    assert ssh(near, "far", "readlink /proc/self/ns/net").checked().text == there
    assert near.exec("readlink", "/proc/self/ns/net").checked().text != there


def test_arguments_are_exact(near: Container) -> None:
    words = [
        "'a   b'",
        "'*'",
        "''",
        '"$HOME"',
        "'`id`$(id)'",
        "'line\none'",
        "\\\\",
        '"\'"',
        "-n",
        "--",
        "'\t'",
        "\udcff",
    ]
    result = ssh(near, "-x", "-oBatchMode=yes", "far", "printf", "'[%s]'", *map(os.fsencode, words))
    expected = ["a   b", "*", "", "/home/alice", "`id`$(id)", "line\none", "\\", "'", "-n", "--", "\t", "\udcff"]
    assert result.checked().out == os.fsencode("".join(f"[{word}]" for word in expected))


def test_input_and_output_are_exact(near: Container) -> None:
    data = os.urandom(2_000_000)
    result = ssh(near, "-oBatchMode=yes", "far", "cat; echo to stderr >&2", stdin=data).checked()
    assert hashlib.sha256(result.out).digest() == hashlib.sha256(data).digest()
    assert result.err == b"to stderr\n"


def test_commands_that_begin_like_options(near: Container, far: Container) -> None:
    """They are run, and not taken for options of the client."""
    far.path("/tmp/-V").write_text('#!/bin/sh\necho "ran $*"\n', encoding="ascii")
    far.path("/tmp/-V").chmod(0o755)
    for arguments in (["far", "--", "-V"], ["--", "far", "-V"]):
        result = ssh(near, *arguments)
        assert result.status == 2 and b"sh: " in result.err, "the shell takes it for an option, as with any sshd"
    assert ssh(near, "far", "--", "PATH=/tmp", "-V", "-p").checked().text == "ran -p"


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_exit_status(near: Container, status: int) -> None:
    assert ssh(near, "far", f"exit {status}").status == status
    assert ssh(near, "-tt", "far", f"exit {status}").status == status


@pytest.mark.parametrize("name", ["HUP", "INT", "KILL", "TERM", "SEGV", "SYS", "XCPU"])
def test_command_that_dies_of_a_signal(near: Container, name: str) -> None:
    for options in ([], ["-tt"], ["-T", "-q"]):
        assert ssh(near, *options, "far", f"kill -{name} $$").status == 255


def test_server_that_dies(near: Container) -> None:
    assert ssh(near, "far", "kill -9 $PPID").status == 255


def test_long_commands(near: Container) -> None:
    for length in (9_001, 65_536, 131_000):
        said = ssh(near, "-q", "far", f"echo {'x' * length} | wc -c").checked()
        assert int(said.text) == length + 1
    result = ssh(near, "far", "echo", "x" * 70_000, "y" * 70_000)
    assert (result.status, result.out) == (255, b"")
    assert result.err == b"the command has 140006 bytes, which are more than 131071\r\n"


# Standard input


def test_input_is_kept_for_what_follows(near: Container) -> None:
    def loop(options: str) -> str:
        script = f'printf "one\\ntwo\\n" | while read -r line; do ssh {options} far cat; echo "read $line"; done'
        return near.exec("/bin/sh", "-c", script).checked().text

    assert loop("-n") == "read one\nread two"
    assert loop("-oStdinNull=yes") == "read one\nread two"
    assert loop("") == "two\nread one", "without -n the first command takes it all"


@pytest.mark.parametrize("option", ["-f", "-oForkAfterAuthentication=yes"])
def test_background(near: Container, far: Container, option: str) -> None:
    started = time.monotonic()
    assert ssh(near, option, "far", "sleep 5; cat; echo done >/tmp/background", stdin=b"not for it").status == 0
    assert time.monotonic() - started < within(4)
    wait_for(lambda: far.exec("cat", "/tmp/background").text == "done", "the command in the background", 20)
    far.exec("rm", "/tmp/background").checked()
    assert ssh(near, option, "dead", "true").status == 255, "before it goes to the background"


# Terminals


def test_terminal_on_demand(near: Container) -> None:
    assert ssh(near, "-tt", "far", "tty; exit 3") == (3, b"/dev/pts/0\r\n", b"Connection to far closed.\r\n")
    assert ssh(near, "-qtt", "far", "tty; exit 3") == (3, b"/dev/pts/0\r\n", b"")
    assert ssh(near, "-oRequestTTY=force", "far", "sleep 0.2; tty").checked().out == b"/dev/pts/0\r\n"
    assert ssh(near, "-T", "far", "tty").out == b"not a tty\n"
    result = ssh(near, "-t", "far", "tty")
    assert (result.out, result.err) == (
        b"not a tty\n",
        b"Pseudo-terminal will not be allocated because stdin is not a terminal.\r\n",
    )


def on_terminal(container: Container, *command: str, send: bytes = b"", when: bytes = b"ready") -> tuple[int, bytes]:
    """Run a command on a terminal, type `send` when it has said `when`; its exit status and all that it said."""
    with terminal(container.at_terminal(*command)) as opened:
        said = b""
        if send:
            said = opened.expect(when)
            opened.type(send)
        status, rest = opened.end()
        return status, said + rest


def test_terminal_at_the_client(near: Container) -> None:
    assert on_terminal(near, "ssh", "-qt", "far", "tty; stty size; exit 5") == (5, b"/dev/pts/0\r\n50 132\r\n")
    assert on_terminal(near, "ssh", "far", "tty; exit 5")[1] == b"not a tty\r\n", "none for a command"
    assert on_terminal(near, "ssh", "-nt", "far", "tty")[1].endswith(b"\r\nnot a tty\r\n")
    command = "echo ready; read x; echo got $x; exit 6"
    status, said = on_terminal(near, "ssh", "-qt", "far", command, send=b"typed\r")
    assert (status, said.endswith(b"got typed\r\n")) == (6, True)


def test_interrupted_command(near: Container) -> None:
    status, said = on_terminal(near, "ssh", "-qt", "far", "echo ready; exec sleep 100", send=b"\x03")
    assert (status, said) == (255, b"ready\r\n^C")


def test_login_shell(near: Container) -> None:
    status, said = on_terminal(near, "ssh", "-q", "far", send=b"tty; exit 7\r", when=b"$ ")
    assert (status, said.endswith(b"/dev/pts/0\r\n")) == (7, True)
    piped = ssh(near, "far", stdin=b"tty; exit 8\n")
    assert (piped.status, piped.out) == (8, b"not a tty\n")


# Forwarding


def test_local_forward(near: Container, far: Container, background: Callable[[], None]) -> None:
    """-f -N -L: in the background, without a command; on the loopback only, unless -g."""
    with service(far, 7001):
        assert ssh(near, "-f", "-N", "-L", "8001:127.0.0.1:7001", "far") == (0, b"", b"")
        assert fetch(near, 8001) == "served"
        assert fetch(far, 8001, address(near)) == ""
        assert ssh(near, "-fNg", "-oLocalForward=8002 127.0.0.1:7001", "far") == (0, b"", b"")
        assert fetch(far, 8002, address(near)) == "served"
        assert ssh(near, "-fN", "-L", "*:8003:127.0.0.1:7001", "far") == (0, b"", b"")
        assert fetch(far, 8003, address(near)) == "served"
        background()
        wait_for(lambda: not is_listening(near, 8001), "end of the forwarding")


def test_remote_forward(near: Container, far: Container, background: Callable[[], None]) -> None:
    with service(near, 7002):
        assert ssh(near, "-fN", "-R", "8004:127.0.0.1:7002", "far") == (0, b"", b"")
        # In the background ssh has logged in, and may have yet to ask for the port.
        wait_for(lambda: is_listening(far, 8004), "the forwarding")
        assert fetch(far, 8004) == "served"
        background()
        wait_for(lambda: not is_listening(far, 8004), "end of the forwarding")


def test_forwarding_while_a_command_runs(near: Container, far: Container) -> None:
    with service(far, 7003):
        command = "echo ready; read x; exit 4"
        process = subprocess.Popen(
            ["crun", "exec", near.name, "ssh", "-L", "127.0.0.1:8005:127.0.0.1:7003", "far", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert fetch(near, 8005) == "served"
            process.communicate(b"\n")
        assert process.returncode == 4
        assert not is_listening(near, 8005)


def test_forwarding_that_fails(near: Container) -> None:
    """By default the command runs all the same, as with OpenSSH."""
    for option, value in (("-L", f"{PORT}:127.0.0.1:9"), ("-R", f"{PORT}:127.0.0.1:9")):
        result = ssh(near, option, value, "far", "sleep 0.3; echo right")
        assert (result.status, result.out) == (0, b"right\n")
        assert b"orward" in result.err
        result = ssh(near, "-oExitOnForwardFailure=yes", option, value, "far", "sleep 0.3; echo wrong")
        assert (result.status, result.out) == (255, b"")
    assert ssh(near, "-N", "-oExitOnForwardFailure=yes", "-L", f"{PORT}:127.0.0.1:9", "far").status == 255
    assert ssh(near, "-oClearAllForwardings=yes", "-L", f"{PORT}:127.0.0.1:9", "far", "echo right") == RIGHT


def test_standard_streams_to_a_port(near: Container, far: Container) -> None:
    with service(far, 7004):
        assert ssh(near, "-W", "127.0.0.1:7004", "far") == (0, b"served\n", b"")
    result = ssh(near, "-W", "127.0.0.1:7004", "far")
    assert (result.status, result.out) == (255, b"")
    assert b"Connection refused" in result.err
    assert ssh(near, "-W", "127.0.0.1:7004", "far", "true").status == 255


def test_agent(near: Container, openssh: Container) -> None:
    for option in ("-A", "-oForwardAgent=yes"):
        script = f"ssh {option} far 'test -S \"$SSH_AUTH_SOCK\" && echo right'"
        assert openssh.exec("ssh-agent", "/bin/sh", "-c", script) == RIGHT
    without = "ssh far 'test -z \"$SSH_AUTH_SOCK\" && echo right'"
    assert openssh.exec("ssh-agent", "/bin/sh", "-c", without) == RIGHT
    assert ssh(near, "-A", "far", "echo right") == RIGHT, "without an agent"


def test_address_of_the_client(near: Container) -> None:
    assert ssh(near, "-b", address(near), "far", "echo ${SSH_CLIENT%% *}").checked().text == address(near)
    assert ssh(near, "-b", f"{NETWORK}.99", "far", "true").status == 255


# Subsystems, messages, versions


def test_subsystem(near: Container) -> None:
    version = rb"\0\0\0\5\1\0\0\0\3"
    script = f"(printf '{version.decode()}'; sleep 1) | ssh -s far sftp"
    assert near.exec("/bin/sh", "-c", script).checked().out[4:9] == b"\2\0\0\0\3"
    result = ssh(near, "-s", "far", "nosuch")
    assert (result.status, result.out) == (255, b"")
    assert ssh(near, "-s", "far").status == 255


def test_messages_go_to_a_file(near: Container) -> None:
    """Those of the client; the command's stay where they are."""
    log = "/tmp/log of 'ssh'"
    near.path(log).write_text("before\n", encoding="ascii")
    near.path(log).chmod(0o666)
    assert ssh(near, "-E", log, "far", "echo right; echo wrong >&2; exit 4") == (4, b"right\n", b"wrong\n")
    assert near.path(log).read_text(encoding="ascii") == "before\n"
    assert ssh(near, "-E", log, "-W", "127.0.0.1:7", "far") == (255, b"", b"")
    assert ssh(near, "-E", log, "-oConnectTimeout=1", "dead", "true") == (255, b"", b"")
    before, refused, *_more, dead = near.path(log).read_text(encoding="ascii").splitlines()
    assert before == "before"
    assert "Connection refused" in refused
    assert "dead" in dead and "timed out" in dead
    near.path(log).unlink()
    result = ssh(near, "-E", "/nosuch/log", "far", "echo wrong")
    assert (result.status, result.out) == (1, b"")


def test_version(near: Container) -> None:
    for options in (["-V"], ["-V", "far"]):
        result = ssh(near, *options)
        assert result.status == 0
        assert result.err.startswith(b"OpenSSH_10.")


def test_key_exchange(near: Container) -> None:
    """The best that both have comes first; what clients before OpenSSH 9.9 have works too."""
    said = ssh(near, "-v", "far", "true").checked().err.decode()
    assert "kex: algorithm: mlkem768x25519-sha256" in said and "kex: host key algorithm: ssh-ed25519" in said
    said = ssh(near, "-v", "-oKexAlgorithms=sntrup761x25519-sha512", "far", "true").checked().err.decode()
    assert "kex: algorithm: sntrup761x25519-sha512" in said


CHACHA20, GCM = "chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com"
HAS_AES = re.search(r"\baes\b", Path("/proc/cpuinfo").read_text(encoding="utf-8")) is not None
CIPHERS = [CHACHA20, *[GCM] * HAS_AES, "aes256-ctr", "aes128-ctr"]
# OpenSSL's own variables: AES-NI and PCLMULQDQ are not used, or no instruction beside the basic ones.
WITHOUT_AES = ("env", "OPENSSL_ia32cap=~0x200000200000000", "OPENSSL_armcap=0")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["ssh"], GCM if HAS_AES else CHACHA20),
        ([*WITHOUT_AES, "ssh"], CHACHA20),
        (["ssh", "-oCiphers=+aes192-ctr"], GCM if HAS_AES else CHACHA20),
        *((["ssh", "-c", cipher], cipher) for cipher in CIPHERS),
    ],
    ids=str,
)
def test_cipher(near: Container, command: list[str], expected: str) -> None:
    """AES-GCM where the processors have instructions for it, unless others are asked for."""
    said = near.exec(*command, "-v", "far", "true").checked().err.decode()
    assert f"kex: server->client cipher: {expected} " in said
    assert f"kex: client->server cipher: {expected} " in said


@pytest.mark.parametrize("cipher", CIPHERS)
def test_bytes_by_each_cipher(near: Container, cipher: str) -> None:
    """Both ways, and by several keys."""
    data = os.urandom(3_000_001)
    result = ssh(near, "-v", "-c", cipher, "-oRekeyLimit=1M", "far", "cat", stdin=data).checked()
    assert result.out == data
    assert result.err.count(b"SSH2_MSG_NEWKEYS received") > 2


def test_usage(near: Container) -> None:
    result = ssh(near)
    assert (result.status, result.out) == (255, b"")
    assert result.err.lower().startswith((b"usage: ssh ", b"ssh: usage: ssh "))


# What is refused


def test_destination_that_is_read_as_an_option(near: Container) -> None:
    for arguments in (["--", "-Jtouch /tmp/pwned", "true"], ["--", "-J", "touch /tmp/pwned"], ["-", "true"]):
        result = ssh(near, *arguments)
        assert (result.status, result.out) == (255, b"")
    assert not near.path("/tmp/pwned").exists()


@pytest.mark.parametrize(
    "options",
    [["-Z"], ["-o", "whatever=1"], ["-c", "nosuch"], ["-c", "aes128-gcm@openssh.com"], ["-m", "nosuch"]],
    ids=str,
)
def test_options_that_are_not_known(near: Container, options: list[str]) -> None:
    result = ssh(near, *options, "far", "echo wrong")
    assert (result.status, result.out) == (255, b"")
    assert options[-1].strip("-=1").encode() in result.err or b"no matching cipher found" in result.err


def test_nobody_there(near: Container) -> None:
    for options, host, words in (
        ([], "dead", b"unreachable"),
        (["-oConnectTimeout=1"], "dead", b"timed out"),
        (["-oConnectTimeout=1"], "nosuch.invalid", b"nosuch.invalid"),
    ):
        result = ssh(near, *options, host, "echo wrong")
        assert (result.status, result.out) == (255, b"")
        assert words in result.err and host.encode() in result.err


# What Dropbear's client could not


def test_key_of_the_users_own(near: Container) -> None:
    status = near.path("/opt/oci-hooks/ssh/id_openssh").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o600, ALICE, ALICE)


SOCKS = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
    s.sendall(b"\\5\\1\\0")
    assert s.recv(2) == b"\\5\\0"
    s.sendall(b"\\5\\1\\0\\1\\x7f\\0\\0\\1" + int(sys.argv[2]).to_bytes(2, "big"))
    assert s.recv(10)[1] == 0
    print(s.recv(100).decode(), end="")
"""


def test_dynamic_forward(near: Container, far: Container, background: Callable[[], None]) -> None:
    with service(far, 7005):
        assert ssh(near, "-f", "-N", "-D", "8006", "far") == (0, b"", b"")
        script = run(in_network(near, "python3", "-c", SOCKS, "8006", "7005"))
        assert script.checked().text == "served"
        background()


def test_through_another(near: Container) -> None:
    """The host on the way is a container too: its port and key need not be given."""
    proxy = "ProxyCommand=ssh -W 127.0.0.1:%p far"
    for arguments in (["-o", proxy, "there"], ["-J", "far", "127.0.0.1"], ["-J", "far,127.0.0.1", "127.0.0.1"]):
        assert ssh(near, *arguments, "echo right; exit 3") == (3, b"right\n", b"")


def test_shared_connection(near: Container) -> None:
    socket = ["-S", "/tmp/master"]
    assert ssh(near, *socket, "-O", "check", "far").status == 255
    assert ssh(near, "-M", "-f", "-N", *socket, "far") == (0, b"", b"")
    assert ssh(near, *socket, "-O", "check", "far").status == 0
    assert ssh(near, *socket, "far", "echo right") == RIGHT
    assert ssh(near, "-oControlPath=/tmp/master", "far", "exit 6").status == 6
    assert ssh(near, *socket, "-O", "exit", "far").status == 0
    assert ssh(near, *socket, "far", "echo right") == RIGHT, "as with OpenSSH, there need be none"


CONFIGURATION = """
Host other
    HostName far
Host *
    Port 22
    User bob
    IdentityFile /nosuch
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    HostKeyAlias far
    SetEnv X=Y
    GSSAPIAuthentication yes
    Unknown whatever
"""


def test_configuration_file(near: Container) -> None:
    """It gives aliases, and does not change what makes a container's connection. Options that are not known, or not
    built in, do no harm.
    """
    path = near.path("/tmp/configuration")
    path.write_text(CONFIGURATION, encoding="ascii")
    path.chmod(0o644)
    assert ssh(near, "-F", "/tmp/configuration", "other", "echo right") == RIGHT
    shown = ssh(near, "-F", "/tmp/configuration", "-G", "other").checked().text.splitlines()
    for line in ("hostname far", "user alice", f"port {PORT}", "identitiesonly yes"):
        assert line in shown
    keys = [line for line in shown if line.startswith("identityfile ")]
    assert keys[0] == "identityfile /opt/oci-hooks/ssh/id_openssh", "the first that is tried"


FOR_OTHER_PLACES = """
GSSAPIAuthentication yes
ProxyJump gateway
Ciphers nosuch-cipher
Port 22
User bob
Unknown whatever
"""


def test_the_users_configuration_does_not_break_a_launch(near: Container) -> None:
    """Nor its owner and mode, which OpenSSH refuses: the file is for other places."""
    near.exec(
        "/bin/sh", "-c", "cat >~/.ssh/config && chmod 666 ~/.ssh/config", stdin=FOR_OTHER_PLACES.encode()
    ).checked()
    assert ssh(near, "far", "echo right") == RIGHT
    near.exec("rm", "/home/alice/.ssh/config").checked()


def test_arguments_are_exact_beside_a_forward(near: Container) -> None:
    words = ["'a   b'", "'*'", "''", "'`id`$(id)'", "'line\none'", "-n"]
    result = ssh(near, "-oSetEnv=X=1", "-D8007", "far", "printf", "'[%s]'", *words)
    assert result.checked().text == "[a   b][*][][`id`$(id)][line\none][-n]"
    assert ssh(near, "-D8007", "far", "kill -9 $$").status == 255
    assert ssh(near, "-D8007", "far", "exit 9").status == 9


@pytest.mark.parametrize("name", ["alice", "SITE\\alice"])
def test_name_of_a_domain(start: Start, tmp_path: Path, name: str) -> None:
    """As winbind gives users, with a backslash. The image knows nobody."""
    base = WORK / "homes"
    base.mkdir(parents=True)
    (base / name).symlink_to("/home/alice")
    (tmp_path / "passwd").write_text(f"{name}:x:{ALICE}:{ALICE}::/home/alice:/bin/sh\n", encoding="ascii")
    settings = {"PASSWD_FILE": str(tmp_path / "passwd"), "HOOK_BASE_DIR": str(base)}
    container = start("crun", "busybox", settings=settings)
    for user in ((), ("-l", name)):
        assert ssh(container, *user, "127.0.0.1", "whoami") == (0, f"{name}\n".encode(), b"")
    other = ssh(container, "-l", "SITE\\bob", "127.0.0.1", "whoami")
    assert (other.status, other.err) == (255, b"remote username contains invalid characters\r\n")
    shutil.rmtree(base)


# Waiting

FIRST, LATE, NEVER = "127.0.9.1", "127.0.9.2", "127.0.9.3"


def waiting(
    start: Start,
    seconds: str,
    image: str = "busybox",
    prepare: Callable[[Path], None] | None = None,
    annotations: dict[str, str] | None = None,
) -> Plain:
    container = start(
        "crun",
        image,
        settings={"LISTEN_ADDRESSES": FIRST},
        annotations={"com.hooks.ssh.wait": seconds, **(annotations or {})},
        prepare=named(prepare),
    )
    assert isinstance(container, Plain)
    return container


@contextmanager
def started(container: Container, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A client that is still running."""
    command = ["crun", "exec", container.name, "ssh", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(2)
        assert process.poll() is None
        try:
            yield process
        finally:
            if process.poll() is None:
                end(process)


def result(process: subprocess.Popen[bytes]) -> Result:
    out, err = process.communicate(timeout=within(15))
    return Result(process.returncode, out, err)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a client that is still running."""
    for pid in children(process.pid):
        os.kill(pid, signal.SIGTERM)


def assert_right_after_notice(process: subprocess.Popen[bytes], what: str) -> None:
    """It may have said after three seconds what it waits for."""
    found = result(process)
    assert found._replace(err=b"") == RIGHT
    assert found.err in (b"", f"ssh: waiting up to 60 s for {what}\r\n".encode())


def test_peer_that_comes_late(start: Start) -> None:
    container = waiting(start, "60")
    with started(container, LATE, "echo right") as process:
        time.sleep(1)
        start("crun", "busybox", settings={"LISTEN_ADDRESSES": LATE})
        came = time.monotonic()
        assert_right_after_notice(process, f"an answer from host {LATE} port {PORT}")
        assert time.monotonic() - came < 1 + within(5), "the longest pause between two attempts is 1 s"
    assert ssh(container, LATE, "echo right") == RIGHT
    before = time.monotonic()
    assert ssh(container, "-p", str(PORT + 1), LATE, "true").status == 255
    assert time.monotonic() - before < within(5), "what is no container is not waited for"


def test_name_that_is_known_late(start: Start) -> None:
    container = waiting(start, "60")
    start("crun", "busybox", settings={"LISTEN_ADDRESSES": LATE})
    with started(container, "newcomer", "echo right") as process:
        with container.path("/etc/hosts").open("a", encoding="ascii") as hosts:
            hosts.write(f"{LATE} newcomer\n")
        assert_right_after_notice(process, "an address of host newcomer")


def test_peer_that_never_comes(start: Start) -> None:
    container = waiting(start, "2")
    for options in ([], ["-oConnectTimeout=1"], ["-oConnectionAttempts=9"]):
        said = waited(container, *options, NEVER, is_there=True)
        assert NEVER.encode() in said and b"Connection refused (tried for 2 s)" in said and said.count(b"\n") == 1
        said = waited(container, *options, "nosuch.invalid")
        assert b"nosuch.invalid" in said and said.count(b"\n") == 1
    refused = ssh(waiting_not(start), NEVER, "true")
    assert refused.status == 255
    assert b"Connection refused" in refused.err and b"tried for" not in refused.err


@pytest.mark.parametrize("image", ["busybox", "debian"])
def test_only_hosts_of_the_job_are_waited_for_long(start: Start, image: str) -> None:
    """Others for ten seconds. After three, ssh says what it waits for."""
    container = waiting(start, "300", image, annotations={"com.hooks.ssh.hosts": "node1,node2.site.example"})
    with started(container, "node2", "true") as long, started(container, "-q", "nosuchhost", "true") as quiet:
        began = time.monotonic()
        other = ssh(container, "nosuchhost", "true")
        assert 10 <= time.monotonic() - began < 11 + within(10)
        notice, error = other.err.splitlines()
        assert notice == b"ssh: waiting up to 10 s for an address of host nosuchhost, which is not a host of this job"
        # The resolver may still be busy when the time is over.
        assert error.startswith((b"ssh: Could not resolve hostname nosuchhost: ", b"ssh: connect to host nosuchhost "))
        assert other.status == 255
        assert b"waiting" not in result(quiet).err
        assert long.poll() is None
        end(long)
        assert result(long).err == b"ssh: waiting up to 300 s for an address of host node2\r\n"


def test_an_address_is_waited_for_long(start: Start) -> None:
    """It may be that of a host of the job."""
    container = waiting(start, "300", annotations={"com.hooks.ssh.hosts": "node1"})
    with started(container, NEVER, "true") as process:
        time.sleep(2)
        end(process)
        said = f"ssh: waiting up to 300 s for an answer from host {NEVER} port {PORT}\r\n"
        assert result(process).err == said.encode()


@pytest.mark.parametrize("image", ["busybox", "debian"])
def test_dead_peers_are_given_up_in_time(start: Start, image: str, silent: str, swallowed: str) -> None:
    """Whatever ConnectTimeout says: an address that swallows all packets, and a server that says nothing."""
    container = waiting(start, "2", image, prepare=programs_of_openssh if image == "debian" else None)
    for options in ([], ["-oConnectTimeout=30"]):
        said = waited(container, *options, swallowed)
        assert swallowed.encode() in said and b"(tried for 2 s)" in said and said.count(b"\n") == 1
        said = waited(container, *options, silent, is_there=True)
        assert said.endswith(f"Connection to {silent} port {PORT} timed out\r\n".encode())


@pytest.fixture(name="mute")
def fixture_mute() -> Iterator[str]:
    """An address at which a server says its version, and then nothing."""

    def greet() -> None:
        with suppress(OSError):  # the end of the test
            while True:
                taken.append(listener.accept()[0])
                taken[-1].sendall(b"SSH-2.0-mute\r\n")

    taken: list[socket.socket] = []
    with socket.create_server(("127.0.7.2", PORT), backlog=64) as listener:
        threading.Thread(target=greet, daemon=True).start()
        yield "127.0.7.2"
        listener.shutdown(socket.SHUT_RDWR)
        for connection in taken:
            connection.close()


def test_dead_peers_beyond_another_host_are_given_up_in_time(start: Start, silent: str, mute: str) -> None:
    """One that says nothing, and one that says its version and then nothing."""
    container = waiting(start, "2")
    for peer in (silent, mute):
        for options in ([], ["-oConnectTimeout=30"]):
            waited(container, "-J", FIRST, *options, peer)


def test_command_on_the_way_ends_with_the_wait(start: Start) -> None:
    """It may be another client, which asks for a password at the user's terminal."""
    container = waiting(start, "1")
    said = ssh(container, "-oConnectTimeout=30", "-oProxyCommand=sleep 1234", NEVER, "true")
    assert said == (255, b"", f"ssh: connect to host {NEVER} port {PORT}: no answer (tried for 1 s)\r\n".encode())
    wait_for(lambda: "sleep 1234" not in container.exec("ps").checked().text, "end of the command")


def test_session_that_lasts_longer_than_the_wait(start: Start) -> None:
    """Nothing ends it: not over a host on the way, nor on a shared connection."""
    container = waiting(start, "3")
    long = "sleep 5; echo right"
    assert ssh(container, FIRST, long) == RIGHT
    assert ssh(container, "-J", FIRST, FIRST, long) == RIGHT
    assert ssh(container, "-M", "-f", "-N", "-S", "/tmp/master", FIRST) == (0, b"", b"")
    assert ssh(container, "-S", "/tmp/master", FIRST, long) == RIGHT
    ssh(container, "-S", "/tmp/master", "-O", "exit", FIRST).checked()


def waited(container: Container, *arguments: str, is_there: bool = False) -> bytes:
    """Return what the client says when it gives a host up, after two seconds.

    On a busy machine they may not be enough to hear of a host that is there, so it is tried again.
    """

    def wait() -> Result:
        before = time.monotonic()
        said = ssh(container, *arguments, "echo wrong")
        assert 2 <= time.monotonic() - before < 2 + within(6)
        assert (said.status, said.out) == (255, b"")
        return said

    return (repeat_while(NO_ANSWER, wait, "waits without an answer") if is_there else wait()).err


def waiting_not(start: Start) -> Container:
    return start("crun", "busybox", settings={"LISTEN_ADDRESSES": LATE}, annotations={"com.hooks.ssh.wait": "0"})


# The image's own client


@pytest.mark.parametrize("by", ["exec ", ""])
@pytest.mark.parametrize("call", ["ssh", "/usr/bin/ssh", "/opt/oci-hooks/ssh/bin/ssh"])
def test_image_client_that_calls_ssh(start: Start, call: str, by: str) -> None:
    """The hook's ssh does not run it again and again: a script that waits for ssh is another process each time."""

    def prepare(root: Path) -> None:
        (root / "usr/bin").mkdir(parents=True)
        (root / "usr/bin/ssh").write_text(f'#!/bin/sh\n{by}{call} "$@"\n', encoding="ascii")
        (root / "usr/bin/ssh").chmod(0o755)

    container = start("crun", "busybox", network="private", prepare=prepare)
    result = ssh(container, "-p", "22", "127.0.0.1", "true")
    assert result.status == 255 and b"port 22: Connection refused" in result.err


def test_image_client_that_the_user_may_not_reach(start: Start) -> None:
    """A link of the image may lead to a file in a directory that only root may enter."""

    def prepare(root: Path) -> None:
        (root / "usr/bin").mkdir(parents=True)
        (root / "srv/bobs").mkdir(parents=True, mode=0o700)
        (root / "srv/bobs/my-ssh").write_text("#!/bin/sh\necho secret\n", encoding="ascii")
        (root / "srv/bobs/my-ssh").chmod(0o4755)
        (root / "usr/bin/ssh").symlink_to("/srv/bobs/my-ssh")

    container = start("crun", "busybox", network="private", prepare=prepare)
    assert not container.path("/opt/oci-hooks/ssh/bin/ssh.image").exists()
    assert container.exec("/opt/oci-hooks/ssh/bin/ssh", "127.0.0.1", "echo right") == RIGHT


# scp and sftp


@pytest.mark.parametrize("name", ["file", "a  b 'c' $x \"\udcff"])
def test_scp_where_no_image_has_one(near: Container, far: Container, name: str) -> None:
    data = os.urandom(300_000)
    near.path("/tmp/sent").write_bytes(data)
    near.path("/tmp/sent").chmod(0o644)
    path = os.fsencode(f"/tmp/{name}")
    assert near.exec("scp", "/tmp/sent", b"far:" + path) == (0, b"", b"")
    assert far.path(f"/tmp/{name}").read_bytes() == data
    assert near.exec("scp", b"alice@far:" + path, b"/tmp/back " + os.fsencode(name)) == (0, b"", b"")
    assert near.path(f"/tmp/back {name}").read_bytes() == data
    assert near.exec("scp", "far:/nosuch", "/tmp/back").status == 1
    far.exec("rm", path).checked()


def test_sftp_where_no_image_has_one(near: Container, far: Container) -> None:
    near.path("/tmp/mine").write_text("mine", encoding="ascii")
    near.path("/tmp/mine").chmod(0o644)
    near.exec("sftp", "-b", "-", "far", stdin=b"put /tmp/mine /tmp/theirs\nget /tmp/theirs /tmp/again\n").checked()
    assert far.path("/tmp/theirs").read_text(encoding="ascii") == "mine"
    assert near.path("/tmp/again").read_text(encoding="ascii") == "mine"
    far.exec("rm", "/tmp/theirs").checked()


def test_the_images_own_stay(start: Start) -> None:
    def prepare(root: Path) -> None:
        (root / "usr/bin").mkdir(parents=True)
        for name in ("scp", "sftp"):
            (root / "usr/bin" / name).write_text("#!/bin/sh\necho own\n", encoding="ascii")
            (root / "usr/bin" / name).chmod(0o755)

    container = start("crun", "busybox", network="private", prepare=prepare)
    assert [container.exec(name).checked().text for name in ("scp", "sftp")] == ["own", "own"]


def scp_works(container: Container) -> bool:
    script = "echo right >/tmp/x && scp 127.0.0.1:/tmp/x /tmp/y && cat /tmp/y && rm /tmp/x /tmp/y"
    return container.exec("/bin/sh", "-c", script) == RIGHT


def test_scp_after_a_restart(start: Start) -> None:
    """The mount point of the first time is there then."""
    container = start("podman-crun", "busybox")
    assert scp_works(container)
    assert isinstance(container, Podman)
    container.podman("restart", "-t0", container.name).checked()
    assert scp_works(container)


def test_scp_with_a_read_only_root(start: Start) -> None:
    options = ["--read-only", "--tmpfs", "/tmp"]
    assert scp_works(start("podman-crun", "busybox", options=options))


def test_session_without_scp_where_none_can_be_shown(start: Start, tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\n", encoding="ascii")
    for path in (tmp_path / "ssh", tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)

    def change(config: dict[str, Any]) -> None:
        mount = {
            "destination": "/usr/bin",
            "type": "bind",
            "source": str(tmp_path),
            "options": ["rbind", "rprivate", "ro"],
        }
        config["mounts"].append(mount)

    container = start("crun", "busybox", network="private", change=change)
    assert container.ssh("echo right") == RIGHT
    assert container.exec("/bin/busybox", "ls", "/usr/bin").checked().text == "ssh"
