#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: system_facts
short_description: Internal to the roles - get the facts of a host that they need, without setting variables
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.read_only]
description:
  - Runs M(ansible.builtin.setup) on a host, and returns C(architecture), C(os_family), C(pkg_mgr), C(selinux) (whether
    it is on), C(user_dir) and C(user_uid), with their types checked. Nothing in the response becomes a variable.
"""

EXAMPLES = r"""
- ocihooks.ssh.system_facts:
  register: system
"""
