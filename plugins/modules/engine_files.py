#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_files
short_description: Write the files by which container engines find OCI hooks
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.root
description:
  - Writes OCI hook configurations of schema 1.0.0 and CDI specs (Container Device Interface). Each is checked before it
    replaces the old one, by an atomic rename. If one is not right, none is written, and the task fails.
  - Also writes the files of engines that have a directory of their own, enroot and podman-hpc.
  - Engines read every file in their directories that ends in C(.json). The temporary files of this module do not.
  - Files belong to root, with mode 0644, and scripts with mode 0755.
options:
  hooks:
    description: >-
      Absolute path of each OCI hook configuration to its text. A directory that does not exist is made.
    type: dict
    default: {}
  cdi:
    description: Absolute path of each CDI spec, which has OCI hooks and nothing else, to its text.
    type: dict
    default: {}
  enroot_hooks:
    description: Absolute path of each hook script of enroot, whose directory must exist, to its text.
    type: dict
    default: {}
  podman_hpc_modules:
    description: Absolute path of each module of podman-hpc, whose directory must exist, to its text.
    type: dict
    default: {}
  absent:
    description: Absolute paths of files to remove, before the others are written.
    type: list
    elements: path
    default: []
  docker_json:
    description:
      - The configuration of Docker's daemon, in which CDI devices are switched on. All other settings stay.
      - Docker takes it at its next start. This module warns of that, unless it changes an image of a node. It does not
        restart Docker, which may end containers.
    type: path
attributes:
  diff_mode:
    description: >-
      Shows the lines of a file that differ, and a line for one that is new or is removed. Of O(docker_json), which may
      hold secrets, only what changes.
notes:
  - In check mode the program that a hook names need not exist yet.
"""

EXAMPLES = r"""
- name: Write the JSON of a hook
  ocihooks.ssh.engine_files:
    hooks:
      /usr/share/containers/oci/hooks.d/07-ssh-hook.json: "{{ hook | to_nice_json }}"
    absent:
      - /usr/share/containers/oci/hooks.d/08-ssh-hook.json
"""

RETURN = r"""
written:
  description: Paths of the files that were not as they should be, and were written; in check mode those that would be.
  returned: success
  type: list
  elements: str
  sample: [/usr/share/containers/oci/hooks.d/07-ssh-hook.json]
removed:
  description: Paths of the files that were removed; in check mode those that would be.
  returned: success
  type: list
  elements: str
  sample: []
docker_changed:
  description: Whether O(docker_json) did not switch on CDI.
  returned: success
  type: bool
  sample: false
"""

import os
import platform
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils import _diff, _docker, _files, _image, _oci_json

# Option -> kind of JSON, which is checked and whose directory is made, or None; and the mode of its files.
KINDS = {
    "hooks": ("hook", 0o644),
    "cdi": ("cdi", 0o644),
    "enroot_hooks": (None, 0o755),
    "podman_hpc_modules": (None, 0o644),
}


def wrong_files(module: AnsibleModule) -> dict[str, tuple[str, int]]:
    """Return those of the files that have to be written, path -> text and mode; fail if one of them is not right."""
    wrong = {}
    for option, (kind, mode) in KINDS.items():
        for path, text in module.params[option].items():
            if _files.is_as(path, stat.S_IFREG | mode) and _files.read(path) == text.encode():
                continue
            wrong[path] = text, mode
            refusal = refusal_of(path, kind, text, module.check_mode)
            if refusal:
                module.fail_json(msg=refusal)
    return wrong


def refusal_of(path: str, kind: str | None, text: str, check_mode: bool) -> str | None:
    """Return why a file may not be written, a sentence, or None. In check mode the text of JSON is not checked."""
    if kind:
        return None if check_mode else _oci_json.refusal(path, kind, text)
    directory = os.path.dirname(path)
    return (
        None
        if os.path.isdir(directory)
        else f"{directory}, for {os.path.basename(path)}, is no directory: install its engine, or name another"
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "hooks": {"type": "dict", "default": {}},
            "cdi": {"type": "dict", "default": {}},
            "enroot_hooks": {"type": "dict", "default": {}},
            "podman_hpc_modules": {"type": "dict", "default": {}},
            "absent": {"type": "list", "elements": "path", "default": []},
            "docker_json": {"type": "path"},
        },
        supports_check_mode=True,
    )
    check, docker_json = module.check_mode, module.params["docker_json"]
    path, diffs, removed = "", [], []
    try:
        docker = _docker.switch_on(docker_json, check=True) if docker_json else None
        wrong = wrong_files(module)
        for path in module.params["absent"]:
            if os.path.isdir(path) and not os.path.islink(path):
                module.fail_json(msg=f"{path} is a directory, and no file of an engine: remove it by hand")
            if _files.remove(path, check):
                removed.append(path)
                diffs.append(_diff.of_lines(f"removed: {path}"))
        for path, (text, mode) in wrong.items():
            diffs.append(_diff.of_text(path, _files.read(path).decode(errors="replace"), text))
            _files.make_missing(os.path.dirname(path), check)
            _files.update(path, text.encode(), mode, check)
        if docker and docker_json:
            path = docker_json
            diffs.append(_diff.of_text(path, *docker))
            _docker.switch_on(path, check)
            if not check and not _image.is_image():
                module.warn(
                    f"Docker on {platform.node()} takes CDI devices from its next start on: run systemctl restart "
                    'docker when its containers may end (with "live-restore" they go on running).'
                )
    except _docker.NotChanged as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or path} cannot be written: {error.strerror}")
    changed = bool(wrong or removed or docker)
    module.exit_json(
        changed=changed, written=list(wrong), removed=removed, docker_changed=docker is not None, diff=diffs
    )


if __name__ == "__main__":
    main()
