# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module, unless the preflight has just found all files as they should be."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

_TEXTS = ("hooks", "cdi", "enroot_hooks", "podman_hpc_modules")  # options of files to write, path -> text
_OTHERS = ("absent", "docker_json")


def is_right(arguments: Mapping[str, Any]) -> bool:
    """Return whether a node is known to be as the module's arguments say."""
    known = arguments.get("known")
    if not isinstance(known, Mapping) or not known:  # it is a node's answer
        return False
    texts = {path: text for option in _TEXTS for path, text in (arguments.get(option) or {}).items()}
    return not any(arguments.get(option) for option in _OTHERS) and all(
        known.get(path) == hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()
    )


class ActionModule(ActionBase):
    """The action plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module if anything may have to be changed."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if is_right(self._task.args):
            return {**result, "changed": False, "written": [], "removed": [], "docker_changed": False}
        answer: dict[str, Any] = self._execute_module(module_name="ocihooks.ssh.engine_files", task_vars=task_vars)
        return {**result, **answer}
