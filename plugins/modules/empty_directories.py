#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: empty_directories
short_description: Remove directories that are empty
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.changes
description:
  - Removes those of the given directories that are empty. All others stay, also mount points.
options:
  paths:
    description: >-
      The directories. They are removed in this order, so name inner ones first.
    type: list
    elements: path
    required: true
attributes:
  check_mode:
    description: Can run in check mode and report what would be removed.
  diff_mode:
    description: Shows the directories that are removed.
"""

EXAMPLES = r"""
- name: Remove what is left of an installation, unless something else is in it
  ocihooks.ssh.empty_directories:
    paths:
      - /opt/oci-hooks/bin
      - /opt/oci-hooks
"""

RETURN = r"""
removed:
  description: The directories that were removed; in check mode those that would be.
  returned: success
  type: list
  elements: str
  sample: [/opt/oci-hooks/bin]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils import _empty


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"paths": {"type": "list", "elements": "path", "required": True}},
        supports_check_mode=True,
    )
    try:
        removed = _empty.remove_empty(module.params["paths"], module.check_mode)
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be removed: {error.strerror}")
    prepared = "".join(f"empty: {path}\n" for path in removed)
    module.exit_json(changed=bool(removed), removed=removed, diff={"prepared": prepared})


if __name__ == "__main__":
    main()
