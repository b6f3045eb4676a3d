"""Who is let in, and whom the container's ssh trusts: another user of the node, an image's author, an impostor."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import openssh
import pytest
from changes import without_home
from containers import ALICE, BOB, PORT, SETTINGS, WORK, Container, Result, as_user, keys, listening, run, wait_for
from patience import within
from programs import with_openssh
from starter import Start

BINARIES = Path(SETTINGS["DROPBEAR_DIR"]) / "bin"
OTHER_PORT = 15999
REFUSED = 255  # by OpenSSH's client
IMAGES = pytest.mark.parametrize("image", ["busybox", "debian"])  # without a client of its own, and with OpenSSH's


def client_of(image: str) -> Callable[[Path], None] | None:
    """What prepares one of IMAGES."""
    return with_openssh if image == "debian" else None


@pytest.fixture
def alices(tmp_path: Path) -> Path:
    """Alice's key as OpenSSH reads it."""
    return openssh.convert(keys() / "id_dropbear", tmp_path / "alices")


@pytest.fixture
def bobs(tmp_path: Path) -> Path:
    """Bob's key as OpenSSH reads it."""
    return openssh.convert(keys("bob") / "id_dropbear", tmp_path / "bobs")


def bobs_line() -> str:
    """What lets bob in."""
    return (keys("bob") / "authorized_keys").read_text(encoding="ascii")


# Another user of the node


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[Path]:
    """A key of alice's that she has replaced since."""
    kept = tmp_path / "kept"
    shutil.copytree(keys(), kept, symlinks=True)
    path = openssh.convert(keys() / "id_dropbear", tmp_path / "earlier")
    run(as_user(ALICE, "/opt/oci-hooks/bin/ssh_hook", "keygen", "--overwrite")).checked()
    yield path
    for entry in kept.iterdir():
        (keys() / entry.name).write_bytes(entry.read_bytes())


def test_no_key_but_the_owners_is_let_in(start: Start, earlier: Path, bobs: Path, tmp_path: Path) -> None:
    present = openssh.convert(keys() / "id_dropbear", tmp_path / "present")
    openssh.new_key(tmp_path / "new")
    start("crun", "busybox")
    assert openssh.login(present, "true").status == 0
    for key in (earlier, bobs, tmp_path / "new"):
        for name in ("alice", "bob", "root", "nobody", "", f"{ALICE}"):
            assert openssh.login(key, "true", user=name).status == REFUSED, (key.name, name)


def test_public_keys_are_all_that_the_server_takes(start: Start) -> None:
    """So there is nothing to try a password with, or no credential at all."""
    start("crun", "busybox")
    command = [*openssh.client(Path("/dev/null"), "-o", "LogLevel=DEBUG1", "-o", "PreferredAuthentications=none")]
    command[command.index("LogLevel=ERROR")] = "LogLevel=DEBUG1"
    result = run([*command, "alice@127.0.0.1", "true"])
    assert result.status == REFUSED
    offered = [line.rpartition(b": ")[2] for line in result.err.splitlines() if b"can continue" in line]
    assert offered == [b"publickey"]


def test_agent_with_anothers_key(start: Start, alices: Path, bobs: Path) -> None:
    start("crun", "busybox")
    tried = [*openssh.client(Path("/none"))[:-2], "alice@127.0.0.1", "true"]  # not IdentitiesOnly
    script = 'ssh-add -q "$0" && "$@"'
    assert run(["ssh-agent", "sh", "-c", script, str(alices), *tried]).status == 0
    assert run(["ssh-agent", "sh", "-c", script, str(bobs), *tried]).status == REFUSED


def test_another_user_reads_no_key(start: Start) -> None:
    """Neither in the key store, nor through the processes of the container, nor in the bundle."""
    container = start("crun", "busybox")
    places = [keys()]
    for pid in (container.init(), container.daemon()):
        root = Path(f"/proc/{pid}/root")
        places += [root / "home/alice/.ssh", root / "opt/oci-hooks/ssh/dropbear/environment"]
        places += [Path(f"/proc/{pid}/{name}") for name in ("environ", "mem", "fd", "map_files")]
    places += [container.bundle() / "ssh_hook.daemon"]
    for place in places:
        assert os.path.lexists(place)
        assert run(as_user(BOB, "cat", str(place), name="bob")).status != 0, place
        assert run(as_user(BOB, "ls", f"{place}/", name="bob")).status != 0, place


# The author of an image


def door(entry: str, home: str = "door") -> Callable[[Path], None]:
    """Prepares an image that has an account with this entry, whose home lets bob in."""

    def prepare(root: Path) -> None:
        uid = 1000 if ":1000:" in entry else ALICE
        ssh = root / home / ".ssh"
        ssh.mkdir(parents=True)
        (ssh / "authorized_keys").write_text(bobs_line(), encoding="ascii")
        for path in (root / home, ssh, ssh / "authorized_keys"):
            os.chown(path, uid, uid)
            path.chmod(0o600 if path.name == "authorized_keys" else 0o700)
        (root / "etc").mkdir(exist_ok=True)
        own = "root:x:0:0::/root:/bin/sh\nalice:x:2001:2001::/home/alice:/bin/sh\n"
        (root / "etc/passwd").write_text(own + entry + "\n", encoding="ascii")

    return prepare


@pytest.mark.parametrize("overlay", ["true", "false"])
@pytest.mark.parametrize("uid", ["2001", "02001", "0000002001", " 2001", "2001 ", "+2001", "4294969297", "0x7d1"])
def test_image_with_a_second_name_for_the_user(start: Start, alices: Path, bobs: Path, uid: str, overlay: str) -> None:
    prepare = door(f"door:x:{uid}:2001::/door:/bin/sh")
    start("crun", "busybox", prepare=prepare, settings={"OVERLAY_MOUNT_HOME_SSH": overlay})
    assert openssh.login(alices, "true").status == 0
    for name in ("door", "alice"):
        assert openssh.login(bobs, "true", user=name).status == REFUSED


@pytest.mark.parametrize("overlay", ["true", "false"])
def test_image_that_names_the_users_home(start: Start, alices: Path, bobs: Path, overlay: str) -> None:
    def prepare(root: Path) -> None:
        door("")(root)
        (root / "etc/passwd").write_text("alice:x:2001:2001::/door:/bin/sh\n", encoding="ascii")

    settings = {"OVERLAY_MOUNT_HOME_SSH": overlay}
    start("crun", "busybox", prepare=prepare, settings=settings, change=without_home)
    assert openssh.login(alices, "true").status == 0
    assert openssh.login(bobs, "true").status == REFUSED


@pytest.mark.parametrize("entry", ["door:x:1000:1000::/door:/bin/sh", "door:x:0:0::/door:/bin/sh"])
def test_image_with_an_account_beside_root(start: Start, bobs: Path, tmp_path: Path, entry: str) -> None:
    def change(config: dict[str, dict[str, object]]) -> None:
        without_home(config)
        config["process"].update(user={"uid": 0, "gid": 0}, env=["HOME=/root", "PATH=/bin"])

    def prepare(root: Path) -> None:
        door(entry)(root)
        if ":0:" in entry:
            run(["chown", "-R", "0:0", root / "door"]).checked()

    start("crun", "busybox", prepare=prepare, change=change)
    roots = openssh.convert(keys("root") / "id_dropbear", tmp_path / "roots")
    assert openssh.login(roots, "true", user="root").status == 0
    for name in ("door", "root", "alice"):
        assert openssh.login(bobs, "true", user=name).status == REFUSED, name
    if ":1000:" in entry:
        assert openssh.login(roots, "true", user="door").status == REFUSED


# An impostor on the port


@contextmanager
def server(port: int, directory: Path, key_type: str = "ecdsa") -> Iterator[Path]:
    """Some server on `port`, with a host key of its own of type `key_type`, that lets alice in, so that a client that
    goes on with it runs its command. Yields its log.
    """
    directory.mkdir(mode=0o755)
    shutil.copy(keys() / "authorized_keys", directory)
    host_key, log = directory / "host_key", directory / "log"
    run([BINARIES / "dropbearkey", "-t", key_type, "-f", host_key]).checked()
    log.touch()
    for path in directory.iterdir():
        os.chown(path, ALICE, ALICE)
        path.chmod(0o600)
    os.chown(directory, ALICE, ALICE)
    options = ["-F", "-E", "-r", str(host_key), "-D", str(directory), "-P", str(directory / "pid")]
    command = as_user(ALICE, str(BINARIES / "dropbear"), *options, "-p", f"127.0.0.1:{port}", "-p", f"127.0.0.2:{port}")
    with log.open("wb") as stream, subprocess.Popen(command, stderr=stream) as process:
        try:
            wait_for((directory / "pid").exists, "the other server's pidfile")
            yield log
        finally:
            process.kill()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that does not exist yet, which alice can reach."""
    path = WORK / "server"
    yield path
    shutil.rmtree(path, ignore_errors=True)


def without_daemon(container: Container) -> None:
    """Kill the container's daemon, so that its port is anybody's."""
    os.kill(container.daemon(), signal.SIGKILL)
    wait_for(lambda: PORT not in listening(), "end of the daemon")


def known(place: Path, *names: str) -> str:
    """Lines for known_hosts that accept the server in `place`."""
    said = run([BINARIES / "dropbearkey", "-y", "-f", place / "host_key"]).checked().text
    key = " ".join(next(line for line in said.splitlines() if line.startswith("ecdsa-")).split()[:2])
    return "".join(f"{name} {key}\n" for name in names)


TRUSTING = [
    [],
    ["-y"],
    ["-y", "-y"],
    ["-yy"],
    ["-o", "StrictHostKeyChecking=no"],
    ["-oStrictHostKeyChecking=no"],
    ["-oStrictHostKeyChecking=accept-new"],
    ["-oUserKnownHostsFile=/dev/null", "-oStrictHostKeyChecking=no"],
    ["-o", "HostKeyAlias=127.0.0.1"],
    ["-p", str(PORT), "-y"],
    [f"-p{PORT}", "-y"],
    ["-l", "alice", "-y", "-y"],
    [f"-oPort={PORT}", "-y"],
    ["-p", str(OTHER_PORT), "-o", f"Port={PORT}", "-y"],
    ["-p", str(OTHER_PORT), "-p", str(PORT), "-y"],
    [f"-yp{PORT}"],
    ["-J", "127.0.0.2", "-y"],
    ["-o", "IdentityFile=none", "-oHostKeyAlgorithms=+ssh-rsa", "-oUserKnownHostsFile=none"],
    ["-oControlPath=none", "-oCanonicalizeHostname=yes", "-oStrictHostKeyChecking=no"],
    [f"-p{PORT}", "-oUser=%u", "-oStrictHostKeyChecking=no"],
    ["-oRevokedHostKeys=none", "-oCheckHostIP=no", "-PTag", "-oTag=x", "-oStrictHostKeyChecking=no"],
    # the port in other words
    ["-p", f"0{PORT}", "-y"],
    [f"-p+{PORT}", "-oStrictHostKeyChecking=no"],
    ["-o", f'Port="{PORT}"', "-y"],
    ["-o", f"Port\t{PORT}", "-oStrictHostKeyChecking=no"],
    ["-o", f'Po"rt" {PORT}', "-oStrictHostKeyChecking=no"],
    # options that a forwarding comes with
    ["-D1080", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null"],
    ["-D1080", "-oNoHostAuthenticationForLocalhost=yes"],
    ["-D1080", "-oKnownHostsCommand=/bin/cat /home/alice/.ssh/known_hosts"],
    ["-D1080", "-oGlobalKnownHostsFile=/home/alice/.ssh/known_hosts", "-oHostKeyAlias=127.0.0.1"],
    ["-D1080", "-oVerifyHostKeyDNS=yes", "-oUpdateHostKeys=yes", "-oCheckHostIP=no"],
    ["-F", "/home/alice/.ssh/trusting"],
    ["-F", "/home/alice/.ssh/trusting", "-p", str(OTHER_PORT), "-p", str(PORT)],
    ["-S", "/tmp/none", "-oStrictHostKeyChecking=off"],
    ["-oHostName=127.0.0.2", "-oStrictHostKeyChecking=no"],
    [f"-oProxyCommand=ssh -W 127.0.0.2:{PORT} 127.0.0.1", "-oStrictHostKeyChecking=no"],
]
HOST_KEYS = {"rsa": "rsa-sha2-256", "ecdsa": "ecdsa-sha2-nistp256"}
IMPOSTORS = ["127.0.0.1", "alice@127.0.0.2", f"ssh://alice@127.0.0.1:{PORT}"]
TRUSTING_FILE = f"""
Port {PORT}
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
NoHostAuthenticationForLocalhost yes
"""


@IMAGES
def test_impostor_is_refused(start: Start, place: Path, image: str) -> None:
    """Whatever is asked for: without a question, with an exit status that tells, and nothing is run or written.

    Alice's own client knows the impostor and would accept it; the one image has OpenSSH, the other has none.
    """
    container = start("crun", image, prepare=client_of(image))
    assert container.ssh("echo right").checked().text == "right"
    without_daemon(container)
    with server(PORT, place) as log:
        mine = known(place, "127.0.0.1", "127.0.0.2", f"[127.0.0.2]:{PORT}")
        for name, text in (("known_hosts", mine), ("config", TRUSTING_FILE), ("trusting", TRUSTING_FILE)):
            write = f"umask 077; cat >/home/alice/.ssh/{name}"
            container.exec("/bin/sh", "-c", write, stdin=text.encode()).checked()
        sentences: set[bytes] = set()
        for options in TRUSTING:
            for host in IMPOSTORS:
                result = container.exec("ssh", *options, host, "echo wrong", stdin=b"y\nyes\n" * 5)
                assert result.status != 0, (options, host)
                assert result.out == b"", (options, host)
                assert b"y/n" not in result.err and b"yes/no" not in result.err, (options, host)
                assert b"known_hosts" not in result.err, (options, host)
                sentences.add(result.err)
        said = container.exec("cat", "/home/alice/.ssh/known_hosts").checked().text + "\n"
        assert said == mine
        assert b"auth succeeded" not in log.read_bytes()
        # -y sends it to syslog, and at the other port is nobody.
        told = [said for said in sentences if said and b"Connection refused" not in said]
        assert told
        assert all(b"not your container, or one that started before your keys changed" in said for said in told)
    assert not Path("/home/alice/.ssh/known_hosts").exists()


@pytest.mark.parametrize("key_type", ["ed25519", "ecdsa", "rsa"])
@IMAGES
def test_impostor_with_any_type_of_host_key_is_refused(start: Start, place: Path, image: str, key_type: str) -> None:
    """Of the types that the user's containers have, and of another one."""
    container = start("crun", image, prepare=client_of(image))
    without_daemon(container)
    with server(PORT, place, key_type) as log:
        for options in ([], ["-y"], ["-D1080"], ["-oStrictHostKeyChecking=no", "-oHostKeyAlgorithms=+ssh-rsa"]):
            result = container.exec("ssh", *options, "127.0.0.1", "echo wrong", stdin=b"y\nyes\n" * 5)
            assert result.status != 0, options
            assert result.out == b"", options
        assert b"auth succeeded" not in log.read_bytes()


def test_own_containers_are_known_under_every_name(start: Start) -> None:
    """They share a host key, and there is nothing to ask or to say."""
    container = start("crun", "busybox")
    for host in ("127.0.0.1", "127.0.0.3", "alice@127.0.0.1"):
        for options in ([], ["-p", str(PORT)]):
            result = container.exec("ssh", *options, host, "echo right")
            assert (result.status, result.out, result.err) == (0, b"right\n", b"")
    assert container.exec("cat", "/home/alice/.ssh/known_hosts").status != 0


# Other ports

IMAGES_OWN = '#!/bin/sh\nprintf "[%s]" "$@"\nexit 7\n'


@pytest.mark.parametrize("place_of_port", ["first", "last", "joined"])
def test_other_users_and_port_22_are_for_the_images_own_client(start: Start, place_of_port: str) -> None:
    def prepare(root: Path) -> None:
        (root / "usr/bin").mkdir(parents=True)
        (root / "usr/bin/ssh").write_text(IMAGES_OWN, encoding="ascii")
        (root / "usr/bin/ssh").chmod(0o755)

    container = start("crun", "busybox", prepare=prepare)
    port = {
        "first": ["-p", str(OTHER_PORT), "-4"],
        "last": ["-4", "-p", str(OTHER_PORT)],
        "joined": [f"-p{OTHER_PORT}"],
    }
    for arguments in (
        [*port[place_of_port], "bob@host", "a   b", "*", "", "$HOME"],
        ["-oUser=bob", "host", "true"],
        ["git@host", "git-upload-pack 'a b'"],
        ["-p22", "host", "true"],
        ["ssh://host:22", "true"],
    ):
        result = container.exec("ssh", *arguments)
        assert (result.status, result.text) == (7, "".join(f"[{argument}]" for argument in arguments))
    assert container.ssh("echo right").checked().text == "right"


def test_other_port_by_openssh(start: Start, place: Path, alices: Path) -> None:
    """It has options of its own, and writes into the user's own known_hosts, as everywhere else."""

    def prepare(root: Path) -> None:
        with_openssh(root)
        shutil.copy(alices, root / "opt/key")
        os.chown(root / "opt/key", ALICE, ALICE)

    container = start("crun", "debian", prepare=prepare)
    with server(OTHER_PORT, place):
        options = ["-F", "none", "-i", "/opt/key", "-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes"]
        command = ["ssh", *options, "-p", str(OTHER_PORT), "127.0.0.1"]
        assert container.exec(*command, "echo there; exit 5").status == 5
        assert container.exec(*command, "echo there").checked().text == "there"
        mine = container.exec("cat", "/home/alice/.ssh/known_hosts").checked().text
        assert f"[127.0.0.1]:{OTHER_PORT} " in mine
        assert container.exec("ssh", "-p", str(OTHER_PORT), "-o", "BatchMode=yes", "127.0.0.2", "true").status == 255
    assert container.ssh("echo right").checked().text == "right"


def test_other_port_without_a_client_in_the_image(start: Start, place: Path) -> None:
    """The server's key is the user's to accept, and to keep in known_hosts; the user's key for containers is tried."""
    container = start("crun", "busybox")
    with server(OTHER_PORT, place) as log:
        command = ["ssh", "-p", str(OTHER_PORT)]
        strict = ["-o", "StrictHostKeyChecking=yes"]
        assert container.exec(*command, *strict, "alice@127.0.0.1", "echo there").status != 0
        new = ["-o", "StrictHostKeyChecking=accept-new"]
        assert container.exec(*command, *new, "alice@127.0.0.1", "echo there").checked().text == "there"
        assert container.exec(*command, *strict, "alice@127.0.0.1", "echo there").checked().text == "there"
        assert log.read_bytes().count(b"auth succeeded") == 2  # as an impostor's log must not say
        mine = container.exec("cat", "/home/alice/.ssh/known_hosts").checked().text + "\n"
        assert mine.startswith(f"[127.0.0.1]:{OTHER_PORT} ecdsa-sha2-nistp256 ")


@pytest.mark.parametrize("key_type", ["rsa", "ecdsa"])
def test_other_port_with_what_old_servers_and_users_have(
    start: Start, place: Path, tmp_path: Path, key_type: str
) -> None:
    """Keys of the types that OpenSSL computes, of the host and of the user, and an old key exchange."""
    container = start("crun", "busybox")
    run(["ssh-keygen", "-q", "-t", key_type, "-N", "", "-f", tmp_path / "key"]).checked()
    mine = container.path("/tmp/key")
    shutil.copy(tmp_path / "key", mine)
    os.chown(mine, ALICE, ALICE)
    options = ["-i", "/tmp/key", "-oIdentitiesOnly=yes", "-oStrictHostKeyChecking=accept-new", "-v"]
    old = ["-oKexAlgorithms=diffie-hellman-group14-sha256", f"-oHostKeyAlgorithms={HOST_KEYS[key_type]}"]
    with server(OTHER_PORT, place, key_type):
        (place / "authorized_keys").write_bytes((tmp_path / "key.pub").read_bytes())
        result = container.exec("ssh", *options, *old, "-p", str(OTHER_PORT), "127.0.0.1", "echo there").checked()
    assert result.out == b"there\n"
    assert b"kex: algorithm: diffie-hellman-group14-sha256" in result.err
    assert b"Server accepts key: /tmp/key" in result.err


@IMAGES
def test_another_port_of_ones_own(start: Start, image: str) -> None:
    """Two containers of a user on one node, each with a port: no question, and nothing to configure."""
    here = start("crun", image, prepare=client_of(image))
    start("crun", "busybox", annotations={"com.hooks.ssh.port": str(OTHER_PORT)})
    port = str(OTHER_PORT)
    for_other_places = b"GSSAPIAuthentication yes\nUnknown whatever\n"
    here.exec("/bin/sh", "-c", "umask 077; cat >~/.ssh/config", stdin=for_other_places).checked()
    script = f"""
        ssh -p {port} 127.0.0.1 'echo $SSH_CONNECTION' && echo sent >/tmp/sent &&
        scp -q -P {port} /tmp/sent 127.0.0.1:/tmp/theirs && scp -q -P {port} 127.0.0.1:/tmp/theirs /tmp/back &&
        echo 'get /tmp/theirs /tmp/again' | sftp -q -P {port} -b - 127.0.0.1 >/tmp/said &&
        cat /tmp/back /tmp/again && rm /tmp/sent /tmp/back /tmp/again /tmp/said
    """
    result = here.exec("/bin/sh", "-c", script).checked()
    connection, *copies = result.text.split("\n")
    assert connection.endswith(f" {port}") and copies == ["sent", "sent"]
    assert result.err == b""
    assert here.exec("cat", "/home/alice/.ssh/known_hosts").status != 0, "nothing is written"


@IMAGES
def test_own_container_at_a_port_that_the_site_names(start: Start, image: str) -> None:
    """It needs nothing of the user's known_hosts, and no option."""
    here = start("crun", image, prepare=client_of(image), settings={"CONTAINER_PORTS": str(OTHER_PORT)})
    start("crun", "busybox", annotations={"com.hooks.ssh.port": str(OTHER_PORT)})
    result = here.exec("ssh", "-oStrictHostKeyChecking=yes", "-p", str(OTHER_PORT), "127.0.0.1", "echo right")
    assert (result.status, result.out, result.err) == (0, b"right\n", b"")


@IMAGES
def test_impostor_at_a_port_that_the_site_names(start: Start, place: Path, image: str) -> None:
    """The site's own port, where the container has another, and those of CONTAINER_PORTS."""
    ports = (PORT, OTHER_PORT)
    container = start(
        "crun",
        image,
        prepare=client_of(image),
        annotations={"com.hooks.ssh.port": str(PORT + 1)},
        settings={"CONTAINER_PORTS": f"{OTHER_PORT},{OTHER_PORT + 1}"},
    )
    for port in ports:
        with server(port, place) as log:
            result = container.exec("ssh", "-oStrictHostKeyChecking=no", "-p", str(port), "127.0.0.1", "echo wrong")
            assert (result.status, result.out) == (255, b"")
            assert b"not your container, or one that started before your keys changed" in result.err
            assert b"known_hosts" not in result.err
            assert b"auth succeeded" not in log.read_bytes()
        shutil.rmtree(place)


@IMAGES
@pytest.mark.parametrize("port", [22, OTHER_PORT])
def test_no_question_without_a_terminal(start: Start, place: Path, image: str, port: int) -> None:
    """At port 22 an image's own client answers, where there is one."""
    container = start("crun", image, prepare=client_of(image))
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    as_it_was = first.read_text(encoding="ascii")
    first.write_text("22", encoding="ascii")
    with server(port, place):
        first.write_text(as_it_was, encoding="ascii")
        for command in (
            "ssh -p PORT HOST true",
            "scp -P PORT /bin/sh HOST:/tmp",
            "sftp -P PORT -b /bin/sh HOST",
        ):
            command = command.replace("PORT", str(port)).replace("HOST", "127.0.0.1")
            before = time.monotonic()
            stdin = "/tmp/never"  # opened for both, so that nobody reads its end
            result = container.exec("/bin/sh", "-c", f"rm -f {stdin}; mkfifo {stdin} && {command} <>{stdin}")
            assert time.monotonic() - before < within(10), command
            assert b"Host key verification failed" in result.err
            # A copier that writes to ssh after its end is killed, which it is on a busy machine alone.
            assert result.status in (255, 128 + signal.SIGPIPE)


def test_results_are_those_of_the_client(start: Start) -> None:
    result: Result = start("crun", "busybox").exec("ssh", "127.0.0.1", "cat; exit 9", stdin=b"\0\xff")
    assert (result.status, result.out) == (9, b"\0\xff")
