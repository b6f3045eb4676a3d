# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the row of a node from what the tasks of an audit have found, and fails if something is wrong with the node."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _audit


class ActionModule(ActionBase):
    """The action plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the row; fail with one message unless the node is as it should be. Asks the node nothing."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, arguments = task_vars or {}, self._task.args
        host = variables["inventory_hostname"]
        results = {name: variables[name] for name in _audit.RESULTS if name in variables}
        differences = list(map(str, arguments["differences"]))
        row = _audit.node_row(host, results, int(arguments["port"]), differences)
        said = [f"On {host} {'; '.join(differences)}. Run the deployment."] if differences else []
        said += [f"On {host} {arguments['unsafe']}"] if row["tamper"] else []
        said += [f"{host} {_audit.MEANINGS[row['state']]}: {row['problem']}"] if row["problem"] else []
        result.update({"changed": False, "row": row})
        if said:
            result.update({"failed": True, "msg": " ".join(said)})
        return result
