#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_node
short_description: Judge a node by what the tasks of an audit have found
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
description:
  - Makes of what the tasks of an audit have registered one row on the node, and one message if the node is not as it
    should be. It runs on the controller, asks the node nothing, and does not fail.
  - A node that no task before has reached counts as unreachable by this one, too.
  - It takes what is registered from the play, and is for the role ocihooks.ssh.ssh_hook.
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.read_only
options:
  launcher:
    description: Path of the hook's launcher.
    type: path
  docker_json:
    description: Path of the configuration of Docker's daemon.
    type: path
  firewalld_zone:
    description: Zone of firewalld in which the daemons' ports are opened. If empty, none are.
    type: str
    default: ""
seealso:
  - module: ocihooks.ssh.audit_report
"""

EXAMPLES = r"""
- name: Judge the node
  ocihooks.ssh.audit_node:
    launcher: /opt/oci-hooks/bin/ssh_hook
    docker_json: /etc/docker/daemon.json
    firewalld_zone: ""
"""

RETURN = r"""
row:
  description: The facts on the node, as M(ocihooks.ssh.audit_report) writes them into its JSON file.
  returned: always
  type: dict
said:
  description: What is wrong with the node, to fail with; empty if nothing is.
  returned: always
  type: str
  sample: ""
"""
