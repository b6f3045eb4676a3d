#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_facts
short_description: Report the properties of a node that matter to the SSH hook
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.read_only
description:
  - Reports what decides whether the hook can be installed on a node, and what of it is there, in one task.
  - Changes nothing. With O(dropbear_versions) it runs Dropbear and OpenSSH's programs, if only root can change them.
options:
  prefix:
    description: Directory of the installation.
    type: path
    default: /opt/oci-hooks
  python:
    description: The Python interpreter that runs the hook.
    type: path
    default: /usr/bin/python3
  packages_dir:
    description: The site's directory of Python packages. If empty, the distribution's are looked for.
    type: str
    default: ""
  dropbear_dir:
    description: Directory of Dropbear.
    type: path
    default: /opt/oci-hooks/dropbear
  port:
    description: TCP port of the SSH daemons.
    type: int
    default: 15263
  addresses:
    description: IP addresses at which the SSH daemons are to listen.
    type: list
    elements: str
    default: []
  passwd_file:
    description: The hook's passwd file.
    type: path
    default: /opt/oci-hooks/etc/passwd
  name_service:
    description: Whether to compare O(passwd_file) with what C(getent passwd) lists.
    type: bool
    default: false
  directories:
    description: Directories that may be missing.
    type: list
    elements: path
    default: []
  json_files:
    description: Paths of the hook JSON.
    type: list
    elements: path
    default: []
  files:
    description: Files that an installation writes, path to mode, such as C("0644").
    type: dict
    default: {}
  hook_digests:
    description: SHA-256 of each source of the hook. If empty, the installed hook is not compared.
    type: dict
    default: {}
  dropbear_versions:
    description: Versions of C(dropbear) and C(openssh). If empty, the installed programs are not compared, and not run.
    type: dict
    default: {}
  metrics_dir:
    description: Directory of metrics for node_exporter, if any.
    type: str
    default: ""
  unwanted:
    description: Files that must not exist.
    type: list
    elements: path
    default: []
  docker_json:
    description: The configuration of Docker's daemon.
    type: path
    default: /etc/docker/daemon.json
  firewalld_zone:
    description: Name of a zone of firewalld.
    type: str
    default: ""
  critical:
    description:
      - Files and directories that an installation writes, and that decide what root runs when a container starts. If
        given, those that exist are verified as M(ocihooks.ssh.secure_path) does.
      - So is then what decides it too and is not written, O(provided) and O(python) with what it loads for the hook. Of
        the directories that stay as they are when the installation writes in them, the contents are not verified.
    type: list
    elements: path
    default: []
  provided:
    description: Files that decide it too, and must be there before an installation.
    type: list
    elements: path
    default: []
notes:
  - Run it as root, which can see the processes of all users.
"""

EXAMPLES = r"""
- name: Ask the node
  ocihooks.ssh.node_facts:
    port: 15263
  register: answer

- name: Show who has the port
  ansible.builtin.debug:
    var: answer.node.port_holders
"""

RETURN = r"""
node:
  description: The properties.
  returned: success
  type: dict
  contains:
    image:
      description: >-
        Whether this is an image of a node and no node that runs. Its root directory is not that of the first process,
        as in a chroot, or C(/proc) is not mounted. C(kernel), C(port_holders), C(foreign), C(suid_dumpable),
        C(lowest_port) and C(daemons) are empty then, since they would tell of the machine that changes the image.
      type: bool
      sample: false
    dev_null:
      description: Whether C(/dev/null) is a device, as it is not in an image without devices.
      type: bool
      sample: true
    architecture:
      description: The machine's architecture.
      type: str
      sample: x86_64
    kernel:
      description: Release of the running kernel. Empty in an image.
      type: str
      sample: 6.12.0-1-amd64
    systemd:
      description: Whether the first process is systemd; in an image, whether systemd is installed.
      type: bool
      sample: true
    python:
      description: >-
        Of O(python) whether it C(exists); the C(problem) for which it was not run, or does not run as the user nobody,
        a sentence, or null, and whether that is that others can change it (C(unsafe)); its C(version), or null if it is
        not Python; its C(import_path) when it is isolated, with the file by which a virtual environment sets that; the
        directory of each of its C(packages) cryptography and pyroute2, or null; and whether it can load C(libseccomp).
      type: dict
      sample:
        exists: true
        problem: null
        unsafe: false
        version: "3.11"
        import_path: [/usr/lib/python3.11, /usr/lib/python3.11/lib-dynload]
        packages: {cryptography: /usr/lib/python3/dist-packages, pyroute2: null}
        libseccomp: true
    engines:
      description: Container engine to the absolute path of its program.
      type: dict
      sample: {crun: /usr/bin/crun}
    docker:
      description: >-
        Of Docker's daemon its C(version), whether it takes C(cdi) devices, whether it C(is_old), before the first
        version with CDI, and what is the C(problem) with O(docker_json), or null. Null if there is no such daemon.
      type: dict
      sample: {version: "26.1", cdi: false, is_old: false, problem: null}
    hooks_dirs:
      description: >-
        Engine to the directories from which it reads OCI hooks. Without podman if that does not run, as in an image
        without C(/proc).
      type: dict
      sample: {podman: [/usr/share/containers/oci/hooks.d]}
    other_hooks:
      description: JSON files of other SSH hooks, in these directories or in those of O(json_files).
      type: list
      elements: str
      sample: []
    port_holders:
      description: Processes other than the hook's daemons that listen on O(port) in the node's network namespace.
      type: list
      elements: str
      sample: [nginx (pid 812)]
    foreign:
      description: Those of O(addresses) on which nothing can listen on this node.
      type: list
      elements: str
      sample: []
    lowest_port:
      description: >-
        The first port on which users may listen (net.ipv4.ip_unprivileged_port_start); 0 in an image.
      type: int
      sample: 1024
    suid_dumpable:
      description: The kernel parameter fs.suid_dumpable.
      type: int
      sample: 0
    daemons:
      description: Process ids of the SSH daemons that run from O(dropbear_dir), or from an older version beside it.
      type: list
      elements: int
      sample: []
    servers:
      description: >-
        Of each of C(daemons) that is no session of another: its C(pid), the name of its C(user) (the uid if there is no
        name), the TCP C(ports) of its command line, and the number of its C(sessions).
      type: list
      elements: dict
      sample: [{pid: 4711, user: alice, ports: [15263], sessions: 2}]
    passwd_file:
      description: Whether O(passwd_file) exists.
      type: bool
      sample: true
    passwd_outdated:
      description: >-
        With O(name_service), whether O(passwd_file) is not what C(getent passwd) lists, or that cannot be told.
      type: bool
      sample: false
    files:
      description: Those of O(files) that are regular files of root's with that mode, to their SHA-256.
      type: dict
      sample:
        /etc/cdi/ocihooks-ssh.json: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    firewalld_zone:
      description: Whether firewalld has O(firewalld_zone).
      type: bool
      sample: false
    missing:
      description: Those of O(directories) that do not exist.
      type: list
      elements: str
      sample: []
    dead_links:
      description: >-
        Links above directories of an installation that lead to nothing, as in an image without what its nodes mount.
      type: list
      elements: str
      sample: []
    read_only:
      description: >-
        Directories of an installation, and that of O(passwd_file) with O(name_service), on a read-only file system.
      type: list
      elements: str
      sample: []
    full:
      description: Those of them that lie on a file system with too little room.
      type: list
      elements: str
      sample: []
    stale:
      description: >-
        The hook JSON files of this collection with another name than O(json_files), or in another directory that
        engines read, and those of O(unwanted) that exist. Where there is no container engine, those of O(files), too.
      type: list
      elements: str
      sample: []
    port:
      description: >-
        The TCP port of the SSH daemons that O(files) give the hook, which need not be O(port); null if they name none.
      type: int
      sample: 15263
    units:
      description: >-
        The units of those timers that are enabled and run, or, in an image, that are enabled, to their SHA-256.
      type: dict
      sample:
        ssh-hook-sweep.service: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
        ssh-hook-sweep.timer: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    safe:
      description: >-
        What only root can change. O(provided) and of C(python) C(import_path) and C(packages) are among it as soon as
        cryptography is installed, and so are those of O(critical), C(versions) and C(units) that exist, if only root
        can change all of them.
      type: list
      elements: str
      sample: [/opt/oci-hooks/bin/ssh_hook]
    unsafe:
      description: >-
        How others can change what an installation does not write, and what to do about that. Empty if only root can, if
        O(critical) is empty, and if C(python) has a problem.
      type: str
      sample: ""
    timers:
      description: Names of the hook's systemd timers that are installed.
      type: list
      elements: str
      sample: [ssh-hook-passwd, ssh-hook-sweep]
    hook_settings:
      description: >-
        What the launcher gives the hook, name to value. Null if anything but these settings is not as O(hook_digests),
        O(prefix) and O(python) say, or if there is no hook.
      type: dict
      sample: {HOOK_BASE_DIR: /home, SSH_KEY_TYPE: ed25519}
    dropbear:
      description: Whether there is a release of Dropbear beside O(dropbear_dir).
      type: bool
      sample: true
    release:
      description: >-
        Name of the release of Dropbear in use, if its files are those that its name says, all is as
        M(ocihooks.ssh.dropbear_programs) installs it, and its programs say O(dropbear_versions). Empty otherwise.
      type: str
      sample: dropbear-2026.94-0123456789ab
    hook_version:
      description: Version of the hook that the launcher runs; null if there is none.
      type: str
      sample: 1.0.0
    versions:
      description: >-
        Directories of the installed versions of the hook, the one that the launcher runs first, then the newest.
      type: list
      elements: str
      sample: [/opt/oci-hooks/lib/ssh_hook-0123456789ab]
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
            "name_service": {"type": "bool", "default": False},
            "directories": paths,
            "json_files": paths,
            "files": {"type": "dict", "default": {}},
            "hook_digests": {"type": "dict", "default": {}},
            "dropbear_versions": {"type": "dict", "default": {}},
            "critical": paths,
            "provided": paths,
            "metrics_dir": {"type": "str", "default": ""},
            "unwanted": paths,
            "docker_json": {"type": "path", "default": "/etc/docker/daemon.json"},
            "firewalld_zone": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    module.check_mode = True  # so that nothing changes a label either

    def relabel(path: str) -> bool:
        return bool(module.set_default_selinux_context(path, False))

    try:
        module.exit_json(changed=False, node=_node.report(module.params, relabel))
    except ValueError as error:  # a path that is not absolute, or a mode that is no octal number
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
