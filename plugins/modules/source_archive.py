#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: source_archive
short_description: Internal to the role dropbear - download a release archive, from the first origin that has it
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.changes]
description:
  - Tries the URLs in order and then, if the host has apt, the host's mirrors of Debian or Ubuntu. An origin that does
    not answer is skipped. If one provides a file with another digest, the task fails.
  - If the file exists with the right digest, nothing is downloaded.
options:
  archive: {type: str, required: true, description: "Its name, such as V(dropbear-2026.94.tar.bz2)."}
  sha256: {type: str, required: true, description: "Its SHA-256, in hexadecimal."}
  urls: {type: list, elements: str, default: [], description: "Where to look for it. The environment sets proxies."}
  dest: {type: path, required: true, description: "Absolute path of the file. The directory is created if missing."}
"""

EXAMPLES = r"""
- ocihooks.ssh.source_archive:
    archive: dropbear-2026.94.tar.bz2
    sha256: e098034a843699200c8c977a991fff73159735bf795d5f72ef672c41a6b1ae81
    urls: [https://matt.ucc.asn.au/dropbear/releases/dropbear-2026.94.tar.bz2]
    dest: /var/cache/ocihooks-ssh/sources/dropbear-2026.94.tar.bz2
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import download, errors, files


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "str", "required": True},
            "sha256": {"type": "str", "required": True},
            "urls": {"type": "list", "elements": "str", "default": []},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    dest = Path(params["dest"])
    request = download.Request(params["archive"], params["sha256"], params["urls"])
    before = ""
    try:
        if dest.is_file():
            before = f"sha256 {files.sha256(dest)}\n"
        after = f"sha256 {request.sha256}\n"
        if before != after and not module.check_mode:
            files.write_whole(download.find(request), dest, 0o644)
    except errors.BuildError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or dest} cannot be written: {error.strerror}")
    diff = {"before_header": str(dest), "after_header": str(dest), "before": before, "after": after}
    module.exit_json(changed=before != after, diff=diff)


if __name__ == "__main__":
    main()
