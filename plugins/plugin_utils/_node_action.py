# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Base of action plugins whose results set no variables, and which detect facts that do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible.errors import AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase
from ansible.vars.manager import VariableManager
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _variables
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._answers import harmless


class NodeAction(ActionBase):
    """An action plugin that runs modules on nodes. Its result never sets variables, whatever the modules return."""

    def _execute_module(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Run a module. Return its result without what would set variables."""
        return {**harmless(super()._execute_module(*arguments, **options)), **self.discovered()}

    def discovered(self) -> dict[str, Any]:
        """Return the part of a result with the interpreter that ansible-core discovered, to discover it only once."""
        key = self._discovered_interpreter_key
        return {"ansible_facts": {key: self._discovered_interpreter}} if key else {}

    def wrong_facts(self, variables: dict[str, Any]) -> list[str]:
        """Return what is wrong with the facts of the task's host from an earlier play."""
        host, facts = variables["inventory_hostname"], variables.get("ansible_facts", {})
        wrong = _variables.wrong_facts(host, facts)
        if wrong or not facts:
            return wrong
        return _variables.shadowing(host, facts, variables, site_variables(self._loader, variables["hostvars"], host))

    def of_one_host(self, variables: dict[str, Any], names: Iterable[str]) -> list[str]:
        """Return what is wrong with variables of which one host's value counts for all."""
        host, facts = variables["inventory_hostname"], variables.get("ansible_facts", {})
        templates = {name: variables[name] for name in names if "{{" in str(variables.get(name, ""))}
        if not facts or not templates:
            return []
        bare = {name: value for name, value in variables.items() if not _variables.is_fact(name, variables, facts)}
        templar = self._templar.copy_with_new_env(available_variables={**bare, "ansible_facts": {}})
        differing = [
            name for name, template in templates.items() if value(templar, template) != value(self._templar, template)
        ]
        return _variables.of_one_host(host, differing)


def value(templar: Any, template: object) -> object:
    """Return the value of a template, or None if it has an undefined variable."""
    try:
        known: object = templar.template(template)
    except AnsibleUndefinedVariable:
        return None
    return known


def site_variables(loader: Any, hostvars: Any, host: str) -> dict[str, Any]:
    """Return the variables that the inventory and the command line set for a host, without facts."""
    manager = VariableManager(loader=loader, inventory=hostvars._inventory)
    vars(manager)["_fact_cache"] = {host: {}}
    variables: dict[str, Any] = manager.get_vars(host=hostvars._inventory.get_host(host), include_hostvars=False)
    return variables
