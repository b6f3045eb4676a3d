#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_files
short_description: Internal to the role ssh_hook - write the files in which container engines and Slurm find OCI hooks
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.root]
description:
  - Writes OCI hook configurations of schema 1.0.0, CDI specs, and files of enroot, podman-hpc and Slurm, each by an
    atomic rename. No engine reads the temporary files. All files are checked first; if one is wrong, none is written.
  - Returns C(written) and C(removed), lists of paths, and C(docker_changed), whether CDI was off in O(docker_json).
options:
  hooks: {type: dict, default: {}, description: "Path of each OCI hook configuration to its text."}
  cdi: {type: dict, default: {}, description: "Path of each CDI spec, which contains only hooks, to its text."}
  enroot_hooks: {type: dict, default: {}, description: "Path of each script of enroot to its text."}
  podman_hpc_modules: {type: dict, default: {}, description: "Path of each module of podman-hpc to its text."}
  slurm_scripts: {type: dict, default: {}, description: "Path of each script of Slurm's Prolog and Epilog to its text."}
  absent: {type: list, elements: path, default: [], description: "Paths of files to remove, before others are written."}
  docker_json:
    {type: path, description: "Configuration of Docker's daemon in which CDI is enabled. Docker is not restarted.
      Since it may contain secrets, a diff shows only the lines that change."}
"""

EXAMPLES = r"""
- ocihooks.ssh.engine_files:
    hooks: {/usr/share/containers/oci/hooks.d/07-ssh-hook.json: "{{ hook | to_nice_json }}"}
"""

import os
import platform
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils import _diff, _docker, _files, _image, _oci_json

# Option -> the mode of its files, and the kind of JSON or None. JSON is checked, and its directory created.
KINDS = {
    "hooks": ("hook", 0o644),
    "cdi": ("cdi", 0o644),
    "enroot_hooks": (None, 0o755),
    "podman_hpc_modules": (None, 0o644),
    "slurm_scripts": (None, 0o755),
}


def wrong_files(module: AnsibleModule) -> dict[str, tuple[str, int]]:
    """Return the files that must be written, path -> text and mode; fail if one of them is invalid."""
    wrong = {}
    for option, (kind, mode) in KINDS.items():
        for path, text in module.params[option].items():
            if _files.is_as(path, stat.S_IFREG | mode) and _files.read(path) == text.encode():
                continue
            _files.refuse_foreign(path)
            wrong[path] = text, mode
            refusal = refusal_of(path, kind, text, module.check_mode)
            if refusal:
                module.fail_json(msg=refusal)
    return wrong


def refusal_of(path: str, kind: str | None, text: str, check_mode: bool) -> str | None:
    """Return an error message if a file must not be written, or None. In check mode JSON is not checked."""
    if kind:
        return None if check_mode else _oci_json.refusal(path, kind, text)
    directory = os.path.dirname(path)
    return (
        None
        if os.path.isdir(directory)
        else f"{directory}, for {os.path.basename(path)}, is not a directory: install its engine, or name another"
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "hooks": {"type": "dict", "default": {}},
            "cdi": {"type": "dict", "default": {}},
            "enroot_hooks": {"type": "dict", "default": {}},
            "podman_hpc_modules": {"type": "dict", "default": {}},
            "slurm_scripts": {"type": "dict", "default": {}},
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
            _files.refuse_foreign(path)
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
                    f"Docker on {platform.node()} will accept CDI devices after its next start: run systemctl restart "
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
