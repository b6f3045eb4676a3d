#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_report
short_description: Internal to the role ssh_hook - print the table of an audit, and write its HTML page and its JSON
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.changes]
description:
  - Prints the rows from M(ocihooks.ssh.audit_node) as one table, including hosts that failed or were not reached.
    Run it once, in an C(always) section. Identical results are grouped.
  - Returns C(written), the files in O(directory) whose contents have changed. They contain no time, so they change only
    if the nodes do. Each is replaced by an atomic rename, and has mode 0640.
attributes: {diff_mode: {description: "Shows what differs on nodes, but not the files.", support: partial}}
options:
  directory: {type: str, default: "", description: "Directory on the controller for C(audit.html) and C(audit.json)."}
  users: {type: list, elements: str, default: [], description: "Users whose keys are looked for on the node."}
  base_dir: {type: str, default: /home, description: "Parent directory of the homes of O(users), on the node."}
  passwd_file: {type: str, default: /opt/oci-hooks/etc/passwd, description: "The hook's passwd file, on the node."}
  key_type: {type: str, default: ed25519, description: "Type of new keys."}
"""

EXAMPLES = r"""
- ocihooks.ssh.audit_report:
    directory: /srv/reports
  run_once: true
"""
