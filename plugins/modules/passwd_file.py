#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: passwd_file
short_description: Internal to the role ssh_hook - write a passwd file from the node's name service
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.root]
description:
  - Writes the output of C(getent passwd), without password hashes, by an atomic rename, with mode 0644. If the list
    lacks root, or more than half of the previous users, the task fails and the file stays as it is. So it does if this
    collection did not write the file.
  - Returns C(users), the number of accounts in the file, and those of O(users) who are C(unknown) or C(without_home).
options:
  path: {type: path, required: true, description: "The file. It is not C(/etc/passwd) unless O(state=provided)."}
  users: {type: list, elements: str, default: [], description: "Names or numeric ids of users to look for."}
  known: {type: bool, default: false, description: "Whether M(ocihooks.ssh.node_facts) knows that O(path) is ours."}
  base_dir: {type: path, description: "Directory in which O(users) should have one of their name."}
  state:
    {type: str, choices: [present, absent, provided], default: present, description: "V(absent) removes the file.
      With V(provided) the file is the site's own, and is not written. Only O(users) are looked for."}
"""

EXAMPLES = r"""
- ocihooks.ssh.passwd_file:
    path: /opt/oci-hooks/etc/passwd
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils import _diff, _files
from ansible_collections.ocihooks.ssh.plugins.module_utils._keys import name_service, passwd


def names_of(data: bytes) -> dict[str, str]:
    """Return the names of the accounts in a passwd file, keyed by name and by uid."""
    return {word: entry.name for entry in passwd.iterate(data) for word in (str(entry.uid), entry.name)}


def difference(path: str, before: dict[bytes, bytes], after: dict[bytes, bytes]) -> dict[str, str]:
    """Return the line of --diff for the accounts of a file before and after."""
    kinds = {
        "new": sorted(after.keys() - before.keys()),
        "gone": sorted(before.keys() - after.keys()),
        "that differ": sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
    }
    said = _diff.of_names({kind: [name.decode(errors="replace") for name in names] for kind, names in kinds.items()})
    return _diff.of_lines(f"{path}, accounts: {said or 'in another order or form'}")


def exists(path: str) -> bool:
    """Return whether a path exists. One that root may not access, as on NFS, counts as existing."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "users": {"type": "list", "elements": "str", "default": []},
            "known": {"type": "bool", "default": False},
            "base_dir": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent", "provided"], "default": "present"},
        },
        supports_check_mode=True,
    )
    path, state, users = (module.params[name] for name in ("path", "state", "users"))
    if state == "provided":
        path = os.path.realpath(path)  # a site's own file may be a link
    elif name_service.is_nodes_file(path):
        module.fail_json(msg=f"{path} is the node's own passwd file, which is never replaced or removed: name another")
    elif os.path.isdir(path):
        module.fail_json(msg=f"{path} is a directory: name a file")
    old = _files.read(path)
    is_known = module.params["known"] or name_service.is_ours(path, old)
    try:
        if state == "absent":
            if not is_known:
                _files.refuse_foreign(path)
            module.exit_json(changed=_files.remove(path, module.check_mode))
        accounts = {} if state == "provided" else name_service.entries(name_service.list_accounts())
        known = _files.read(path) if state == "provided" else b"\n".join(accounts.values())
        found = names_of(known) if users else {}
        base_dir = module.params["base_dir"]
        homes = {user: os.path.join(base_dir or "/", found[user]) for user in users if user in found}
        told = {
            "unknown": [user for user in users if user not in found],
            "without_home": [user for user, home in homes.items() if base_dir and not exists(home)],
        }
        if state == "provided":
            module.exit_json(changed=False, users=len(known.splitlines()), **told)
        made = _files.make_missing(os.path.dirname(path), module.check_mode)
        content = name_service.new_content(path, old, accounts, is_known=is_known)
        changed = _files.update(path, content, check=module.check_mode, is_known=is_known)
    except name_service.NotRefreshed as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or path} cannot be refreshed or removed: {error.strerror}")
    if not changed:
        module.exit_json(changed=made, users=len(accounts), **told)
    module.exit_json(
        changed=True, users=len(accounts), diff=difference(path, name_service.entries(old), accounts), **told
    )


if __name__ == "__main__":
    main()
