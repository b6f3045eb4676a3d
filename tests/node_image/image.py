"""The image of a node, which is a directory of this machine, and plays against it."""

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
CACHE = ROOT / ".cache" / "node-image"
IMAGES = ROOT / ".cache" / "images"
TREE = CACHE / "tree"
NAME = "compute-image"
ANSIBLE_OWN = "/root/.ansible"  # where Ansible keeps its temporary files on a host

# As in the admin guide: only hosts of this group are directories, and not the controller, which has the programs built.
INVENTORY: dict[str, object] = {
    "hosts": {NAME: {"ansible_host": str(TREE)}},
    "vars": {"ansible_connection": "community.general.chroot"},
}
SETTINGS = {"dropbear_build_dir": str(ROOT / ".cache" / "dropbear")}


class Play(NamedTuple):
    """What a play did: its exit status, how many tasks changed something, and all that it said."""

    status: int
    changed: int
    said: str


def play(
    name: str,
    *arguments: str,
    inventory: Mapping[str, object] | None = None,
    variables: Mapping[str, object] | None = None,
    before: tuple[str, ...] = (),
) -> Play:
    """Run a playbook of the collection on the image, or on the hosts of another inventory.

    Args:
        before: a command that runs ansible-playbook as its last arguments
    """
    path = CACHE / "inventory.json"
    path.write_text(json.dumps({"all": {"children": {"compute_nodes": inventory or INVENTORY}}}), encoding="utf-8")
    answer = subprocess.run(
        [
            *before,
            "ansible-playbook",
            f"--inventory={path}",
            f"--extra-vars={json.dumps({**SETTINGS, **(variables or {})})}",
            *arguments,
            f"ocihooks.ssh.{name}",
        ],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    recaps = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", answer.stdout, re.MULTILINE)
    assert recaps or answer.returncode != 0, answer.stdout
    return Play(answer.returncode, sum(map(int, recaps)), answer.stdout)


def listing() -> dict[str, str]:
    """Return kind, mode, owner and content of all that the image has."""
    found = {}
    for place, directories, files in os.walk(TREE):
        for path in [place, *(os.path.join(place, name) for name in [*directories, *files])]:
            inside = path[len(str(TREE)) :]
            if inside == ANSIBLE_OWN or inside.startswith(f"{ANSIBLE_OWN}/"):
                continue
            status = os.lstat(path)
            content = ""
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            found[inside] = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {content}"
    return found


def links() -> dict[str, str]:
    """Return the links by which systemd will start the hook's timers, and where they lead."""
    place = TREE / "etc/systemd/system"
    return {str(path.relative_to(place)): os.readlink(path) for path in place.glob("*.wants/ssh-hook-*")}
