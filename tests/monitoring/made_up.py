"""A cluster that does not exist: what an audit of its hundred nodes finds, by the code that makes any report."""

from __future__ import annotations

from typing import Any

from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _audit

LAUNCHER = "/opt/oci-hooks/bin/ssh_hook"
PORT = 15263
VARIABLES = _audit.Variables(LAUNCHER, "/etc/docker/daemon.json", "")
USERS = ("alice", "bob", "carol", "dave")
HOSTILE = "<img src=x onerror=alert(1)>\u202e"
LONG = "/srv/" + "an-unbroken-path-of-a-site-" * 12


def results(number: int, **changes: Any) -> dict[str, Any]:
    """What the tasks register on a node, with some daemons."""
    servers = [
        {
            "pid": 4000 + 17 * number + i,
            "user": USERS[i],
            "ports": [PORT + i],
            "sessions": i * 3,
            "release": "dropbear-2026.94-0123456789ab",
            "outdated": False,
        }
        for i in range(number % 5 % 4)
    ]
    node = {"hook_version": "1.0.0", "kernel": "6.12.0-1-amd64", "engines": {"podman": "/usr/bin/podman"}, "port": PORT}
    return {
        "ssh_hook__facts": {},
        "ssh_hook__preflight": {"node": {**node, "servers": servers}, "remarks": []},
        "dropbear__programs": {"programs": {"dropbear": "2026.94", "openssh": "10.3p1"}},
        "ssh_hook__verified": {"violations": []},
        **changes,
    }


def violation(path: str, message: str) -> dict[str, str]:
    """What secure_path says of a file."""
    return {"path": path, "rule": "owner", "message": f"{path} {message}"}


def rows(*, strangers: bool) -> list[dict[str, Any]]:
    """Return a row for each of a hundred nodes, some of which are not as they should be; one has names by strangers."""
    names = {number: f"node{number:03}" for number in range(1, 101)}
    found = {name: _audit.node_row(name, results(number), VARIABLES) for number, name in names.items()}
    program = "/opt/oci-hooks/dropbear/bin/dropbear"
    stale = {
        "ssh_hook__installed": {"launcher_changed": True},
        "dropbear__programs": {
            "programs": {"dropbear": "2025.89", "openssh": "10.0p2"},
            "problem": f"{program} should be 2026.94, but reports the version 'Dropbear v2025.89'.",
        },
    }
    for number in (17, 18, 19):
        found[names[number]] = _audit.node_row(names[number], results(number, **stale), VARIABLES)
    loader = violation("/opt/site/lib", "is owned by alice (uid 1001) and must be owned by root")
    hook = violation(LAUNCHER, "is writable by its group staff (gid 50) and must not be")
    unsafe = results(42, ssh_hook__verified={"violations": [loader, hook]})
    found["node042"] = _audit.node_row("node042", unsafe, VARIABLES)
    if strangers:
        unread = f"podman on node055 does not read {LONG} (ssh_hook_hooks_dirs)"
        hostile = results(55, ssh_hook__verified={"violations": [violation(HOSTILE, "is owned by <b>bob</b>")]})
        hostile["ssh_hook__preflight"]["remarks"] = [unread]
        hostile["ssh_hook__engines"] = {"written": [LONG]}
        found["node055"] = _audit.node_row("node055", hostile, VARIABLES)
    down = {
        "unreachable": True,
        "msg": "Failed to connect to the host via ssh: connect to host node071: No route to host",
    }
    found["node071"] = _audit.node_row("node071", {"ssh_hook__facts": down})
    unfit = {"failed": True, "msg": "There is no directory /home (ssh_hook_base_dir) on node088: mount it."}
    found["node088"] = _audit.node_row("node088", {"ssh_hook__facts": {}, "ssh_hook__preflight": unfit})
    return list(found.values())


def page(*, strangers: bool = True) -> str:
    """Return the page of their report."""
    answer = {
        "users": [
            {"name": "alice", "error": None, "changed": False},
            {"name": "bob", "error": None, "changed": False},
            {"name": "erin", "error": None, "changed": True},
        ]
    }
    return _audit.page(
        _audit.report(rows(strangers=strangers), _audit.user_keys("node001", "/home", answer), None, "1.0.0")
    )
