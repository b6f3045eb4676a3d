#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: empty_directories
short_description: Internal to the role ssh_hook - remove directories that are empty
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.changes]
description:
  - Removes the directories that are empty, in the given order. All others stay, and so do mount points. Returns
    C(removed), their paths.
  - M(ansible.builtin.file) cannot do this. It removes a directory with its contents, so files that others put there
    after the directory was found to be empty would be lost. The directories of engines, for example, are shared.
options:
  paths: {type: list, elements: path, required: true, description: "The directories, inner ones first."}
"""

EXAMPLES = r"""
- ocihooks.ssh.empty_directories:
    paths: [/opt/oci-hooks/bin, /opt/oci-hooks]
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
