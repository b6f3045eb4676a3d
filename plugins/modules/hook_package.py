#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hook_package
short_description: Internal to the role ssh_hook - install all files of the SSH hook on a node
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.root]
description:
  - Installs the hook's Python package with its bytecode in a directory of its own for each version, the completion for
    bash, and the launcher, which names the version and is replaced by an atomic rename. The previous version stays.
  - The action plugin sends the sources to a node that lacks some, or at once with O(send_sources=true).
  - Returns C(removed), a list of paths, and with O(state=present) the C(directory) of the version, C(package_changed)
    and C(launcher_changed).
options:
  prefix: {type: path, required: true, description: "Directory of the installation, such as V(/opt/oci-hooks)."}
  python: {type: path, description: "The interpreter that runs and compiles the hook. Needed if O(state=present)."}
  settings: {type: dict, description: "Settings that the launcher passes to the hook. Needed if O(state=present)."}
  state:
    {type: str, choices: [present, absent], default: present, description: "V(absent) removes records of daemons, too."}
  send_sources: {type: bool, default: false, description: "Whether to send the sources at once."}
  digests: {type: dict, description: "SHA-256 of each source, which the action plugin sets."}
  sources: {type: str, description: "The sources, which the action plugin sets."}
"""

EXAMPLES = r"""
- ocihooks.ssh.hook_package:
    prefix: /opt/oci-hooks
    python: /usr/bin/python3
    settings: {HOOK_BASE_DIR: /home, PASSWD_FILE: /opt/oci-hooks/etc/passwd}
"""

import base64
import json
import re
import zlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils import _diff, _hook_package

VERSION = re.compile(r"/ssh_hook-[0-9a-f]{12}")


def differences(hook: _hook_package.Hook, change: _hook_package.Change, old: str) -> list[dict[str, str]]:
    """Return the output of --diff.

    Args:
        old: directory of the previous version, empty if there was none
    """
    diffs = [_diff.of_version(hook.directory, old, change.files)] if change.files or old != hook.directory else []
    if change.launcher:
        before, after = (VERSION.sub("/ssh_hook-...", text) for text in change.launcher)
        diffs += [_diff.of_text(hook.launcher, before, after)] if before != after else []
    return diffs


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "path", "required": True},
            "python": {"type": "path"},
            "settings": {"type": "dict"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "send_sources": {"type": "bool", "default": False},
            "digests": {"type": "dict"},
            "sources": {"type": "str"},
        },
        required_if=[("state", "present", ("python", "settings", "digests"))],
        supports_check_mode=True,
    )
    params = module.params
    try:
        if params["state"] == "absent":
            removed = _hook_package.uninstall(params["prefix"], module.check_mode)
            module.exit_json(changed=bool(removed), removed=removed)
        settings = {name: str(value) for name, value in params["settings"].items()}
        hook = _hook_package.Hook(params["prefix"], params["python"], settings, params["digests"])
        texts = json.loads(zlib.decompress(base64.b64decode(params["sources"]))) if params["sources"] else None
        old = [*_hook_package.versions(hook.prefix), ""][0]
        change = _hook_package.install(hook, texts, module.check_mode)
    except _hook_package.SourcesMissing:
        module.exit_json(changed=False, needs_sources=True)
    except _hook_package.NotInstalled as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or params['prefix']} cannot be written: {error.strerror}")
    module.exit_json(
        changed=bool(change.files or change.launcher or change.removed),
        directory=hook.directory,
        package_changed=bool(change.files),
        launcher_changed=change.launcher is not None,
        removed=change.removed,
        diff=differences(hook, change, old),
    )


if __name__ == "__main__":
    main()
