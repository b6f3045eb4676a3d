#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unpack_programs
short_description: Take programs from an archive that was built elsewhere
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.changes
description:
  - Verifies an archive that M(ocihooks.ssh.pack_programs) made, and checks that each program is static,
    position-independent, hardened and for its architecture.
  - Puts the files into a directory, named by their digests.
options:
  archive:
    description: Path of the archive.
    type: path
    required: true
  sha256:
    description: SHA-256 of the archive, in hexadecimal.
    type: str
    required: true
  release:
    description: Name of Dropbear's release, and the directory in the archive.
    type: str
    required: true
  architectures:
    description: Architectures whose programs are wanted.
    type: list
    elements: str
    required: true
  directory:
    description: Where the files are put.
    type: path
    required: true
attributes:
  check_mode:
    description: >-
      Can run in check mode. It verifies the archive and its programs, and reports which files would be written.
  diff_mode:
    description: Shows which files are written.
seealso:
  - module: ocihooks.ssh.pack_programs
"""

EXAMPLES = r"""
- name: Take the programs from an archive
  ocihooks.ssh.unpack_programs:
    archive: /srv/mirror/ocihooks-programs.tar.gz
    sha256: 243a86649cf6f23eeb6a2ff2456e09e5d77dd9018a54d3d96b0c6bdd6ba6c7f1
    release: dropbear-2026.94
    architectures: [x86_64]
    directory: /root/.cache/ocihooks-ssh/fetched
"""

RETURN = r"""
missing:
  description: Always empty. An archive that lacks a program is an error.
  returned: success
  type: list
  elements: str
  sample: []
files:
  description: The programs, each with its C(architecture), its name C(program), its C(path) and its C(sha256).
  returned: success
  type: list
  elements: dict
  sample:
    - architecture: x86_64
      program: ssh
      path: /root/.cache/ocihooks-ssh/fetched/1f6f0e8f5ad4c1d4ae4ab3c3e3b4e1b8f7d9b4a8f3a7a2fb1d3bb5a7e5c0f3d2
      sha256: 1f6f0e8f5ad4c1d4ae4ab3c3e3b4e1b8f7d9b4a8f3a7a2fb1d3bb5a7e5c0f3d2
sboms:
  description: >-
    The bill of materials (CycloneDX 1.6) of each architecture's programs, with its C(architecture), its C(path) and
    its C(sha256).
  returned: success
  type: list
  elements: dict
  sample: []
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import archive, errors, result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "path", "required": True},
            "sha256": {"type": "str", "required": True},
            "release": {"type": "str", "required": True},
            "architectures": {"type": "list", "elements": "str", "required": True},
            "directory": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    request = archive.Request(
        Path(params["archive"]),
        params["sha256"],
        params["release"],
        params["architectures"],
        Path(params["directory"]),
    )
    try:
        files, bills, written = archive.unpack(request, module.check_mode)
        module.exit_json(**result.result([f"write {path}" for path in written], files, bills))
    except (errors.BuildError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
