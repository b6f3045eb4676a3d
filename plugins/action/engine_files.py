# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module, unless the preflight has just found all files as they should be."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._known import engine_files_are_right


class ActionModule(ActionBase):
    """The action plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module if anything may have to be changed."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if engine_files_are_right(self._task.args):
            return {**result, "changed": False, "written": [], "removed": [], "docker_changed": False}
        answer: dict[str, Any] = self._execute_module(module_name="ocihooks.ssh.engine_files", task_vars=task_vars)
        return {**result, **answer}
