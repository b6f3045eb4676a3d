#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: without_facts
short_description: Run a module of another collection, and keep its result from setting variables
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.changes
description:
  - Runs a module on the host. Its result is that of the module, without C(ansible_facts), C(ansible_stats),
    C(add_host) and C(add_group).
  - Facts in the result of any module become variables, which outrank those of an inventory, and a host decides what its
    modules answer.
options:
  module:
    description: Full name of the module.
    type: str
    required: true
  arguments:
    description: Arguments of the module.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Make a directory
  ocihooks.ssh.without_facts:
    module: ansible.builtin.file
    arguments:
      path: /srv/cache
      state: directory
      mode: "0755"
"""

RETURN = r"""
module_changed:
  description: Whether the module says that it has changed something, whatever C(changed_when) makes of that.
  returned: success
  type: bool
  sample: false
"""
