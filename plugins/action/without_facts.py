# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module, also of another collection, and removes from its result what would set variables."""

from __future__ import annotations

from typing import Any

from ansible_collections.ocihooks.ssh.plugins.plugin_utils._answers import harmless
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._node_action import NodeAction

_OWN = "ocihooks.ssh.without_facts"


class ActionModule(NodeAction):
    """The action plugin, also for this collection's modules without one of their own (meta/runtime.yml)."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, or the action plugin of its name."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.action != _OWN:
            return {**result, **self._execute_module(task_vars=task_vars)}
        name = self._task.args["module"]
        arguments = {**self._defaults(name), **self._task.args.get("arguments", {})}
        task = self._task.copy()
        task.action, task.args = name, arguments
        plugin = self._shared_loader_obj.action_loader.get(
            name,
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        if plugin is None:
            answer = self._execute_module(module_name=name, module_args=arguments, task_vars=task_vars)
        else:
            answer = harmless(plugin.run(task_vars=task_vars))
        return {**result, **answer, "module_changed": answer.get("changed") is True}

    def _defaults(self, name: str) -> dict[str, Any]:
        """Return the site's ``module_defaults`` for a module."""
        defaults: dict[str, Any] = {}
        for each in self._task.module_defaults or []:
            defaults.update(each.get(name) or {})
        templated: dict[str, Any] = self._templar.template(defaults)
        return templated
