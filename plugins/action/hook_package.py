# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends the module the digests of the hook's sources, and the sources where the node lacks some of them."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.ocihooks.ssh.plugins.module_utils import _bytecode, _hook_package
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._sources import COLLECTION, HOOK

_UTILS = COLLECTION / "plugins" / "module_utils"
_ROLE_FILES = COLLECTION / "roles" / "ssh_hook" / "files"


def hook_sources() -> dict[str, str]:
    """Return the texts of the hook's package and of the scripts beside it, by their names in `_hook_package.Hook`."""
    scripts = {_hook_package.SCRIPT_FOLDER + name: _UTILS / name for name in ("_files.py", "_passwd_file.py")}
    scripts[f"{_hook_package.SCRIPT_FOLDER}refresh_passwd.py"] = _ROLE_FILES / "refresh_passwd.py"
    scripts[_hook_package.COMPLETION] = _ROLE_FILES / "completion.bash"
    texts = {name: path.read_text(encoding="utf-8") for name, path in scripts.items()}
    return dict(sorted({**_hook_package.package_sources(HOOK), **texts}.items()))


# Read when the plugin is loaded, in the process that the workers of all hosts are forked from.
SOURCES = hook_sources()
DIGESTS = _bytecode.digests(SOURCES)


class ActionModule(ActionBase):
    """The action plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, and again with the sources if it asks for them."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = {**self._task.args, "digests": DIGESTS, "sources": None}
        name = "ocihooks.ssh.hook_package"
        answer: dict[str, Any] = self._execute_module(module_name=name, module_args=arguments, task_vars=task_vars)
        if answer.pop("needs_sources", False):
            packed = zlib.compress(json.dumps(SOURCES).encode(), 9)
            arguments["sources"] = base64.b64encode(packed).decode()
            answer = self._execute_module(module_name=name, module_args=arguments, task_vars=task_vars)
        result.update(answer)
        return result
