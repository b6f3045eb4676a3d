# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends the module the digests of the hook's sources, and the sources if the node lacks some of them."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._node_action import NodeAction
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._sources import DIGESTS, SOURCES

# Created when the plugin is loaded, in the process that all hosts' workers are forked from.
_PACKED = base64.b64encode(zlib.compress(json.dumps(SOURCES).encode(), 9)).decode()


class ActionModule(NodeAction):
    """The action plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, and again with the sources if it asks for them."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        at_once = boolean(self._task.args.get("send_sources", False)) and not self._task.check_mode
        answer = self._ask(task_vars, with_sources=at_once)
        if answer.pop("needs_sources", False):
            answer = self._ask(task_vars, with_sources=True)
        return {**result, **answer}

    def _ask(self, task_vars: dict[str, Any] | None, *, with_sources: bool) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="ocihooks.ssh.hook_package",
            module_args={**self._task.args, "digests": DIGESTS, "sources": _PACKED if with_sources else None},
            task_vars=task_vars,
        )
        return answer
