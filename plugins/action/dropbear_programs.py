# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends the module the digests of a release's files, and one archive with all files if the node lacks some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._node_action import NodeAction
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._release import Release, find_release, pack

_MODULE = "ocihooks.ssh.dropbear_programs"


class ActionModule(NodeAction):
    """The action plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, and again with the archive if it asks for that."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        builds, cache = arguments.pop("builds", None), arguments.pop("cache", None)
        architecture, source_dir = arguments.pop("architecture", ""), arguments.pop("source_dir", "")
        if not builds:
            answer = self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=task_vars)
            return {**result, **answer}
        if architecture in builds["missing"]:
            return {**result, **self._without_programs(architecture)}
        try:
            release = find_release(builds, architecture, arguments["versions"]["dropbear"], source_dir)
        except ValueError as error:
            return {**result, "failed": True, "msg": f"{error}: find out what answers there."}
        arguments["release"] = {"name": release.name, "files": release.files}
        at_once = boolean(arguments.get("send_files", False)) and not self._task.check_mode
        if not at_once:
            answer = self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=task_vars)
        if at_once or answer.pop("needs_archive", False):
            answer = self._send(release, Path(cache), arguments, task_vars)
        return {**result, **answer}

    def _send(
        self, release: Release, cache: Path, arguments: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Run the module with the archive on the node. Return its answer."""
        archive = cache / f"{release.name}.tar"
        pack(release, archive)
        directory = self._make_tmp_path()
        try:
            arguments["archive"] = self._connection._shell.join_path(directory, archive.name)
            ActionBase._transfer_file(self, str(archive), arguments["archive"])
            answer: dict[str, Any] = self._execute_module(
                module_name=_MODULE, module_args=arguments, task_vars=task_vars
            )
            return answer
        finally:
            ActionBase._remove_tmp_path(self, directory)

    def _without_programs(self, architecture: str) -> dict[str, Any]:
        """Return the result if the build host has no programs for the node, which is only valid in check mode."""
        if not self._task.check_mode:
            return {"failed": True, "msg": f"The build host has no programs for {architecture}."}
        versions, directory = self._task.args["versions"], f"{self._task.args['prefix']}/dropbear/bin"
        what = f"Dropbear {versions['dropbear']} and OpenSSH {versions['openssh']} would be installed in {directory}."
        return {"changed": True, "msg": what, "diff": {"prepared": f"{what}\n"}}
