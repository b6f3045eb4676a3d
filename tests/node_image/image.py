"""The image of a node, which is a directory of this machine, and plays against it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import plays

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "node-image"
IMAGES = ROOT / ".cache" / "images"
TREE = CACHE / "tree"
NAME = "compute-image"
ANSIBLE_OWN = "/root/.ansible"  # where Ansible keeps its temporary files on a host

# As in docs/node-images.md: only hosts of this group are directories, not the controller, which builds the programs.
INVENTORY: dict[str, object] = {
    "hosts": {NAME: {"ansible_host": str(TREE)}},
    "vars": {"ansible_connection": "community.general.chroot"},
}
SETTINGS = {"dropbear_build_dir": str(ROOT / ".cache" / "dropbear")}


def play(
    name: str,
    *arguments: str,
    inventory: Mapping[str, object] | None = None,
    variables: Mapping[str, object] | None = None,
    before: tuple[str, ...] = (),
) -> plays.Play:
    """Run a playbook of the collection on the image, or on the hosts of another inventory.

    Args:
        before: a command that runs ansible-playbook as its last arguments
    """
    path = CACHE / "inventory.json"
    path.write_text(json.dumps({"all": {"children": {"compute_nodes": inventory or INVENTORY}}}), encoding="utf-8")
    return plays.run_playbook(
        f"ocihooks.ssh.{name}",
        *arguments,
        inventory=str(path),
        variables={**SETTINGS, **(variables or {})},
        program=(*before, "ansible-playbook"),
    )


def listing() -> dict[str, str]:
    """Return kind, mode, owner and content of all that the image has."""
    inside = {path[len(str(TREE)) :]: content for path, content in plays.listing(str(TREE)).items()}
    return {path: content for path, content in inside.items() if not f"{path}/".startswith(f"{ANSIBLE_OWN}/")}


def links() -> dict[str, str]:
    """Return the links by which systemd will start the hook's timers, and where they lead."""
    place = TREE / "etc/systemd/system"
    return {str(path.relative_to(place)): os.readlink(path) for path in place.glob("*.wants/ssh-hook-*")}
