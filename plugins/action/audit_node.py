# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates a node's row from the results of an audit's tasks, and reports what is wrong with the node."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _audit


class ActionModule(ActionBase):
    """The action plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the row, and a message if the node fails the audit. Does not contact the node.

        If an earlier task could not reach the node, the result is that of an unreachable node.
        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, arguments = task_vars or {}, self._task.args
        host = variables["inventory_hostname"]
        results = {name: variables[name] for name in _audit.RESULTS if name in variables}
        names = [arguments.get(name, "") for name in ("launcher", "docker_json", "firewalld_zone")]
        row = _audit.node_row(host, results, _audit.Variables(*names))
        if row["state"] == _audit.UNREACHABLE:
            return {**result, "unreachable": True, "msg": row["problem"]}
        return {**result, "changed": False, "row": row, "said": _audit.verdict(row, results)}
