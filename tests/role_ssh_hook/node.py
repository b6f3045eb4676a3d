"""What the tests of the role need: plays against this node, and lists of what is on it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PREFIX = Path("/opt/oci-hooks")
HOOK_JSON = Path("/usr/share/containers/oci/hooks.d/07-ssh-hook.json")
CDI_SPEC = Path("/etc/cdi/ocihooks-ssh.json")
LAUNCHER = PREFIX / "bin/ssh_hook"
PASSWD = PREFIX / "etc/passwd"
PORT = 15263
SETTINGS = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "/usr/bin/python3",
    "dropbear_build_dir": str(ROOT / ".cache/dropbear"),
    "ssh_hook_hosts": "all",
}


class Play(NamedTuple):
    """What a play did: its exit status, how many tasks changed something, and all that it said."""

    status: int
    changed: int
    said: str


def play(
    name: str,
    *arguments: str,
    variables: Mapping[str, object] | None = None,
    before: tuple[str, ...] = (),
    collections: str = "",
    inventory: str = "node,",
    core: Path | None = None,
) -> Play:
    """Run a playbook (a name in playbooks/, or a file beside this one or at a path, without .yml) on this node.

    `before` is a command that runs ansible-playbook as its last arguments, `collections` another place of the
    collection, `core` a virtual environment with another ansible-core. A variable that is None is not set.
    """
    settings = {name: value for name, value in {**SETTINGS, **(variables or {})}.items() if value is not None}
    own = Path(__file__).parent / f"{name}.yml"
    answer = subprocess.run(
        [
            *before,
            core / "bin" / "ansible-playbook" if core else "ansible-playbook",
            f"--inventory={inventory}",
            f"--extra-vars={json.dumps(settings)}",
            *arguments,
            own if own.exists() else f"ocihooks.ssh.{name}",
        ],
        env={
            **os.environ,
            **({"ANSIBLE_COLLECTIONS_PATH": collections} if collections else {}),
            "ANSIBLE_NOCOLOR": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    recaps = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", answer.stdout, re.MULTILINE)
    assert recaps or answer.returncode != 0, answer.stdout
    return Play(answer.returncode, sum(map(int, recaps)), answer.stdout)


def listing(*trees: str) -> dict[str, str]:
    """Kind, mode, owner and content of all that could be changed on this node."""
    found = {}
    for tree in trees or ("/etc", "/opt", "/usr/share/containers", "/var/lib/systemd"):
        for place, directories, files in os.walk(tree):
            for path in [place, *(os.path.join(place, name) for name in [*directories, *files])]:
                status = os.lstat(path)
                content = ""
                if stat.S_ISLNK(status.st_mode):
                    content = os.readlink(path)
                elif stat.S_ISREG(status.st_mode):
                    content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
                found[path] = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {content}"
    return found


def package() -> Path:
    """The directory of the version of the hook that the launcher runs."""
    found = re.search(r'"(.*/lib/ssh_hook-[0-9a-f]{12})"', LAUNCHER.read_text(encoding="utf-8"))
    assert found
    return Path(found[1])
