#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dropbear_programs
short_description: Internal to the role dropbear - install a build of Dropbear and OpenSSH, and verify it
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.root]
description:
  - Installs a release in a directory of its own, and replaces the link C(<prefix>/dropbear) by an atomic rename. All
    releases except this one, the previous one and those that a process runs are removed. Finally it runs the programs.
  - The action plugin sends the files to a node that lacks some, or at once with O(send_files=true).
  - Returns C(removed), a list of paths; and with O(state=reported) C(programs), their versions, and C(problem).
options:
  prefix: {type: path, required: true, description: "Directory of the installation."}
  versions: {type: dict, description: "Versions of C(dropbear) and C(openssh) that the programs must report."}
  state:
    {type: str, choices: [present, absent, reported], default: present, description: "V(absent) removes all releases.
      V(reported) runs the programs, also in check mode, and returns what is wrong with them instead of failing."}
  builds: {type: dict, description: "The role's builds. Without them the task only verifies the installed programs."}
  architecture: {type: str, description: "The node's architecture. Needed with O(builds)."}
  source_dir: {type: str, default: "", description: "Directory on the controller with the files under their digests."}
  cache: {type: str, description: "Directory on the controller for the archive that is sent. Needed with O(builds)."}
  send_files: {type: bool, default: false, description: "Whether to send the files at once."}
  release: {type: dict, description: "The release, which the action plugin finds in O(builds)."}
  archive: {type: path, description: "Path of the archive on the node, which the action plugin sets."}
"""

EXAMPLES = r"""
- ocihooks.ssh.dropbear_programs:
    prefix: /opt/oci-hooks
    versions: {dropbear: "2026.94", openssh: 10.3p1}
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
    except (_dropbear.NotInstalled, TimeoutError, ValueError) as error:
        module.fail_json(msg=str(error), changed=bool(wrong))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or params['prefix']} cannot be written: {error.strerror}")
    diff["prepared"] += _diff.of_lines(*(f"removed: {path}" for path in removed))["prepared"]
    module.exit_json(changed=bool(wrong or removed), removed=removed, diff=diff)


if __name__ == "__main__":
    main()
