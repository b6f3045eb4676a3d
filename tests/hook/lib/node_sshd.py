"""OpenSSH's sshd on the bed, as on a compute node of a cluster, from the tree of the image `openssh`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from containers import ALICE, IMAGES, run, wait_for

PORT = 2223
DIRECTORY = Path("/run/node-sshd")
_CONFIGURATION = f"""Port {PORT}
ListenAddress 127.0.0.1
HostKey {DIRECTORY}/host_key
AuthorizedKeysFile {DIRECTORY}/%u.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile {DIRECTORY}/pid
"""
# The machine may lack sshd and its libraries: they come into its /usr in the mount namespace of sshd alone, which gets
# what is mounted on the node later.
_START = """mount -t overlay -o "lowerdir=/usr:$1" overlay /usr && exec /usr/sbin/sshd -D -e -f "$2" """


@contextlib.contextmanager
def running_sshd(*users: str) -> Iterator[str]:
    """Run sshd, which lets these users in by a key of theirs; yields lines of ssh_config(5) by which they come here."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(mode=0o755)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    if run(["getent", "passwd", "sshd"]).status != 0:
        run(["useradd", "--system", "--home-dir", "/run/sshd", "--shell", "/usr/sbin/nologin", "sshd"]).checked()
    for name in ("host_key", *users):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", DIRECTORY / name]).checked()
    for user in users:
        run(["usermod", "--password", "*", user]).checked()  # sshd lets nobody in whose account is locked ("!")
        shutil.chown(DIRECTORY / user, user, user)
    (DIRECTORY / "config").write_text(_CONFIGURATION, encoding="ascii")
    tree = (IMAGES / "openssh.rootfs").resolve() / "usr"
    with (DIRECTORY / "log").open("wb") as log:
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "slave",
            "sh",
            "-c",
            _START,
            "sh",
            str(tree),
            str(DIRECTORY / "config"),
        ]
        process = subprocess.Popen(command, stderr=log, stdout=log, stdin=subprocess.DEVNULL)
    try:
        wait_for((DIRECTORY / "pid").exists, "sshd")
        yield (
            f"    HostName 127.0.0.1\n    Port {PORT}\n    IdentityFile {DIRECTORY}/%u\n"
            f"    UserKnownHostsFile {DIRECTORY}/known_hosts\n    StrictHostKeyChecking no\n"
        )
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(DIRECTORY)
        assert os.path.ismount("/usr") is False


@contextlib.contextmanager
def configured(directory: Path, node: str, lines: str) -> Iterator[None]:
    """Run the sshd, and have alice's ssh, whose `directory` this is, find it as `node`; `lines` come first there."""
    directory.mkdir(mode=0o700, exist_ok=True)
    before = set(directory.iterdir())
    with running_sshd("alice", "bob") as way:
        (directory / "config").write_text(f"{lines}\nHost {node}\n{way}", encoding="ascii")
        for path in (directory, directory / "config", DIRECTORY):
            os.chown(path, ALICE, ALICE)
        yield
    for path in set(directory.iterdir()) - before:
        path.unlink()
