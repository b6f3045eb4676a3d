"""What the installed scp and sftp write for a server that lies: modes and paths that it chooses.

The server is a program that stands in for ssh (scp -S, sftp -S): it speaks the old protocol of scp, or SFTP.
The last tests have servers for the installed ssh, and a caller who chooses a user name.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from containers import ALICE, Result, as_user, run
from patience import within

BIN = Path("/opt/oci-hooks/dropbear/bin")
CONTENT = b"from the server"

# One line of the old protocol after another: each is sent when scp has acknowledged the one before.
OLD_SERVER = """\
import os
for message in {messages!r}:
    answer = os.read(0, 1)
    if answer != b"\\0":
        break
    os.write(1, message)
os.read(0, 1)
"""

# A server of SFTP whose files, directories and names are `tree`: path -> (mode, names in it). "/" has the path b"".
# REALPATH of the paths in `real` has another answer than the path. Called for the host "honest", it serves this system.
SFTP_SERVER = """\
import os, struct, sys
if "honest" in sys.argv:
    os.execv({honest!r}, ["sftp-server"])
tree = {tree!r}
real = {real!r}
content = {content!r}
def text(value):
    return struct.pack(">I", len(value)) + value
def attributes(path):
    path = path.rstrip(b"/")
    mode = tree.get(path, (0o100644, []))[0]
    return struct.pack(">IQI", 5, len(content), mode)  # size and mode
def read(size):
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit()
        data += part
    return data
def send(kind, body):
    os.write(1, struct.pack(">IB", len(body) + 1, kind) + body)
handles = {{}}
while True:
    (size,) = struct.unpack(">I", read(4))
    packet = read(size)
    kind = packet[0]
    if kind == 1:  # INIT
        send(2, struct.pack(">I", 3))
        continue
    number, (length,) = packet[1:5], struct.unpack(">I", packet[5:9])
    argument = packet[9 : 9 + length].rstrip(b"/")
    if kind == 16:  # REALPATH
        answer = real.get(argument, argument or b"/")
        send(104, number + struct.pack(">I", 1) + text(answer) * 2 + struct.pack(">I", 0))
    elif kind in (7, 17):  # LSTAT, STAT
        if argument in tree or argument.rpartition(b"/")[0] in tree:
            send(105, number + attributes(argument))
        else:
            send(101, number + struct.pack(">I", 2) + text(b"No such file") + text(b""))
    elif kind in (3, 11):  # OPEN, OPENDIR
        handles[argument] = False
        send(102, number + text(argument))
    elif kind == 12 and not handles[argument]:  # READDIR
        handles[argument] = True
        names = tree[argument][1]
        listing = b"".join(text(name) * 2 + attributes(argument + b"/" + name) for name in names)
        send(104, number + struct.pack(">I", len(names)) + listing)
    elif kind == 5 and struct.unpack(">Q", packet[9 + length : 17 + length])[0] == 0:  # READ
        send(103, number + text(content))
    elif kind in (5, 12):
        send(101, number + struct.pack(">I", 1) + text(b"end") + text(b""))
    else:
        send(101, number + struct.pack(">I", 0) + text(b"") + text(b""))
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A directory that alice may write, in one where the test sees all else that is written."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o111)
    target = tmp_path / "outer" / "target"
    target.mkdir(parents=True)
    for path in (target.parent, target):
        os.chown(path, ALICE, ALICE)
    return target


def serve(tmp_path: Path, text: str) -> Path:
    """Write a server that scp and sftp can start instead of ssh."""
    program = tmp_path / "server"
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(0o755)
    return program


def sftp_server(
    tmp_path: Path, tree: dict[bytes, tuple[int, list[bytes]]], real: dict[bytes, bytes] | None = None
) -> Path:
    honest = str(BIN / "sftp-server")
    return serve(tmp_path, SFTP_SERVER.format(tree=tree, real=real or {}, content=CONTENT, honest=honest))


def download(server: Path, program: str, *arguments: str | Path, uid: int = 0) -> Result:
    command = [str(BIN / program), "-q", "-S", str(server), *map(str, arguments)]
    return run(command if uid == 0 else as_user(uid, *command), cwd=server.parent)


def written(target: Path) -> dict[str, int]:
    """Mode of each file and directory below the parent of `target`, except for `target` itself."""
    outer = target.parent
    return {
        str(path.relative_to(outer)): stat.S_IMODE(path.lstat().st_mode) for path in outer.rglob("*") if path != target
    }


AS = pytest.mark.parametrize("uid", [0, ALICE], ids=["root", "alice"])


def old_server(tmp_path: Path, *lines: bytes) -> Path:
    messages = [line + (CONTENT + b"\0" if line.startswith(b"C") else b"") for line in lines]
    split = [part for message in messages for part in message.splitlines(keepends=True)]
    return serve(tmp_path, OLD_SERVER.format(messages=split))


@AS
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755, 0o7777], ids=oct)
def test_old_protocol_without_p_gives_no_set_uid_file(target: Path, tmp_path: Path, uid: int, mode: int) -> None:
    """CVE-2026-35385, which OpenSSH 10.3 fixed: before, a download by root kept these bits."""
    server = old_server(tmp_path, b"C%04o %d file\n" % (mode, len(CONTENT)))
    download(server, "scp", "-O", "host:file", target, uid=uid).checked()
    assert written(target) == {"target/file": mode & 0o755}
    assert (target / "file").read_bytes() == CONTENT


@AS
def test_old_protocol_without_p_gives_no_set_gid_directory(target: Path, tmp_path: Path, uid: int) -> None:
    server = old_server(tmp_path, b"D6755 0 directory\n", b"C6755 %d file\n" % len(CONTENT), b"E\n")
    download(server, "scp", "-O", "-r", "host:directory", target, uid=uid).checked()
    assert written(target) == {"target/directory": 0o755, "target/directory/file": 0o755}


@AS
def test_old_protocol_onto_a_file_that_exists(target: Path, tmp_path: Path, uid: int) -> None:
    server = old_server(tmp_path, b"C6755 %d file\n" % len(CONTENT))
    (target / "file").write_bytes(b"what was there")
    os.chown(target / "file", uid, uid)
    (target / "file").chmod(0o600)
    download(server, "scp", "-O", "host:file", target, uid=uid).checked()
    assert written(target)["target/file"] & 0o7000 == 0


@pytest.mark.parametrize(("uid", "mode"), [(0, 0o4755), (ALICE, 0o755)], ids=["root", "alice"])
def test_old_protocol_with_p_keeps_the_mode(target: Path, tmp_path: Path, uid: int, mode: int) -> None:
    """As scp(1) says of -p; for others than root the kernel clears the bit when the content is written."""
    server = old_server(tmp_path, b"T1600000000 0 1600000000 0\n", b"C4755 %d file\n" % len(CONTENT))
    download(server, "scp", "-O", "-p", "host:file", target, uid=uid).checked()
    assert written(target) == {"target/file": mode}
    assert (target / "file").stat().st_uid == uid


@AS
@pytest.mark.parametrize("preserve", [(), ("-p",)], ids=["", "p"])
def test_sftp_gives_no_set_uid_file(target: Path, tmp_path: Path, uid: int, preserve: tuple[str, ...]) -> None:
    tree = {b"/d": (0o046755, [b"file"]), b"/d/file": (0o106755, [])}
    server = sftp_server(tmp_path, tree)
    download(server, "scp", *preserve, "host:/d/file", target, uid=uid).checked()
    download(server, "scp", "-r", *preserve, "host:/d", target, uid=uid).checked()
    download(server, "sftp", "-r", *preserve, "host:/d", target / "again", uid=uid).checked()
    modes = written(target)
    assert sorted(modes) == ["target/again", "target/again/file", "target/d", "target/d/file", "target/file"]
    assert not any(mode & 0o7000 for mode in modes.values())


@AS
@pytest.mark.parametrize("name", [b"../file", b"/tmp/file", b"..", b".", b"other", b"a/b"], ids=ascii)
def test_old_protocol_writes_only_what_was_asked_for(target: Path, tmp_path: Path, uid: int, name: bytes) -> None:
    server = old_server(tmp_path, b"C0644 %d %s\n" % (len(CONTENT), name))
    assert download(server, "scp", "-O", "host:file", target, uid=uid).status == 1
    assert written(target) == {}


@AS
@pytest.mark.parametrize("name", [b"../file", b"a/../../file", b"/tmp/hostile-file"], ids=ascii)
@pytest.mark.parametrize("program", ["scp", "sftp"])
def test_a_name_with_a_slash_in_a_listing_is_not_written(
    target: Path, tmp_path: Path, uid: int, name: bytes, program: str
) -> None:
    server = sftp_server(tmp_path, {b"/d": (0o040755, [name])})
    assert b"Server sent suspect path" in download(server, program, "-r", "host:/d", target, uid=uid).err
    assert [path for path in written(target) if path not in ("target/d",)] == []
    assert not Path("/tmp/hostile-file").exists()


@AS
@pytest.mark.parametrize("names", [[b".."], [b"..", b"."]], ids=ascii)
def test_dots_that_match_a_pattern_stay_in_the_target(
    target: Path, tmp_path: Path, uid: int, names: list[bytes]
) -> None:
    """`scp -r host:/d/.* target`: what a server calls `..` goes to the target, not beside it."""
    tree = {b"/d": (0o040755, names), **{b"/d/" + name: (0o040755, [b"file"]) for name in names}}
    server = sftp_server(tmp_path, tree)
    download(server, "scp", "-r", "host:/d/.*", target, uid=uid)
    assert [path for path in written(target) if not path.startswith("target/")] == []


@AS
@pytest.mark.parametrize("way", ["space", "length"])
def test_sftp_of_the_command_line_writes_to_the_place_on_it(target: Path, tmp_path: Path, uid: int, way: str) -> None:
    """CVE-2026-59995: the server's name of the login directory became a part of sftp's own command, of 2,047 bytes."""
    long = b"/".ljust(2047 - len("get /file"), b"d")
    directory = b"/home " + os.fsencode(target.parent) if way == "space" else long
    tree = {b"/home": (0o100644, []), directory: (0o040755, [b"file"])}
    server = sftp_server(tmp_path, tree, {b".": directory})
    download(server, "sftp", "host:file", target, uid=uid).checked()
    assert written(target) == {"target/file": 0o644}


@AS
@pytest.mark.parametrize("names", [[b".."], [b"..", b"."]], ids=ascii)
def test_dots_that_match_a_pattern_stay_in_a_remote_target(
    target: Path, tmp_path: Path, uid: int, names: list[bytes]
) -> None:
    """CVE-2026-59996: in a copy from one remote place to another, what a server called `..` went beside the target."""
    tree = {b"/d": (0o040755, names), **{b"/d/" + name: (0o040755, [b"file"]) for name in names}}
    server = sftp_server(tmp_path, tree)
    download(server, "scp", "-r", "hostile:/d/.*", f"honest:{target}", uid=uid).checked()
    assert written(target) == {"target/file": 0o644}


@AS
@pytest.mark.parametrize(("command", "more"), [("get -r /*", [b""]), ("get -r /", [])], ids=["empty", "slash"])
def test_sftp_of_a_root_directory_writes_below_the_directory_that_it_is_in(
    target: Path, tmp_path: Path, uid: int, command: str, more: list[bytes]
) -> None:
    """CVE-2026-106552: for an empty name in the server's `/`, and for `/`, sftp wrote to its own `/`."""
    parts = [os.fsencode(part) for part in target.parent.parts[1:]]
    tree = {b"".join(b"/" + part for part in parts[:depth]): (0o040755, [parts[depth]]) for depth in range(len(parts))}
    tree |= {b"": (0o040755, [*more, parts[0]]), os.fsencode(target.parent): (0o040755, [b"hostile"])}
    batch = tmp_path / "batch"
    batch.write_text(f"lcd {target}\n{command}\n")
    download(sftp_server(tmp_path, tree), "sftp", "-b", batch, "host", uid=uid)
    names = [path for path in written(target) if path.endswith("hostile")]
    assert names == ["/".join(["target", *target.parent.parts[1:], "hostile"])]


def test_sftp_refuses_an_empty_path(tmp_path: Path) -> None:
    server = sftp_server(tmp_path, {}, {b".": b""})
    done = download(server, "sftp", "host")
    assert (done.status, done.err.splitlines()) == (255, [b'Server sent an empty path for "."', b"Need cwd"])


async def serve_ssh(
    directory: Path, server: type[asyncssh.SSHServer], host_keys: list[asyncssh.SSHKey], **options: Any
) -> tuple[asyncssh.SSHAcceptor, list[str]]:
    """Start a server for the installed ssh; return it and ssh's command, without the user and host."""
    user = asyncssh.generate_private_key("ssh-ed25519")
    accepted = asyncssh.import_authorized_keys(user.export_public_key().decode())
    acceptor = await asyncssh.create_server(
        server, "127.0.0.1", 0, server_host_keys=host_keys, authorized_client_keys=accepted, **options
    )
    port = acceptor.get_port()
    user.write_private_key(directory / "id")
    (directory / "id").chmod(0o600)
    lines = [f"[127.0.0.1]:{port} {key.export_public_key().decode()}" for key in host_keys]
    (directory / "known_hosts").write_text("".join(lines))
    command = [str(BIN / "ssh"), "-F", "none", "-i", str(directory / "id"), "-p", str(port)]
    for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={directory}/known_hosts"):
        command += ["-o", option]
    return acceptor, command


async def change_host_key(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run ssh with a server that has another host key in the second key exchange; ssh knows both keys."""
    keys = [asyncssh.generate_private_key(name) for name in ("ssh-ed25519", "ecdsa-sha2-nistp256")]
    connections: list[Any] = []

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            connections.append(conn)

    async def session(process: asyncssh.SSHServerProcess[str]) -> None:
        (connection,) = connections
        connection._server_host_keys.pop(b"ssh-ed25519")
        connection._server_host_key_algs = list(connection._server_host_keys)
        connection._send_kexinit()
        connection._kexinit_sent = True
        await process.stdin.read()  # ssh ends it by its own packet, after the key exchange
        process.stdout.write(connection._server_host_key.algorithm.decode())
        process.exit(0)

    server, command = await serve_ssh(directory, Server, keys, process_factory=session)
    command += ["-o", "HostKeyAlgorithms=ssh-ed25519,ecdsa-sha2-nistp256", "-o", "LogLevel=ERROR"]
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, "user@127.0.0.1", "command", stdin=pipe, stdout=pipe, stderr=pipe
    )
    deadline = time.monotonic() + within(20)
    while process.returncode is None and time.monotonic() < deadline:
        key = connections[0]._server_host_key if connections else None
        if key is not None and key.algorithm == b"ecdsa-sha2-nistp256":
            break  # the second key exchange has begun, before the end of input
        await asyncio.sleep(0.01)
    out, err = await asyncio.wait_for(process.communicate(), within(20))
    server.close()
    return subprocess.CompletedProcess(command, process.returncode or 0, out.decode(), err.decode())


def test_another_host_key_in_a_later_key_exchange_is_looked_up_by_the_hosts_name(tmp_path: Path) -> None:
    """CVE-2026-60002 (patch 03-host-key-change): the name was freed after the login."""
    done = asyncio.run(change_host_key(tmp_path))
    assert (done.returncode, done.stdout) == (0, "ecdsa-sha2-nistp256"), done.stderr


async def answer_late(directory: Path) -> tuple[str, str]:
    """Add a remote forwarding by ssh's control socket before the server has answered the first.

    Returns the port that the server chose for the first, and the port that ssh reports for it.
    """
    key = asyncssh.generate_private_key("ssh-ed25519")
    asked, added = asyncio.Event(), asyncio.Event()

    class Server(asyncssh.SSHServer):
        async def server_requested(self, listen_host: str, listen_port: int) -> bool:
            asked.set()
            await added.wait()
            return True

    async def watch(log: asyncio.StreamReader) -> str:
        """Read ssh's log: set `added`, and return the port that the server chose for the first forwarding."""
        async for line in log:
            if re.search(rb"channel [0-9]+: request remote forward ", line):
                added.set()  # the array is moved before ssh reads the next packet of the server
            found = re.search(rb"Allocated port ([0-9]+) for remote forward to 127\.0\.0\.1:1\b", line)
            if found:
                return found[1].decode()
        return ""

    async def forward(port: int) -> str:
        while not (directory / "control").exists():
            await asyncio.sleep(0.01)
        arguments = ["-O", "forward", "-R", f"0:127.0.0.1:{port}", "user@127.0.0.1"]
        process = await asyncio.create_subprocess_exec(*command, *arguments, stdout=subprocess.PIPE)
        out, _errors = await process.communicate()
        return out.decode().strip()

    server, command = await serve_ssh(directory, Server, [key])
    command += ["-S", str(directory / "control")]
    arguments = ["-M", "-N", "-o", "LogLevel=DEBUG2", "-R", "0:127.0.0.1:1", "user@127.0.0.1"]
    master = await asyncio.create_subprocess_exec(*command, *arguments, stderr=subprocess.PIPE)
    assert master.stderr is not None
    try:
        chosen = asyncio.create_task(watch(master.stderr))
        await asyncio.wait_for(asked.wait(), within(60))
        assert await asyncio.wait_for(forward(2), within(60)) != ""
        return await asyncio.wait_for(chosen, within(60)), await asyncio.wait_for(forward(1), within(60))
    finally:
        master.kill()
        await master.wait()
        server.close()


def test_a_forwarding_that_is_added_before_an_answer_leaves_the_first_in_its_place(tmp_path: Path) -> None:
    """CVE-2026-73282: the port that the server chose was written to where the first forwarding had been."""
    chosen, reported = asyncio.run(answer_late(tmp_path))
    assert int(chosen) > 0
    assert reported == chosen


async def exchange_keys(directory: Path, algorithm: str) -> Result:
    """Log in with this key exchange."""

    async def session(process: asyncssh.SSHServerProcess[str]) -> None:
        process.exit(0)

    keys = [asyncssh.generate_private_key("ssh-ed25519")]
    server, command = await serve_ssh(
        directory, asyncssh.SSHServer, keys, process_factory=session, kex_algs=[algorithm]
    )
    process = await asyncio.create_subprocess_exec(
        *command, "user@127.0.0.1", "command", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    server.close()
    return Result(process.returncode or 0, out, err)


@pytest.mark.parametrize("algorithm", ["curve25519-sha256", "mlkem768x25519-sha256"])
@pytest.mark.parametrize("point", [None, 0, 1, 2**255 - 20])
def test_points_of_small_order_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, point: int | None
) -> None:
    """X25519: their product with any number is zero, so everybody would know the secret. With None the server's own."""
    if point is not None:
        public = point.to_bytes(32, "little")
        monkeypatch.setattr(asyncssh.crypto.Curve25519DH, "get_public", lambda _self: public)
        monkeypatch.setattr(asyncssh.crypto.Curve25519DH, "get_shared_bytes", lambda _self, _peer: bytes(32))
    done = asyncio.run(exchange_keys(tmp_path, algorithm))
    if point is None:
        assert (done.status, done.out) == (0, b""), done.err
    else:
        assert done.status == 255 and b"invalid elliptic curve value" in done.err, done.err


@pytest.mark.parametrize("name", ["$HOME", "host$", r"domain\name"])
def test_a_user_name_on_the_command_line_has_nothing_that_a_shell_expands(tmp_path: Path, name: str) -> None:
    """CVE-2026-106583: a ProxyCommand with %r passed them to a shell."""
    ran = tmp_path / "ran"
    command: list[str | Path] = [BIN / "ssh", "-F", "none", "-o", f'ProxyCommand=echo "%r" >{ran}']
    for arguments in (["-l", name, "host"], [f"{name}@host"], ["-o", f"User={name}", "host"], [f"ssh://{name}@host"]):
        done = run([*command, *arguments])
        assert (done.status, done.err) == (255, b"remote username contains invalid characters\r\n")
    done = run([BIN / "ssh", "-F", "none", "-J", f"{name}@jump", "host"])
    assert (done.status, b"Invalid -J argument" in done.err) == (255, True), done.err
    assert not ran.exists()


@pytest.mark.parametrize("name", ["host$", r"domain\name"])
def test_a_configuration_may_have_such_user_names(tmp_path: Path, name: str) -> None:
    config = tmp_path / "config"
    config.write_text(f"User {name}\n")
    assert f"\nuser {name}\n" in run([BIN / "ssh", "-F", config, "-G", "host"]).checked().text
