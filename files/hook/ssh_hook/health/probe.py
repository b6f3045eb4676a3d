# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook doctor --node --probe USER``: start a container of the user's, log in to it from inside, and remove it.

It needs no image and no network: the container has the node's shell and libraries, read-only, and its network namespace
has only a loopback device.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time

from ..errors import ARGUMENTS_WRONG, DAEMON_FAILED, INSTALL_DAMAGED, HookError, printable
from ..keys import passwd
from ..log import ERROR
from ..oci import container_paths
from ..oci.annotations import ENABLED, LOG_LEVEL, USER
from ..oci.settings import Settings
from ..schedulers.bounded_output import TooLongError, last_line, output
from .checks import OK, Result

DEADLINE = 60.0  # seconds, of which half is for the container; it needs about one
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")  # links to the last two, if the node has a merged /usr
_MAX_OUTPUT = 1 << 16  # bytes


def probe(name: str, values: dict[str, str]) -> Result:
    """Return OK if the user `name` can log in to a new container. Raises HookError and OSError."""
    user = _find(name, Settings(values).passwd_file)
    podman = shutil.which("podman")
    if podman is None:
        raise HookError(INSTALL_DAMAGED, "--probe needs podman, which is not in PATH: install it, or omit --probe")
    root = tempfile.mkdtemp(prefix="ssh_hook-probe-", dir="/run")
    try:
        os.chmod(root, 0o755)
        container = f"ssh_hook-probe-{secrets.token_hex(4)}"
        command = [podman, "run", "--rm", "--name", container, "--network", "none", "--security-opt", "label=disable"]
        command += ["--user", f"{user.uid}:{user.gid}", "--env", "HOME=/", *_shared(root)]
        # Without warnings: no other node is to reach the container.
        asked = {ENABLED: "true", USER: user.name, LOG_LEVEL: str(ERROR)}
        for key, value in asked.items():
            command += ["--annotation", f"{key}={value}"]
        started = time.monotonic()
        try:
            session = [f"{container_paths.BASE}/bin/ssh", "localhost", "true"]
            _out, error, status = output([*command, "--rootfs", root, *session], started + DEADLINE / 2, _MAX_OUTPUT)
        except (TimeoutError, TooLongError):
            removal = [podman, "rm", "--force", "--time", "0", "--ignore", container]
            output(removal, time.monotonic() + DEADLINE / 4, _MAX_OUTPUT)
            error, status = f"no answer within {DEADLINE / 2:.0f} s", -1
        if status != 0:
            reason = last_line(error, "no message")
            raise HookError(
                DAEMON_FAILED,
                f"{user.name} cannot log in to a new container (status {status}, '{reason}'): run 'ssh_hook why' and "
                "journalctl -t ssh_hook -n 5",
            )
        return OK, f"{user.name} logged in to a new container, in {time.monotonic() - started:.1f} s"
    finally:
        shutil.rmtree(root)  # empty directories and links: mounts are in the container's namespace


def _find(name: str, passwd_file: str) -> passwd.Entry:
    """Return the entry of the user `name` in PASSWD_FILE. Raises HookError and OSError."""
    with open(passwd_file, "rb") as file:
        for entry in passwd.iterate(file.read()):
            if entry.name == name:
                return entry
    raise HookError(ARGUMENTS_WRONG, f"--probe: {printable(name)} is not in {passwd_file}: give a user who is")


def _shared(root: str) -> list[str]:
    """Return podman's options that mount the node's shell and libraries, read-only; make links in `root` to these.

    The rest of /usr is the container's own, since the hook needs a mount point /usr/bin/ssh.
    """
    options = ["--volume", "/bin/sh:/bin/sh:ro"]
    for path in _LIBRARIES:
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            options += ["--volume", f"{path}:{path}:ro"]
    return options
