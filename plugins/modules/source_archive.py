#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: source_archive
short_description: Download a release archive, from the first origin that has it
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.changes
description:
  - Tries the URLs in their order and then, if the host has apt, the host's mirrors of Debian or Ubuntu, which keep the
    archive of the same release, byte for byte.
  - An origin that does not answer is skipped. An origin that gives a file with another digest ends the search with an
    error, because somebody should look. Nothing is written before the digest is verified.
  - A file that is there with the right digest is kept, and no origin is asked.
options:
  archive:
    description: Name of the archive, such as V(dropbear-2026.94.tar.bz2). Its place on a mirror is derived from it.
    type: str
    required: true
  sha256:
    description: SHA-256 of the archive, in hexadecimal.
    type: str
    required: true
  urls:
    description: Where the archive may be. Proxies are taken from the environment.
    type: list
    elements: str
    default: []
  dest:
    description: Absolute path of the file. The directory is made where it misses.
    type: path
    required: true
attributes:
  diff_mode:
    description: Shows the digest of the file before and after.
seealso:
  - module: ocihooks.ssh.build_programs
"""

EXAMPLES = r"""
- name: Download Dropbear
  ocihooks.ssh.source_archive:
    archive: dropbear-2026.94.tar.bz2
    sha256: e098034a843699200c8c977a991fff73159735bf795d5f72ef672c41a6b1ae81
    urls:
      - https://matt.ucc.asn.au/dropbear/releases/dropbear-2026.94.tar.bz2
    dest: /var/cache/ocihooks-ssh/sources/dropbear-2026.94.tar.bz2
"""

RETURN = r"""
# There is nothing but what every module returns.
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
