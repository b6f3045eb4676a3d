"""What goes through a session: bytes, arguments, exit statuses."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import openssh
import pytest
from containers import Container, keys
from patience import within
from starter import Start


@pytest.fixture(scope="module", params=["debian", "busybox"])
def container(request: pytest.FixtureRequest, start_shared: Start) -> Container:
    return start_shared("crun", request.param, network="private")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path_factory.mktemp("keys") / "id")


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_exit_status(container: Container, status: int) -> None:
    assert container.ssh(f"exit {status}").status == status


def test_standard_streams_are_exact(container: Container) -> None:
    data = os.urandom(3_000_000)
    result = container.ssh("cat; echo to stderr >&2", stdin=data).checked()
    assert hashlib.sha256(result.out).digest() == hashlib.sha256(data).digest()
    assert result.err.endswith(b"to stderr\n")


def test_end_of_input_arrives(container: Container) -> None:
    assert container.ssh("wc -c").checked().text.strip() == "0"


@pytest.mark.parametrize(
    "command",
    [
        b"printf %s 'a   b' '*'",
        b"printf %s \"$HOME\" '$HOME' '`id`'",
        b"printf %s '\xff\xfe\xc3\xa4'",
        b"printf %s 'line\none'",
        b"printf %s \\\\ \"'\" '\"'",
        b"printf '[%s]' -n -e -- ''",
    ],
)
def test_command_is_byte_exact(container: Container, command: bytes) -> None:
    directly = container.exec("/bin/sh", "-c", command).checked()
    assert container.ssh(command).checked().out == directly.out


def test_arguments_are_joined_by_single_blanks(container: Container) -> None:
    assert container.ssh("echo", "'a   b'", "'*'").checked().text == "a   b *"


LONGEST = 131071  # bytes: what Linux gives to a program as one argument


@pytest.mark.parametrize("size", [9001, 40000, LONGEST])
def test_long_command(container: Container, key: Path, size: int) -> None:
    halves = ["echo fine; :", "x" * (size // 2)]  # one argument alone may not be as long
    halves.append("y" * (size - len(" ".join(halves)) - 1))
    assert len(" ".join(halves)) == size
    assert container.ssh(*halves).checked().text == "fine"
    assert openssh.login(key, *halves, container=container).checked().text == "fine"


def test_command_that_is_too_long(container: Container, key: Path) -> None:
    halves = ["echo fine; :", "x" * 70000, "y" * 61060]
    result = container.ssh(*halves)
    assert (result.status, result.out) == (255, b"")
    assert f"more than {LONGEST}".encode() in result.err
    result = openssh.login(key, *halves, container=container)
    assert (result.status, result.out) == (255, b"")


def test_openssh_client(container: Container, key: Path) -> None:
    result = openssh.login(key, "cat; exit 9", container=container, stdin=b"\0\1\2")
    assert (result.status, result.out) == (9, b"\0\1\2")


def test_several_sessions_at_once(container: Container) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do ssh 127.0.0.1 echo $i & done; wait"
    assert sorted(container.exec("/bin/sh", "-c", script).checked().text.split()) == list("12345678")


def test_login_name_is_the_users_also_for_others_hosts(container: Container) -> None:
    assert container.ssh("id -un").checked().text == "alice"
    assert container.ssh("id -un", host="alice@127.0.0.1").checked().text == "alice"


def test_another_user_is_shut_out(container: Container, tmp_path: Path) -> None:
    bobs = openssh.convert(keys("bob") / "id_dropbear", tmp_path / "id")
    for user in ("bob", "alice", "root"):
        assert openssh.login(bobs, "true", container=container, user=user).status == 255


def test_owner_logs_in_as_nobody_else(container: Container, key: Path) -> None:
    assert openssh.login(key, "true", container=container, user="root").status == 255


def test_pty(container: Container, key: Path) -> None:
    command = [*openssh.client(key, "-tt"), "alice@127.0.0.1", "tty; exit 3"]
    with subprocess.Popen(
        ["nsenter", "--net", "--target", str(container.init()), *command],
        stdin=subprocess.PIPE,  # at its end the server hangs up
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as client:
        assert client.stdout is not None
        lines = client.stdout.read().decode().split("\r\n")
        assert client.wait(within(10)) == 3
    assert lines[0].startswith("/dev/pts/")
