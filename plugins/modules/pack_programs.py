#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pack_programs
short_description: Pack built programs into an archive, for sites without a compiler
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.changes
description:
  - Writes the programs of all architectures that M(ocihooks.ssh.build_programs) built, and their bills of materials,
    into one archive. Equal programs give an equal archive, byte for byte.
options:
  builds:
    description: What M(ocihooks.ssh.build_programs) returned.
    type: dict
    required: true
  release:
    description: Name of Dropbear's release, and the directory in the archive.
    type: str
    required: true
  dest:
    description: Absolute path of the archive.
    type: path
    required: true
attributes:
  diff_mode:
    description: Shows the digest of the archive before and after.
seealso:
  - module: ocihooks.ssh.build_programs
  - module: ocihooks.ssh.unpack_programs
"""

EXAMPLES = r"""
- name: Pack the programs
  ocihooks.ssh.pack_programs:
    builds: "{{ built }}"
    release: dropbear-2026.94
    dest: /var/cache/ocihooks-ssh/programs.tar.gz
"""

RETURN = r"""
sha256:
  description: SHA-256 of the archive.
  returned: success
  type: str
  sample: 243a86649cf6f23eeb6a2ff2456e09e5d77dd9018a54d3d96b0c6bdd6ba6c7f1
"""

import hashlib
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import archive, errors, files


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "builds": {"type": "dict", "required": True},
            "release": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    builds, dest = module.params["builds"], Path(module.params["dest"])
    if builds["missing"]:
        module.fail_json(msg=f"the programs for {', '.join(builds['missing'])} are not built: build them first")
    try:
        packed = archive.packed([*builds["files"], *builds["sboms"]], module.params["release"])
        before, after = files.sha256(dest) if dest.is_file() else "", hashlib.sha256(packed).hexdigest()
        if before != after and not module.check_mode:
            files.write_whole(packed, dest, 0o644)
    except (errors.BuildError, OSError) as error:
        module.fail_json(msg=str(error))
    diff = {
        "before_header": str(dest),
        "after_header": str(dest),
        "before": f"sha256 {before}\n" if before else "",
        "after": f"sha256 {after}\n",
    }
    module.exit_json(changed=before != after, sha256=after, diff=diff)


if __name__ == "__main__":
    main()
