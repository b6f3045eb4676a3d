#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: build_programs
short_description: Internal to the role dropbear - build Dropbear and OpenSSH as static, position-independent programs
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.changes]
description:
  - Builds Dropbear, and C(ssh), C(scp), C(sftp) and C(sftp-server), once per architecture, from archives in C(sources)
    of O(build_dir). No other user may be able to write to it or to the directories above it. They must belong to the
    user of the task, to root, or to the user who became root by sudo.
  - Builds are cached under a key made from all inputs. A cached build needs no archive, compiler or network.
  - Returns C(files) and C(sboms), the programs and their bills of materials, each with its C(architecture), C(path) and
    C(sha256), and what is C(missing), C(missing_sources) and C(missing_tools) in check mode.
options:
  build_dir: {type: path, required: true, description: "Directory for sources and builds. It is created if missing."}
  architectures:
    {type: list, elements: str, required: true, choices: [aarch64, ppc64le, riscv64, x86_64],
     description: "Architectures to build for."}
  native_compiler:
    {type: str, required: true, choices: [musl-gcc, zig], description: "Compiler for the host's own architecture."}
  zig_requirement: {type: str, required: true, description: "Text of pip's requirements file for zig, with digests."}
  sources:
    {type: list, elements: dict, required: true, description: "Release archives, also of libraries.", suboptions: {
      name: {type: str, required: true, choices: [dropbear, libsodium, openssh, openssl], description: "Its project."},
      archive: {type: str, required: true, description: "Name of the archive."},
      sha256: {type: str, required: true, description: "SHA-256 of the archive, in hexadecimal."},
      files: {type: dict, default: {}, description: "Files to add to the source. Each path to its text."},
      patches: {type: dict, default: {}, description: "Unified diffs. Each name to its text, in the order of names."}}}
"""

EXAMPLES = r"""
- ocihooks.ssh.build_programs:
    build_dir: /var/cache/ocihooks-ssh
    architectures: [x86_64]
    native_compiler: musl-gcc
    zig_requirement: "{{ lookup('ansible.builtin.file', 'zig-requirements.txt') }}"
    sources: "{{ sources }}"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import errors, job, plan, result

SOURCE = {
    "name": {"type": "str", "choices": ["dropbear", "libsodium", "openssh", "openssl"], "required": True},
    "archive": {"type": "str", "required": True},
    "sha256": {"type": "str", "required": True},
    "files": {"type": "dict", "default": {}},
    "patches": {"type": "dict", "default": {}},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "build_dir": {"type": "path", "required": True},
            "architectures": {
                "type": "list",
                "elements": "str",
                "choices": ["aarch64", "ppc64le", "riscv64", "x86_64"],
                "required": True,
            },
            "native_compiler": {"type": "str", "choices": ["musl-gcc", "zig"], "required": True},
            "zig_requirement": {"type": "str", "required": True},
            "sources": {"type": "list", "elements": "dict", "required": True, "options": SOURCE},
        },
        supports_check_mode=True,
    )
    try:
        wanted = job.read_job(module.params)
        status = plan.inspect(wanted)
        made = plan.to_do(wanted, status)
        if made and not module.check_mode:
            status, made = plan.make_all(wanted)
        module.exit_json(
            **result.result(
                made,
                [file for build in status.builds for file in build.files()],
                [bill.file() for bill in status.kept_bills],
                plan.missing_architectures(wanted, status),
            ),
            missing_sources=plan.missing_sources(wanted, status),
            missing_tools=plan.missing_tools(wanted, status),
        )
    except (errors.BuildError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
