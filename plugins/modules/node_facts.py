#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_facts
short_description: Internal to the roles - report the properties of a node that matter to the SSH hook
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.read_only]
description:
  - Reports whether the hook can be installed on a node, and which parts of it are installed. Run it as root, which can
    see the processes of all users. With O(dropbear_versions) it runs programs, if only root can change them.
  - Returns C(node), which C(report) in C(plugins/module_utils/_node.py) describes.
options:
  prefix: {type: path, default: /opt/oci-hooks, description: "Directory of the installation."}
  python: {type: path, default: /usr/bin/python3, description: "The interpreter that runs the hook."}
  packages_dir: {type: str, default: "", description: "The site's Python packages; if empty, the distribution's."}
  dropbear_dir: {type: path, default: /opt/oci-hooks/dropbear, description: "Directory of Dropbear."}
  port: {type: int, default: 15263, description: "TCP port of the SSH daemons."}
  addresses: {type: list, elements: str, default: [], description: "IP addresses on which they will listen."}
  passwd_file: {type: path, default: /opt/oci-hooks/etc/passwd, description: "The hook's passwd file."}
  writes_passwd_file: {type: bool, default: false, description: "Whether an installation writes O(passwd_file)."}
  name_service: {type: bool, default: false, description: "Whether to compare O(passwd_file) with C(getent passwd)."}
  base_dir: {type: path, default: /home, description: "Directory of the users' homes."}
  directories: {type: list, elements: path, default: [], description: "Directories that may be missing."}
  json_files: {type: list, elements: path, default: [], description: "Paths of the hook JSON."}
  files: {type: dict, default: {}, description: "Files that an installation writes, path to mode."}
  hook_digests: {type: dict, default: {}, description: "SHA-256 of the hook's sources. If empty, it is not compared."}
  dropbear_versions: {type: dict, default: {}, description: "Versions of the programs. If empty, none is run."}
  metrics_dir: {type: str, default: "", description: "Directory of metrics for node_exporter, if any."}
  possible: {type: list, elements: path, default: [], description: "Files that earlier O(files) may have included."}
  unwanted: {type: list, elements: path, default: [], description: "Files that must not exist."}
  docker_json: {type: path, default: /etc/docker/daemon.json, description: "The configuration of Docker's daemon."}
  firewalld_zone: {type: str, default: "", description: "Name of a firewalld zone."}
  lists_daemons: {type: bool, default: false, description: "Whether to have the installed hook list its daemons."}
  critical:
    {type: list, elements: path, default: [], description: "Files of the installation that decide what root runs. If
      given, they and files from elsewhere, such as O(provided), are verified as M(ocihooks.ssh.secure_path) does."}
  provided: {type: list, elements: path, default: [], description: "More such files, which must exist already."}
"""

EXAMPLES = r"""
- ocihooks.ssh.node_facts:
    port: 15263
  register: answer
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils import _node


def main() -> None:
    """Run the module."""
    paths = {"type": "list", "elements": "path", "default": []}
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "path", "default": "/opt/oci-hooks"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "packages_dir": {"type": "str", "default": ""},
            "dropbear_dir": {"type": "path", "default": "/opt/oci-hooks/dropbear"},
            "port": {"type": "int", "default": 15263},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "passwd_file": {"type": "path", "default": "/opt/oci-hooks/etc/passwd", "no_log": False},
            "writes_passwd_file": {"type": "bool", "default": False, "no_log": False},
            "name_service": {"type": "bool", "default": False},
            "base_dir": {"type": "path", "default": "/home"},
            "directories": paths,
            "json_files": paths,
            "files": {"type": "dict", "default": {}},
            "hook_digests": {"type": "dict", "default": {}},
            "dropbear_versions": {"type": "dict", "default": {}},
            "critical": paths,
            "provided": paths,
            "metrics_dir": {"type": "str", "default": ""},
            "possible": paths,
            "unwanted": paths,
            "docker_json": {"type": "path", "default": "/etc/docker/daemon.json"},
            "firewalld_zone": {"type": "str", "default": ""},
            "lists_daemons": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    module.check_mode = True  # so that no label is changed either

    def relabel(path: str) -> bool:
        return bool(module.set_default_selinux_context(path, False))

    try:
        module.exit_json(changed=False, node=_node.report(module.params, relabel))
    except (TimeoutError, ValueError) as error:  # processes are silent; a path or an octal mode is invalid
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
