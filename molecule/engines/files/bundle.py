"""Make of the config.json that a runtime's `spec` wrote one for a user's container with the SSH hook.

Usage: python3 bundle.py NAME UID PORT [NAMESPACE,...] [ANNOTATION=VALUE...]

In the bundle, whose root file system is rootfs. What the hook JSON says goes where an engine puts it: the hook at each
of its stages, if an annotation matches. NAMESPACE,... are kinds of namespaces that the container has for itself.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HOOK_JSON = Path("/usr/share/containers/oci/hooks.d/07-ssh-hook.json")
DEFAULT_NAMESPACES = "pid,mount,ipc,uts"


def hooks(annotations: dict[str, str]) -> dict[str, Any]:
    """The member "hooks" of config.json."""
    description = json.loads(HOOK_JSON.read_text(encoding="utf-8"))
    for name, value in description["when"]["annotations"].items():
        if not any(re.search(name, key) and re.search(value, annotations[key]) for key in annotations):
            return {}
    return {stage: [description["hook"]] for stage in description["stages"]}


def change(config: dict[str, Any], name: str, uid: int, namespaces: str, annotations: dict[str, str]) -> None:
    """Make it a container of the user's, with their home, the node's hosts and a group more."""
    home = f"/home/{name}"
    environment = [f"HOME={home}", f"WHERE={annotations['where']}", "VALUE=two  blanks and a $HOME"]
    config["process"]["user"] = {"uid": uid, "gid": uid, "additionalGids": [3001]}
    config["process"].update(terminal=False, args=["/bin/sleep", "1000"], cwd=home)
    config["process"]["env"] += environment
    config["root"]["path"] = "rootfs"
    config["root"]["readonly"] = False
    for path, option in ((home, "rw"), ("/etc/hosts", "ro")):
        config["mounts"].append(
            {"destination": path, "type": "bind", "source": path, "options": ["rbind", "rslave", option]}
        )
    config["linux"]["namespaces"] = [{"type": kind} for kind in namespaces.split(",")]
    if "uts" not in namespaces.split(","):
        config.pop("hostname", None)
    config["annotations"] = annotations
    config["hooks"] = hooks(annotations)


def main(name: str, uid: str, port: str, namespaces: str = DEFAULT_NAMESPACES, *more: str) -> None:
    """Change ./config.json."""
    path = Path("config.json")
    config = json.loads(path.read_text(encoding="utf-8"))
    annotations = {
        "com.hooks.ssh.enabled": "true",
        "com.hooks.ssh.port": port,
        **dict(item.split("=", 1) for item in more),
    }
    change(config, name, int(uid), namespaces, annotations)
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
