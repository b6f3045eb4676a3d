#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_node
short_description: Internal to the role ssh_hook - evaluate a node from the results of an audit's tasks
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.read_only]
description:
  - Runs on the controller, does not contact the node, and does not fail. It reads the play's registered results.
  - Returns C(row), the facts of the node for M(ocihooks.ssh.audit_report), and C(said), what is wrong with the node.
  - A node that no earlier task has reached counts as unreachable here, too.
options:
  launcher: {type: path, description: "Path of the hook's launcher."}
  docker_json: {type: path, description: "Path of the configuration of Docker's daemon."}
  firewalld_zone: {type: str, default: "", description: "Zone of firewalld in which the daemons' ports are opened."}
"""

EXAMPLES = r"""
- ocihooks.ssh.audit_node:
    launcher: /opt/oci-hooks/bin/ssh_hook
"""
