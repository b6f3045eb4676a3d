"""Containers in a network, each with our daemon and OpenSSH's sshd, for the same user and with the same keys.

sshd runs as that user too, as its container's first process, without PAM and with no limit that matters here: it does
no more than our daemon.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openssh
from containers import ALICE, Plain, keys, plain_start, run, wait_for

HERE = Path(__file__).resolve().parent
NETWORK = "10.99.0"
BRIDGE = "bench"
SSHD_PORT = 2222
PLACE = "/bench"  # in the containers
SSHD_CONFIG = f"""
Port {SSHD_PORT}
HostKey {PLACE}/host_key
AuthorizedKeysFile {PLACE}/authorized_keys
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
MaxStartups 1000
MaxSessions 1000
PerSourcePenalties no
PidFile none
"""
SSH_CONFIG = f"""
Port {SSHD_PORT}
IdentityFile {PLACE}/id
IdentitiesOnly yes
BatchMode yes
HostKeyAlias bench
StrictHostKeyChecking yes
UserKnownHostsFile {PLACE}/known_hosts
GlobalKnownHostsFile /dev/null
"""
OPENSSH = [f"{PLACE}/bin/ssh", "-F", f"{PLACE}/ssh_config"]


def address(number: int) -> str:
    """The address of the container with this number, from 1 on."""
    return f"{NETWORK}.{number}"


def prepare(root: Path) -> None:
    """Put the peer's configuration and our programs into a container's file system; its own ssh aside, for ours covers
    it.
    """
    place = root / PLACE.lstrip("/")
    (place / "bin").mkdir(parents=True)
    shutil.copy(root / "usr/bin/ssh", place / "bin/ssh")
    for program in ("clock.py", "tcp.py"):
        shutil.copy(HERE / program, place)
    (place / "sshd_config").write_text(SSHD_CONFIG, encoding="utf-8")
    (place / "ssh_config").write_text(SSH_CONFIG, encoding="utf-8")
    shutil.copy(keys() / "authorized_keys", place)
    openssh.convert(keys() / "id_dropbear", place / "id")
    openssh.convert(keys() / "dropbear_ed25519_host_key", place / "host_key")
    public = run(["ssh-keygen", "-y", "-f", place / "host_key"]).checked().text
    (place / "known_hosts").write_text(f"bench {public}\n", encoding="utf-8")
    for path in place.iterdir():
        os.chown(path, ALICE, ALICE)


def run_sshd(config: dict[str, Any]) -> None:
    """Make sshd a container's process."""
    config["process"]["args"] = ["/usr/sbin/sshd", "-D", "-e", "-f", f"{PLACE}/sshd_config"]


def connect(pid: int, number: int) -> None:
    """Give the network of a process its address and a cable to the bridge."""
    near = f"{BRIDGE}{number}"
    wait_for(lambda: run(["ip", "link", "show", near]).status != 0, f"end of the earlier {near}")
    run(["ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", str(pid)]).checked()
    run(["ip", "link", "set", near, "master", BRIDGE, "up"]).checked()
    enter = ["nsenter", "--net", "--target", str(pid), "ip"]
    run([*enter, "address", "add", f"{address(number)}/24", "dev", "eth0"]).checked()
    run([*enter, "link", "set", "eth0", "up"]).checked()


def answers(container: Plain) -> bool:
    """Does sshd listen?"""
    lines = Path(f"/proc/{container.init()}/net/tcp").read_text(encoding="ascii").splitlines()
    return any(f":{SSHD_PORT:04X} " in line for line in lines)


@contextmanager
def containers(count: int) -> Iterator[list[Plain]]:
    """So many containers of alice's; the first has the address 1."""
    started: list[Plain] = []
    run(["ip", "link", "add", BRIDGE, "type", "bridge"]).checked()
    run(["ip", "link", "set", BRIDGE, "up"]).checked()
    try:
        for number in range(1, count + 1):
            container = plain_start("crun", "openssh", prepare=prepare, change=run_sshd, network="private")
            started.append(container)
            connect(container.init(), number)
        wait_for(lambda: all(map(answers, started)), "sshd in each container")
        yield started
    finally:
        for container in started:
            container.remove()
        run(["ip", "link", "delete", BRIDGE]).checked()


class Clock:
    """Times commands in a container."""

    def __init__(self, container: Plain) -> None:
        command = ["crun", "exec", container.name, "python3", "-B", f"{PLACE}/clock.py"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, *commands: list[str]) -> float:
        """The time from the start of all these commands to the end of the last one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(commands), file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """No more commands."""
        self._process.communicate()


@contextmanager
def clock(container: Plain) -> Iterator[Clock]:
    """A clock in a container."""
    opened = Clock(container)
    try:
        yield opened
    finally:
        opened.close()
