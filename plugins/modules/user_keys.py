#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes and removes the SSH key sets of users, as those users."""

from __future__ import annotations

DOCUMENTATION = r"""
module: user_keys
short_description: Make or remove the SSH keys with which users log in to their containers
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.changes
description:
  - Makes or removes each user's key set in C(<base_dir>/<name>/.oci-hooks/ssh/keys). The set is the same that the user
    gets from C(ssh_hook keygen).
  - A process that has dropped root's privileges does all work in a user's directories B(as that user).
    It therefore works on NFS homes that are exported with C(root_squash), and links planted by a user do no harm.
  - A new set is written beside the old one and replaces it as a whole. A working set is never lost, not even if the
    host crashes.
  - Private keys are never returned, and never appear in the output at any verbosity.
requirements:
  - cryptography >= 3.1 (for O(state=present))
attributes:
  check_mode:
    description: Can run in check mode and report what it would change, without changing it.
  diff_mode:
    description: Reports the fingerprint of each user's key before and after, where it changes.
    details: In check mode the fingerprint of a key that does not exist yet is shown as V((new)).
options:
  users:
    description:
      - Names or numeric ids of the users. All of them must be in O(passwd_file).
      - A value that is a name in that file is taken as a name.
      - Without this option, all users in O(passwd_file) with a uid from O(uid_min) to O(uid_max).
    type: list
    elements: str
  uid_min:
    description: The lowest uid if O(users) is not given.
    type: int
    default: 1000
  uid_max:
    description:
      - The highest uid if O(users) is not given.
      - Raise it if the site has users above V(60000), for example from a directory service.
    type: int
    default: 60000
  base_dir:
    description:
      - The parent directory of the users' directories, which have the users' names; E(HOOK_BASE_DIR) of the hook.
      - The user's directory must exist, belong to the user and be writable by nobody else.
    type: path
    default: /home
  passwd_file:
    description: The file in the format of V(/etc/passwd) that lists the users; E(PASSWD_FILE) of the hook.
    type: path
    default: /opt/oci-hooks/etc/passwd
  key_type:
    description:
      - Type of the private key in a new set.
      - With V(ed25519) the set also has host keys of both types, Ed25519 and ECDSA. Nodes with Sarus's SSH hook that
        share the homes use the ECDSA host key.
      - With V(ecdsa), which is NIST P-256, all keys of the set are ECDSA, as Sarus's SSH hook makes them. It is for
        hosts in FIPS mode.
      - An existing set of any type is kept as it is, and no key is added to it, unless O(overwrite=true).
    type: str
    choices: [ed25519, ecdsa]
    default: ed25519
  state:
    description:
      - V(present) makes a set if there is none.
      - V(absent) removes the set, and then the empty directories below the user's directory.
    type: str
    choices: [present, absent]
    default: present
  overwrite:
    description:
      - Replaces existing sets, also incomplete or broken ones. These are an error otherwise.
      - Such a task is not idempotent. It reports a change each time.
    type: bool
    default: false
notes:
  - If the task fails for a user, it continues with the others. At its end it fails, and names the users for whom it
    succeeded and failed, with the reason.
  - It needs root, unless the only user is the one who runs the task.
seealso:
  - module: ansible.builtin.user
"""

EXAMPLES = r"""
- name: Make keys for every user of the cluster who has none
  ocihooks.ssh.user_keys:
    uid_max: 200000
  become: true

- name: Make keys for two users, whose homes are elsewhere
  ocihooks.ssh.user_keys:
    users: [alice, "1002"]
    base_dir: /cluster/home
  become: true

- name: Make keys on a cluster in FIPS mode
  ocihooks.ssh.user_keys:
    key_type: ecdsa
  become: true

- name: Replace the keys of a user whose laptop was stolen
  ocihooks.ssh.user_keys:
    users: [alice]
    overwrite: true
  become: true

- name: Remove the keys of a user who leaves
  ocihooks.ssh.user_keys:
    users: [bob]
    state: absent
  become: true
"""

RETURN = r"""
users:
  description: The outcome for each user, in the order of their uids. Also returned if the task fails.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the user.
      type: str
      sample: alice
    uid:
      description: Numeric id of the user; null if there is no such user.
      type: int
      sample: 1001
    changed:
      description: Whether the user's key set was changed.
      type: bool
      sample: true
    error:
      description: Why the task failed for the user; null if it succeeded.
      type: str
      sample: null
    public_key:
      description: The public key; null if there is none, or none yet in check mode.
      type: str
      sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA0jJyXnDTE5xgbn...
    fingerprint:
      description: SHA256 fingerprint of the public key; null if RV(users[].public_key) is.
      type: str
      sample: SHA256:Vjc6v1lVH0Xa75RfIkf7WHgBK19pXxCnIn+acQO/sPQ
    paths:
      description: Paths of the set's files, also if they do not exist; null if there is no such user.
      type: dict
      contains:
        directory:
          description: The key directory.
          type: str
          sample: /home/alice/.oci-hooks/ssh/keys
        private_key:
          description: The user's private key.
          type: str
          sample: /home/alice/.oci-hooks/ssh/keys/id_dropbear
        authorized_keys:
          description: The file with the public key.
          type: str
          sample: /home/alice/.oci-hooks/ssh/keys/authorized_keys
        host_key:
          description: The first of RV(users[].paths.host_keys), which clients prefer.
          type: str
          sample: /home/alice/.oci-hooks/ssh/keys/dropbear_ed25519_host_key
        host_keys:
          description: The host keys of the user's own SSH server.
          type: list
          elements: str
          sample:
            - /home/alice/.oci-hooks/ssh/keys/dropbear_ed25519_host_key
            - /home/alice/.oci-hooks/ssh/keys/dropbear_ecdsa_host_key
"""

import os

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.ocihooks.ssh.plugins.module_utils import _key_worker, _user_keys
from ansible_collections.ocihooks.ssh.plugins.module_utils._as_user import AsUserError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "users": {"type": "list", "elements": "str"},
            "uid_min": {"type": "int", "default": 1000},
            "uid_max": {"type": "int", "default": 60000},
            "base_dir": {"type": "path", "default": "/home"},
            "passwd_file": {"type": "path", "default": "/opt/oci-hooks/etc/passwd", "no_log": False},
            "key_type": {"type": "str", "choices": ["ed25519", "ecdsa"], "default": "ed25519"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "overwrite": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not os.path.isabs(params["base_dir"]):
        module.fail_json(msg=f"base_dir must be an absolute path, not {params['base_dir']}")
    try:
        with open(params["passwd_file"], "rb") as file:
            data = file.read()
    except OSError as error:
        module.fail_json(msg=f"cannot read passwd_file {params['passwd_file']}: {error.strerror}")

    unknown: list[str] = []
    if params["users"] is None:
        users = _user_keys.users_in_range(data, params["uid_min"], params["uid_max"])
    else:
        users, unknown = _user_keys.select_users(data, params["users"])

    task = _user_keys.KeyTask(params, module.check_mode)
    results = [_user_keys.unknown_user(name, params["passwd_file"]) for name in unknown]
    diffs = []
    try:
        for user, outcome in _key_worker.run(users, params, module.check_mode):
            result = task.result(user, outcome)
            results.append(result)
            if not isinstance(outcome, AsUserError) and outcome["changed"]:
                diffs.append(_user_keys.difference(result, outcome))
    except _key_worker.WorkerImportError as error:
        module.fail_json(msg=missing_required_lib("cryptography >= 3.1"), exception=str(error))
    results.sort(key=lambda result: (result["uid"] is None, result["uid"], result["name"]))
    diffs.sort(key=lambda diff: diff["before_header"])
    message = _user_keys.failure_message(results)
    if message:
        module.fail_json(msg=message, changed=bool(diffs), users=results, diff=diffs)
    module.exit_json(changed=bool(diffs), users=results, diff=diffs)


if __name__ == "__main__":
    main()
