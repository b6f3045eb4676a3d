"""What the tests of the role need: plays against this node, and lists of what is on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import plays

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


def play(
    name: str,
    *arguments: str,
    variables: Mapping[str, object] | None = None,
    before: tuple[str, ...] = (),
    collections: str = "",
    inventory: str = "node,",
    core: Path | None = None,
) -> plays.Play:
    """Run a playbook (a name in playbooks/, or a file beside this one or at a path, without .yml) on this node.

    `before` is a command that runs ansible-playbook as its last arguments, `collections` another place of the
    collection, `core` a virtual environment with another ansible-core. A variable that is None is not set.
    """
    settings = {name: value for name, value in {**SETTINGS, **(variables or {})}.items() if value is not None}
    own = Path(__file__).parent / f"{name}.yml"
    return plays.run_playbook(
        own if own.exists() else f"ocihooks.ssh.{name}",
        *arguments,
        inventory=inventory,
        variables=settings,
        program=(*before, str(core / "bin" / "ansible-playbook") if core else "ansible-playbook"),
        environment={"ANSIBLE_COLLECTIONS_PATH": collections} if collections else {},
    )


def listing(*trees: str) -> dict[str, str]:
    """Kind, mode, owner and content of all that could be changed on this node."""
    return plays.listing(*(trees or ("/etc", "/opt", "/usr/share/containers", "/var/lib/systemd")))


def package() -> Path:
    """The directory of the version of the hook that the launcher runs."""
    found = re.search(r'"(.*/lib/ssh_hook-[0-9a-f]{12})"', LAUNCHER.read_text(encoding="utf-8"))
    assert found
    return Path(found[1])
