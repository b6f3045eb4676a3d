#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hook_package
short_description: Install the SSH hook of this collection on a node, whole
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.root
description:
  - Installs the hook's Python package, its bytecode, the scripts of its timers, the completion for bash and its
    launcher. All of it belongs to root and is writable only by root, whatever the umask.
  - Each version of the package is a directory of its own. The launcher, which names it, is replaced by an atomic
    rename, so that a container that starts meanwhile runs the old version or the new one, never a mixture. The version
    before stays, older ones are removed.
  - The sources come from the collection on the controller. They are sent to a node that has said that it lacks some of
    them, or at once if O(send_sources=true).
options:
  prefix:
    description: Directory of the installation, such as V(/opt/oci-hooks). An absolute path.
    type: path
    required: true
  python:
    description: The Python interpreter that runs the hook, and compiles it. Needed if O(state=present).
    type: path
  settings:
    description: What the launcher gives the hook, as the role ocihooks.ssh.ssh_hook says. Needed if O(state=present).
    type: dict
  state:
    description: >-
      With V(absent) the launcher, the scripts, all versions and the records of daemons are removed.
    type: str
    choices: [present, absent]
    default: present
  send_sources:
    description: >-
      Whether to send the sources at once, to a node whose hook is known not to be as it should be.
    type: bool
    default: false
  digests:
    description: SHA-256 of each source, which the action plugin of this module sets.
    type: dict
  sources:
    description: The sources, which the action plugin of this module sends if the node lacks some.
    type: str
attributes:
  diff_mode:
    description: >-
      Shows the lines of the launcher that differ, but for the version that it names, and the version in a line or, if
      that stays, the paths that differ.
seealso:
  - module: ocihooks.ssh.secure_path
"""

EXAMPLES = r"""
- name: Install the hook
  ocihooks.ssh.hook_package:
    prefix: /opt/oci-hooks
    python: /usr/bin/python3
    settings:
      HOOK_BASE_DIR: /home
      PASSWD_FILE: /opt/oci-hooks/etc/passwd
      DROPBEAR_DIR: /opt/oci-hooks/dropbear
      SERVER_PORT_DEFAULT: "15263"
      SSH_KEY_TYPE: ed25519
      PYTHON_PACKAGES: /usr/lib/python3/dist-packages

- name: Remove the hook
  ocihooks.ssh.hook_package:
    prefix: /opt/oci-hooks
    state: absent
"""

RETURN = r"""
directory:
  description: Directory of the installed version.
  returned: when O(state=present)
  type: str
  sample: /opt/oci-hooks/lib/ssh_hook-0123456789ab
package_changed:
  description: Whether files of the package or the scripts were not as they should be.
  returned: when O(state=present)
  type: bool
  sample: false
launcher_changed:
  description: Whether the launcher was not as it should be.
  returned: when O(state=present)
  type: bool
  sample: false
removed:
  description: Paths that were removed; in check mode those that would be.
  returned: success
  type: list
  elements: str
  sample: [/opt/oci-hooks/lib/ssh_hook-ba9876543210]
"""

import base64
import json
import re
import zlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils import _diff, _hook_package

VERSION = re.compile(r"/ssh_hook-[0-9a-f]{12}")


def differences(hook: _hook_package.Hook, change: _hook_package.Change, old: str) -> list[dict[str, str]]:
    """Return what --diff shows.

    Args:
        old: directory of the version that was there, empty if there was none
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
