#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dropbear_programs
short_description: Install a build of Dropbear and OpenSSH's programs on a node, and verify it
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.root
description:
  - Installs the files of one release in a directory of its own, all of root's, and then replaces the link
    C(<prefix>/dropbear) by an atomic rename. A container that starts meanwhile gets the old release or the new one.
  - The previous release stays, and so does any older one that a process still runs. Others are removed, which are
    directories with the name C(dropbear-), version, C(-) and twelve hexadecimal digits.
  - Where SELinux is enabled, files and directories of the release get the labels that the node's policy has for them.
  - At its end it runs the programs that are in use, and fails if one does not run or has another version.
  - The files are sent, all in one archive, to a node that has said that it lacks some of them, or at once if
    O(send_files=true).
options:
  prefix:
    description: Directory of the installation.
    type: path
    required: true
  versions:
    description: >-
      Versions of C(dropbear) and C(openssh) that the programs have to say. Needed unless O(state=absent).
    type: dict
  state:
    description:
      - With V(absent) the link C(<prefix>/dropbear) and all releases are removed, also those that processes run.
      - V(reported) changes nothing. It runs the programs that are in use, also in check mode, and returns what is wrong
        with them instead of failing.
    type: str
    choices: [present, absent, reported]
    default: present
  builds:
    description:
      - What the role ocihooks.ssh.dropbear has built, with the paths of the programs on the controller.
      - Without it the task only verifies what is installed.
    type: dict
  architecture:
    description: The node's architecture. Needed with O(builds).
    type: str
  source_dir:
    description: >-
      Directory on the controller that has the files of O(builds) under their digests, if they are not at the paths that
      it names.
    type: str
    default: ""
  cache:
    description: Directory on the controller for the archive that is sent. Needed with O(builds).
    type: str
  send_files:
    description: >-
      Whether to send the files at once, to a node whose programs are known not to be as they should be.
    type: bool
    default: false
  release:
    description: The release, which the action plugin of this module finds in O(builds).
    type: dict
  archive:
    description: Path of the archive on the node, which the action plugin of this module sets.
    type: path
attributes:
  check_mode:
    description: Can run in check mode and report what would change. The programs are then not run.
  diff_mode:
    description: Shows the release in a line or, if that stays, paths that are not as they should be.
"""

EXAMPLES = r"""
- name: Verify that the programs run, and are of these versions
  ocihooks.ssh.dropbear_programs:
    prefix: /opt/oci-hooks
    versions:
      dropbear: "2026.94"
      openssh: 10.3p1
"""

RETURN = r"""
removed:
  description: Paths that were removed, such as directories of old releases; in check mode those that would be.
  returned: success
  type: list
  elements: str
  sample: []
programs:
  description: The versions of C(dropbear) and C(openssh) that the programs say they have; null for one that says none.
  returned: when O(state=reported)
  type: dict
  sample: {dropbear: "2026.94", openssh: 10.3p1}
problem:
  description: What is wrong with the programs, a sentence; null if nothing is.
  returned: when O(state=reported)
  type: str
  sample: null
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils import _diff, _dropbear


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "path", "required": True},
            "versions": {"type": "dict"},
            "state": {"type": "str", "choices": ["present", "absent", "reported"], "default": "present"},
            "builds": {"type": "dict"},
            "architecture": {"type": "str"},
            "source_dir": {"type": "str", "default": ""},
            "cache": {"type": "str"},
            "send_files": {"type": "bool", "default": False},
            "release": {"type": "dict"},
            "archive": {"type": "path"},
        },
        required_if=[("state", "present", ("versions",)), ("state", "reported", ("versions",))],
        supports_check_mode=True,
    )

    def relabel(path: str) -> bool:
        return bool(module.set_default_selinux_context(path, False))

    params, wrong, removed, diff = module.params, [], [], _diff.of_lines()
    try:
        if params["state"] == "reported":
            programs, problem = _dropbear.report(params["prefix"], params["versions"])
            module.exit_json(changed=False, removed=[], programs=programs, problem=problem)
        if params["state"] == "absent":
            removed = _dropbear.uninstall(params["prefix"], module.check_mode)
        elif params["release"]:
            files = [_dropbear.File(*file) for file in params["release"]["files"]]
            release = _dropbear.Release(params["prefix"], params["release"]["name"], files)
            state = _dropbear.compare(release)
            wrong = state.paths(release)
            if module.check_mode:
                relabelled = [path for path in release.paths() if relabel(path)]
            else:
                if state.files and not params["archive"]:
                    module.exit_json(changed=False, needs_archive=True)
                relabelled = _dropbear.install(release, state, params["archive"], relabel)
            wrong += [path for path in relabelled if path not in wrong]
            removed = _dropbear.prune(release, state.current, module.check_mode)
            diff = _diff.of_version(release.directory, state.current and f"{release.prefix}/{state.current}", wrong)
        if params["state"] == "present" and not module.check_mode:
            _dropbear.verify(params["prefix"], params["versions"])
    except (_dropbear.NotInstalled, ValueError) as error:
        module.fail_json(msg=str(error), changed=bool(wrong))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or params['prefix']} cannot be written: {error.strerror}")
    diff["prepared"] += _diff.of_lines(*(f"removed: {path}" for path in removed))["prepared"]
    module.exit_json(changed=bool(wrong or removed), removed=removed, diff=diff)


if __name__ == "__main__":
    main()
