#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: system_facts
short_description: Ask a host for the facts that the roles read, without setting variables
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.read_only
description:
  - Asks a host by M(ansible.builtin.setup), and returns a few facts, with their types checked. Register them.
  - Facts outrank the variables of an inventory, and a host decides what its facts are. None of the names in its answer
    becomes a variable here.
seealso:
  - module: ansible.builtin.setup
"""

EXAMPLES = r"""
- name: Ask for facts
  ocihooks.ssh.system_facts:
  register: system
"""

RETURN = r"""
architecture:
  description: Of the machine, as C(uname -m) names it.
  returned: success
  type: str
  sample: x86_64
os_family:
  description: Family of the distribution.
  returned: success
  type: str
  sample: Debian
pkg_mgr:
  description: Name of the package manager's module; C(unknown) if there is none.
  returned: success
  type: str
  sample: apt
selinux:
  description: Whether SELinux is enabled.
  returned: success
  type: bool
user_dir:
  description: Home of the user whom the task runs as.
  returned: success
  type: str
  sample: /root
user_uid:
  description: Uid of the user whom the task runs as.
  returned: success
  type: int
  sample: 0
"""
