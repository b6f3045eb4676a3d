#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: build_programs
short_description: Build Dropbear and OpenSSH's programs as static, position-independent programs
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.changes
description:
  - Builds Dropbear, and C(ssh), C(scp), C(sftp) and C(sftp-server) of OpenSSH, once per architecture, from release
    archives whose digests are verified. Foreign architectures are compiled by zig, which pip installs for the build.
  - A build is kept under a key of all that shapes it - source, patches, options, compiler, architecture, and the static
    libraries that it is linked with, which are builds of their own. What is there already is not built again. Then no
    archive, no compiler and no network is needed.
  - A program that is not static, position-independent and hardened is refused.
  - With the programs of each architecture comes their bill of materials.
options:
  build_dir:
    description:
      - Directory for release archives (in C(sources)) and builds. It is made where it misses.
      - It has to belong to the user who runs the task, and be writable by nobody else.
      - Directories above it have to belong to root or to that user, and be writable by nobody else, unless they are
        sticky, as C(/tmp) is. If root runs the task, they may also belong to the user who became root by sudo.
    type: path
    required: true
  architectures:
    description: Architectures to build for.
    type: list
    elements: str
    choices: [aarch64, ppc64le, riscv64, x86_64]
    required: true
  native_compiler:
    description: The compiler for the host's own architecture.
    type: str
    choices: [musl-gcc, zig]
    required: true
  zig_requirement:
    description: Text of a requirements file of pip for zig, with digests.
    type: str
    required: true
  sources:
    description: The release archives. The libraries that a program is linked with have to be among them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What it is the source of.
        type: str
        choices: [dropbear, libsodium, openssh, openssl]
        required: true
      archive:
        description: Name of the archive in C(sources).
        type: str
        required: true
      sha256:
        description: SHA-256 of the archive, in hexadecimal.
        type: str
        required: true
      files:
        description: Files to add to the source. Each name to its text.
        type: dict
        default: {}
      patches:
        description: Unified diffs. Each name to its text; they are applied in the order of their names.
        type: dict
        default: {}
attributes:
  check_mode:
    description: Can run in check mode and report what would be built, and which archives and tools that takes.
  diff_mode:
    description: Shows what is built.
seealso:
  - module: ocihooks.ssh.source_archive
  - module: ocihooks.ssh.pack_programs
"""

EXAMPLES = r"""
- name: Build Dropbear for two architectures
  ocihooks.ssh.build_programs:
    build_dir: /var/cache/ocihooks-ssh
    architectures: [aarch64, x86_64]
    native_compiler: musl-gcc
    zig_requirement: "{{ lookup('ansible.builtin.file', 'zig-requirements.txt') }}"
    sources:
      - name: dropbear
        archive: dropbear-2026.94.tar.bz2
        sha256: e098034a843699200c8c977a991fff73159735bf795d5f72ef672c41a6b1ae81
      - name: libsodium
        archive: libsodium-1.0.22.tar.gz
        sha256: 5838bb0c3da6148c24ebe531d1ed1297de9a87aea77d426bcd99f289e681631c
"""

RETURN = r"""
missing:
  description: Architectures whose programs are not all there, which happens in check mode only.
  returned: success
  type: list
  elements: str
  sample: []
missing_sources:
  description: Names of the sources whose archive has to be put into C(sources) before what is missing can be built.
  returned: success
  type: list
  elements: str
  sample: []
missing_tools:
  description: Tools that have to be installed before what is missing can be built.
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
      path: /var/cache/ocihooks-ssh/artefacts/openssh-10.3p1-x86_64-0123456789ab/ssh
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
