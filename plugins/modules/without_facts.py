#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: without_facts
short_description: Internal to the roles - run another collection's module without letting it set variables
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.changes]
description:
  - Returns the module's result without C(ansible_facts), C(ansible_stats), C(add_host) and C(add_group), since facts in
    the result of a module become variables that override those of an inventory. C(module_changed) is whether the module
    reported a change, regardless of C(changed_when).
options:
  module: {type: str, required: true, description: "Full name of the module."}
  arguments: {type: dict, default: {}, description: "Its arguments."}
"""

EXAMPLES = r"""
- ocihooks.ssh.without_facts:
    module: ansible.builtin.file
    arguments: {path: /srv/cache, state: directory, mode: "0755"}
"""
