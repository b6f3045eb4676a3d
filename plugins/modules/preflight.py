#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check the variables of the roles and the node before anything is changed
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.read_only
description:
  - Checks on the controller the variables of the roles ocihooks.ssh.ssh_hook and ocihooks.ssh.dropbear. It refuses a
    misspelt name, a value of a wrong type, a string in place of a list, and a value that makes no sense.
  - Then asks the node by M(ocihooks.ssh.node_facts), and fails with a sentence for each reason for which the node is
    not fit for the hook. Changes nothing.
  - It takes the variables from the play, and is for the roles of this collection.
options:
  purpose:
    description:
      - V(deploy) checks the variables and the node.
      - V(audit) does so too, but the node need not have room for what will not be written.
      - V(remove) checks the variables, and asks the node.
      - V(variables) checks the variables, and does not ask the node.
      - V(users) checks the variables, and asks the node by M(ocihooks.ssh.passwd_file) which of the users in
        C(ssh_hook_users) exist, and have a home. For check mode, in which this writes nothing.
    type: str
    choices: [deploy, audit, remove, variables, users]
    default: deploy
  with_dropbear:
    description:
      - Whether the play also runs the role dropbear, with its prefix where the hook looks for Dropbear, as the
        playbooks of this collection do.
      - Then it also refuses a node with an engine and of an architecture that the role does not build for, and in the
        inventory the variables C(ssh_hook_hosts) and C(ssh_hook_serial), which a playbook reads before the inventory.
    type: bool
    default: false
  node_values:
    description: With O(purpose=users), what RV(node_values) of the node's own preflight was.
    type: dict
notes:
  - A variable that begins with C(dropbear_) and resembles none of this collection may be another role's, and is
    accepted.
seealso:
  - module: ocihooks.ssh.node_facts
"""

EXAMPLES = r"""
- name: Check the node
  ocihooks.ssh.preflight:
"""

RETURN = r"""
versions:
  description: Versions of the sources that the role ocihooks.ssh.dropbear builds, by the variables that set them.
  returned: success
  type: dict
  sample: {dropbear_version: "2026.94"}
node_values:
  description: Values of the variables by which keys are made on the node.
  returned: unless O(purpose) is V(variables) or V(users)
  type: dict
  sample: {base_dir: /home}
users:
  description: Those of C(ssh_hook_users) who exist and have a home. A warning names the others.
  returned: if O(purpose=users)
  type: list
  elements: str
  sample: [alice]
node:
  description: What M(ocihooks.ssh.node_facts) returns.
  returned: success, unless O(purpose=variables) or O(purpose=users)
  type: dict
client_only:
  description: Whether the node has no container engine and gets the users' side alone.
  returned: success, unless O(purpose=variables) or O(purpose=users)
  type: bool
  sample: false
missing_packages:
  description: Python packages that the hook's interpreter lacks.
  returned: success, unless O(purpose=variables) or O(purpose=users)
  type: list
  elements: str
  sample: [cryptography]
remarks:
  description: What the admin of the node should know, a sentence each. With O(purpose=deploy) they are warnings.
  returned: success, unless O(purpose=variables) or O(purpose=users)
  type: list
  elements: str
  sample: []
"""
