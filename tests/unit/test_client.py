"""The container's ssh, as the shells run it: what goes to a container, and what to the image's own client."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ssh_hook import client, content

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
KEY = "/home/o'brien/.ssh/id_dropbear"
PINNED = [
    *(
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "HostKeyAlias=oci-hooks",
        "-o",
        f"UserKnownHostsFile={client.KNOWN_HOSTS}",
    ),
    *("-p", "2222", "-i", KEY, "-l", "o'brien"),
]


class Client:
    """The script, with programs that tell how they were called."""

    def __init__(self, shell: list[str], directory: Path) -> None:
        self._shell = shell
        self._directory = directory
        text = client.script(2222, KEY, "o'brien", ["o'brien", "the guest"])
        for name, path in (("dbclient", f"{content.DROPBEAR}/bin/dbclient"), ("own", client.OWN_CLIENT)):
            program = directory / name
            program.write_text(f"#!/bin/sh\nprintf '%s\\0' {name} \"$@\"\n", encoding="ascii")
            program.chmod(0o755)
            text = text.replace(path.encode(), os.fsencode(program))
        (directory / "ssh").write_bytes(text)

    def remove_own(self) -> None:
        (self._directory / "own").unlink()

    def __call__(self, *arguments: str) -> list[str]:
        command = [*self._shell, str(self._directory / "ssh"), *arguments]
        result = subprocess.run(command, capture_output=True, check=True, text=True)
        assert result.stderr == ""
        return result.stdout.split("\0")[:-1]


@pytest.fixture(params=SHELLS, name="ssh")
def _ssh(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    return Client(SHELLS[request.param], tmp_path)


TO_A_CONTAINER = [
    ["host"],
    ["host", "command"],
    ["o'brien@host", "true"],
    ["the guest@host"],
    ["-l", "the guest", "host"],
    ["-p", "2222", "host"],
    ["-p2222", "host"],
    ["-vp", "2222", "host"],
    ["-oPort=2222", "host"],
    ["-o", "port 2222", "host"],
    ["-o", "User = o'brien", "host"],
    ["host", "-p", "2222", "command"],
    ["-xTn", "-o", "StrictHostKeyChecking=no", "-y", "host"],
    ["-o", "ProxyCommand=nc -p 22 host", "host"],
    ["host", "ssh", "-p", "22", "other"],
    ["host", "--", "-p", "22"],
    ["::1"],
    ["host/2222"],
    ["-p", "2222", "-p", "22", "host"],
    ["-p", "22", "-oPort=2222", "host"],
    ["-p", "22", "o'brien@host^2222"],
    ["-4", "--", "host", "echo 'a   b' '*'", "", "$(id)", "a\nb"],
]
TO_ANOTHER = [
    [],
    ["-V"],
    ["-Q", "cipher"],
    ["-p", "22", "host"],
    ["-p22", "host"],
    ["-Cp22", "host"],
    ["host", "-p", "22"],
    ["-o", "Port=22", "host"],
    ["-oport=22", "host"],
    ["git@host", "git-upload-pack 'x'"],
    ["-l", "git", "host"],
    ["-o", "User=git", "host"],
    ["host", "-l", "git"],
    ["*@host"],
    ["ssh://host:22"],
    ["host/22"],
    ["host^22"],
    ["first,second"],
]


@pytest.mark.parametrize("arguments", TO_A_CONTAINER, ids=str)
def test_to_a_container(ssh: Client, arguments: list[str]) -> None:
    assert ssh(*arguments) == ["dbclient", *PINNED, *arguments]


@pytest.mark.parametrize("arguments", TO_ANOTHER, ids=str)
def test_to_anything_else(ssh: Client, arguments: list[str]) -> None:
    assert ssh(*arguments) == ["own", *arguments]


def test_without_a_client_of_the_images_own(ssh: Client) -> None:
    ssh.remove_own()
    assert ssh("-p", "22", "host") == ["dbclient", "-p", "22", "host"]


def test_known_hosts_has_one_name_for_all_containers() -> None:
    assert client.known_hosts("ssh-ed25519 AAAA") == b"oci-hooks ssh-ed25519 AAAA\n"
