#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Internal to the roles - check their variables and the node before anything is changed
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.read_only]
description:
  - Checks the variables of both roles on the controller, then collects facts with M(ocihooks.ssh.node_facts), and fails
    with one sentence for each reason why the node is not fit. It reads the variables from the play.
  - Returns C(versions) of what is built; and of the node C(node), C(client_only), C(missing_packages), C(remarks), the
    C(paths) of the engines' files, and C(node_values), by which keys are made; with O(purpose=users) C(users).
options:
  purpose:
    {type: str, choices: [deploy, audit, remove, variables, values, users, remarks], default: deploy, description:
      "V(audit) needs no space on the node, V(remove) only collects facts. V(values) checks all variables without
      connecting to the node, and V(variables) those of the role dropbear. V(users) looks for C(ssh_hook_users),
      V(remarks) repeats the warnings of all nodes."}
  with_dropbear:
    {type: bool, default: false, description: "Whether the play also runs the role dropbear, as the playbooks do."}
  node_values: {type: dict, description: "With O(purpose=users), the same of the node's own preflight."}
"""

EXAMPLES = r"""
- ocihooks.ssh.preflight:
"""
