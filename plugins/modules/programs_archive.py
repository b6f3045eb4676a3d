#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: programs_archive
short_description: Internal to the role dropbear - pack built programs, for sites without a compiler, or unpack them
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.changes]
description:
  - V(packed) writes the programs of all architectures and their bills of materials into one archive. The same programs
    always give the same archive, byte for byte. Returns its C(sha256).
  - V(unpacked) verifies the archive and its programs, and puts them into a directory, named by their digests. Returns
    C(files), C(sboms) and C(missing), as M(ocihooks.ssh.build_programs) does.
options:
  archive: {type: path, required: true, description: "Absolute path of the archive."}
  release: {type: str, required: true, description: "Name of Dropbear's release, and the directory in the archive."}
  state: {type: str, required: true, choices: [packed, unpacked], description: "What to do."}
  builds: {type: dict, description: "To pack, what M(ocihooks.ssh.build_programs) returned."}
  sha256: {type: str, description: "To unpack, SHA-256 of the archive, in hexadecimal."}
  architectures: {type: list, elements: str, description: "To unpack, architectures whose programs are wanted."}
  directory: {type: path, description: "To unpack, where the files are put."}
"""

EXAMPLES = r"""
- ocihooks.ssh.programs_archive:
    archive: /var/cache/ocihooks-ssh/programs.tar.gz
    release: dropbear-2026.94
    state: packed
    builds: "{{ built }}"
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import archive, errors, files, result


def pack(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Write the archive, unless `check`; return the module's result."""
    builds, dest = params["builds"], Path(params["archive"])
    if builds["missing"]:
        raise errors.BuildError(f"the programs for {', '.join(builds['missing'])} are not built: build them first")
    packed = archive.packed([*builds["files"], *builds["sboms"]], params["release"])
    before, after = files.sha256(dest) if dest.is_file() else "", hashlib.sha256(packed).hexdigest()
    if before != after and not check:
        files.write_whole(packed, dest, 0o644)
    diff = {
        "before_header": str(dest),
        "after_header": str(dest),
        "before": f"sha256 {before}\n" if before else "",
        "after": f"sha256 {after}\n",
    }
    return {"changed": before != after, "sha256": after, "diff": diff}


def unpack(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Unpack the archive's programs into the directory, unless `check`; return the module's result."""
    request = archive.Request(
        Path(params["archive"]),
        params["sha256"],
        params["release"],
        params["architectures"],
        Path(params["directory"]),
    )
    programs, bills, written = archive.unpack(request, check)
    return result.result([f"write {path}" for path in written], programs, bills)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "path", "required": True},
            "release": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["packed", "unpacked"], "required": True},
            "builds": {"type": "dict"},
            "sha256": {"type": "str"},
            "architectures": {"type": "list", "elements": "str"},
            "directory": {"type": "path"},
        },
        required_if=[
            ("state", "packed", ("builds",)),
            ("state", "unpacked", ("sha256", "architectures", "directory")),
        ],
        supports_check_mode=True,
    )
    try:
        act = pack if module.params["state"] == "packed" else unpack
        module.exit_json(**act(module.params, module.check_mode))
    except (errors.BuildError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
