# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host pattern of a play, which must match a host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: nodes
short_description: Return a host pattern, if it matches a host
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
description:
  - Returns the pattern unchanged, for C(hosts) of a play. If no host matches C(hosts), Ansible ends with success; this
    fails.
  - The option C(--limit) counts too. With C(--syntax-check) the pattern need not match a host.
options:
  _terms:
    description: The host pattern.
    type: str
    required: true
seealso:
  - plugin: ansible.builtin.inventory_hostnames
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Deploy to these nodes, or fail
  hosts: "{{ lookup('ocihooks.ssh.nodes', ssh_hook_hosts | default('compute_nodes:login_nodes')) }}"
"""

RETURN = r"""
_raw:
  description: The pattern.
  type: list
  elements: str
"""

import re
from typing import Any

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.inventory.manager import InventoryManager
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """The lookup plugin."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: object) -> list[str]:
        """Return the pattern; raises AnsibleLookupError if no host matches, or `ssh_hook_serial` is wrong."""
        if context.CLIARGS.get("syntax"):
            return terms  # --syntax-check needs no inventory
        variables = variables or {}
        serial = str(variables.get("ssh_hook_serial", 1))
        if "{{" not in serial and not re.fullmatch(r"\[.*\]|[1-9][0-9]*%?", serial):
            raise AnsibleLookupError(
                f"ssh_hook_serial is '{serial}': give a number of nodes, or a percentage such as 10%."
            )
        limit = variables.get("ansible_limit")
        inventory = InventoryManager(self._loader, parse=False)
        for group, hosts in variables.get("groups", {}).items():
            inventory.add_group(group)
            for host in hosts:
                inventory.add_host(host, group=group)
        pattern = terms[0]
        if not inventory.list_hosts(pattern):
            raise AnsibleLookupError(
                f"No host of the inventory matches '{pattern}', so there is nothing to do: put the nodes into these "
                "groups, or name them on the command line, such as --extra-vars ssh_hook_hosts=all."
            )
        inventory.subset(limit)
        if not inventory.list_hosts(pattern):
            raise AnsibleLookupError(
                f"No host of the inventory matches both '{pattern}' (ssh_hook_hosts) and '{limit}' (--limit), so there "
                "is nothing to do: name other hosts."
            )
        return [pattern]
