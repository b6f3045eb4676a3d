# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gets a few facts about a host, and returns them under names of its own, with their types checked."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _interpreter
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._answers import system_facts, unexpected
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._node_action import NodeAction

_SUBSET = ["!all", "!min", "distribution", "pkg_mgr", "platform", "selinux", "user"]
_NAMES = ("architecture", "os_family", "pkg_mgr", "selinux", "user_dir", "user_uid")


class ActionModule(NodeAction):
    """The action plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the host by the module setup."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        names = [f"ansible_{name}" for name in _NAMES]
        answer = ActionBase._execute_module(
            self,
            module_name="ansible.builtin.setup",
            module_args={"gather_subset": _SUBSET, "filter": names},
            task_vars=task_vars,
        )
        if answer.get("failed"):
            problem = _interpreter.too_old(self, (task_vars or {}).get("inventory_hostname", ""))
            failure = {"failed": True, "msg": problem} if problem else unexpected(answer, "setup")
            return {**result, **failure, **self.discovered()}
        try:
            facts = system_facts(answer["ansible_facts"])
        except (AttributeError, KeyError, TypeError, ValueError):
            return {**result, **unexpected({}, "setup"), **self.discovered()}
        return {**result, "changed": False, **facts, **self.discovered()}
