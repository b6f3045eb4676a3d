#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_report
short_description: Print the table of an audit, and write its page and its JSON
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
description:
  - Reports on all hosts of the play, also on those that failed or were not reached, from the rows that
    M(ocihooks.ssh.audit_node) has made. Run it once, in an C(always) section.
  - Prints one table. Nodes of which the same is to be said share a line, such as C(node[001-128]).
  - With O(directory) it also writes C(audit.html), one page that needs no other file, and C(audit.json), on the
    controller. Each is replaced by an atomic rename, and has mode 0640.
  - The files hold no time, so that they do not change while the nodes do not. Their time of modification is that of the
    last audit.
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.changes
options:
  directory:
    description: Directory on the controller for the files. It is made if it does not exist. If empty, none are written.
    type: str
    default: ""
  users:
    description: Names of users. The node that the task is delegated to is asked whether they have keys.
    type: list
    elements: str
    default: []
  base_dir:
    description: Parent directory of the homes of O(users), on the node.
    type: str
    default: /home
  passwd_file:
    description: The hook's passwd file, on the node.
    type: str
    default: /opt/oci-hooks/etc/passwd
  key_type:
    description: Type of new keys.
    type: str
    default: ed25519
attributes:
  diff_mode:
    description: Shows in the table the lines that differ on nodes, and none of the files in O(directory).
    support: partial
seealso:
  - module: ocihooks.ssh.audit_node
"""

EXAMPLES = r"""
- name: Report
  ocihooks.ssh.audit_report:
    directory: /srv/reports
  run_once: true
"""

RETURN = r"""
written:
  description: Paths of the files that had another content, and were written; in check mode those that would be.
  returned: success
  type: list
  elements: str
  sample: [/srv/reports/audit.json, /srv/reports/audit.html]
"""
