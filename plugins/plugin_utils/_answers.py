# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of modules on nodes, without what would set variables: a node controls its modules' results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.ocihooks.ssh.plugins.plugin_utils._text import escaped, printable
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._variables import AUTO

# With these keys in a module's result, ansible-core sets variables of hosts, adds hosts and groups, and passes
# variables to the next job of a workflow.
SETTING = ("ansible_facts", "ansible_stats", "add_host", "add_group")
SHOWN = ("deprecations", "diff", "exception", "module_stderr", "module_stdout", "msg", "warnings")
# The result of the module node_facts: name -> type.
NODE: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("image", "dev_null", "systemd", "passwd_file", "passwd_outdated", "firewalld_zone"), bool),
    **dict.fromkeys(("architecture", "kernel", "unsafe", "release"), str),
    **dict.fromkeys(("python", "engines", "hooks_dirs", "files", "units"), Mapping),
    **dict.fromkeys(("docker", "hook_settings"), (Mapping, type(None))),
    **dict.fromkeys(("other_hooks", "port_holders", "foreign", "daemons", "missing", "unnamed_homes"), list),
    **dict.fromkeys(("dead_links", "unwritable", "full", "stale", "foreign_files", "safe", "timers", "versions"), list),
    "drop_ins": list,
    **dict.fromkeys(("lowest_port", "suid_dumpable"), int),
    "port": (int, str, type(None)),
    "hook_version": (str, type(None)),
    "servers": (list, type(None)),
    "dropbear": bool,
}
_WORD = re.compile(r"[A-Za-z0-9_. -]{1,64}")
_PATH = re.compile(r"/[^\x00-\x1f]{0,4000}")


def harmless(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result without what would set variables, and with escapes in what is shown."""
    kept = {key: value for key, value in answer.items() if key not in SETTING}
    return {key: escaped(value) if key in SHOWN else value for key, value in kept.items()}


def unexpected(answer: Mapping[str, Any], module: str) -> dict[str, Any]:
    """Return a failure that says why a module's result is invalid. Only texts are taken from the result."""
    texts = ("msg", "module_stdout", "module_stderr")
    said = {name: printable(answer[name]) for name in texts if answer.get(name)}
    return {"msg": f"Unexpected response from {module}.", **said, "failed": True}


def is_node(value: object) -> bool:
    """Return whether a value has everything in node_facts' result. Tasks for all hosts read some of it."""
    if not isinstance(value, Mapping):
        return False
    has_types = all(name in value and isinstance(value[name], types) for name, types in NODE.items())
    return has_types and (not isinstance(value["port"], str) or value["port"] == AUTO)


def system_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that the roles read.

    Raises:
        KeyError, TypeError, ValueError: they are not in the form of the module setup.
    """
    uid, selinux = facts["ansible_user_uid"], facts["ansible_selinux"]
    if not isinstance(uid, int) or isinstance(uid, bool) or not isinstance(selinux, Mapping):
        raise TypeError("user_uid is not a number, or selinux has no status")
    words = {name: str(facts[f"ansible_{name}"]) for name in ("architecture", "os_family", "pkg_mgr")}
    home = str(facts["ansible_user_dir"])
    if not all(map(_WORD.fullmatch, words.values())) or not _PATH.fullmatch(home):
        raise ValueError("a fact is not a word, or user_dir no path")
    return {**words, "selinux": selinux.get("status") == "enabled", "user_dir": home, "user_uid": uid}
