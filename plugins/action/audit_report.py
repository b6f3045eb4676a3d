# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the table of an audit, and writes its page and its JSON, on the controller."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.utils.display import Display
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _audit, _report_files, _sources, _variables
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._node_action import NodeAction

# Arguments of the module user_keys, with their defaults.
_KEYS: dict[str, Any] = {
    "users": [],
    "base_dir": "/home",
    "passwd_file": "/opt/oci-hooks/etc/passwd",
    "key_type": "ed25519",
}
_ONCE = ("ssh_hook_report_dir", "ssh_hook_users")
_display = Display()


class ActionModule(NodeAction):
    """The action plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Report on all hosts of the play. Nothing is written in check mode."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, arguments = task_vars or {}, self._task.args
        hostvars = variables["hostvars"]
        rows = [self._row(host, hostvars[host]) for host in variables["ansible_play_hosts_all"]]
        # The arguments come from the first host, whose facts could have set them.
        suspicious = self.wrong_facts(variables) or self.of_one_host(variables, _ONCE)
        keys = self._keys(variables, rows) if arguments.get("users") and not suspicious else None
        text = _audit.report(rows, keys, variables.get("ansible_limit"), _sources.version())
        directory = str(arguments.get("directory", ""))
        is_wanted = directory.startswith("/") and not suspicious  # the preflight rejects any other
        page, with_lines = f"{directory}/{_report_files.PAGE}" if is_wanted else "", bool(self._task.diff)
        _display.display(f"\n{_audit.table(rows, keys, page, with_lines=with_lines)}\n")
        try:
            written = _report_files.write(directory, text, bool(variables["ansible_check_mode"])) if is_wanted else []
        except OSError as error:
            sentence = (
                f"{error.filename or directory} on the controller cannot be written (ssh_hook_report_dir): "
                f"{error.strerror}: name a directory that the user who runs the playbook can write to."
            )
            return {**result, "failed": True, "msg": sentence}
        if suspicious:
            return {**result, "failed": True, "msg": f"{suspicious[0]} No report was written."}
        return {**result, "changed": bool(written), "written": written}

    @staticmethod
    def _row(host: str, variables: Any) -> dict[str, Any]:
        """Return the row of a host: the one from this audit, or one that says why there is none."""
        suspicious = _variables.wrong_facts(host, variables.get("ansible_facts", {}))
        if suspicious:
            return _audit.failed_row(host, suspicious[0])
        results = {name: variables[name] for name in _audit.RESULTS if name in variables}
        return _audit.reported_row(host, variables.get("ssh_hook__audited") or {}, results)

    def _keys(self, variables: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Ask the node that the task is delegated to which users have keys, if it is safe and not an image."""
        arguments = {key: self._task.args.get(key, default) for key, default in _KEYS.items()}
        self._task.check_mode = True
        answer: dict[str, Any]
        hostvars, safe = variables["hostvars"], [row["name"] for row in rows if _audit.is_safe(row)]
        running = [host for host in safe if not _audit.is_image(hostvars[host].get("ssh_hook__preflight"))]
        if self._task.delegate_to not in running:
            answer = {"msg": "no node is known to be secure, so none was asked"}
            if safe:
                answer = {"msg": "an image has no homes, and no running node is known to be secure"}
            return _audit.user_keys(self._task.delegate_to, arguments["base_dir"], answer)
        try:
            answer = self._execute_module(
                module_name="ocihooks.ssh.user_keys", module_args=arguments, task_vars=variables
            )
        except AnsibleError as error:  # the report covers all nodes, even if this one fails
            answer = {"msg": str(error)}
        return _audit.user_keys(self._task.delegate_to, arguments["base_dir"], answer)
