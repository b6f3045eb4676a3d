#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes and removes the SSH key sets of users, as those users."""

from __future__ import annotations

DOCUMENTATION = r"""
module: user_keys
short_description: Make or remove the SSH keys that users log in to their containers with
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
description:
  - Makes for each user what that user's own C(ssh_hook keygen) makes, the key set in
    C(<base_dir>/<name>/.oci-hooks/ssh/keys), or removes it.
  - All work in a user's directories is done B(as that user), by a process that has given up root's rights.
    So it works on NFS homes that are exported with C(root_squash), and a link that a user has planted harms nobody.
  - A new set is made aside and put in place as a whole. A working set is never lost, not even if the host crashes.
  - Private keys are never returned, and never appear in the output at any verbosity.
requirements:
  - cryptography >= 3.1 (for O(state=present))
attributes:
  check_mode:
    description: Can run in check mode and report what it would change, without changing it.
    support: full
  diff_mode:
    description: Reports the fingerprint of each user's key before and after, where it changes.
    support: full
    details: In check mode the fingerprint of a key that does not exist yet is shown as V((new)).
  platform:
    description: The systems on which the module runs.
    support: full
    platforms: linux
options:
  users:
    description:
      - Names or numeric ids of the users, all of which must be in O(passwd_file).
      - What is a name there is taken as a name.
      - Without this option all users of O(passwd_file) whose uid is from O(uid_min) to O(uid_max).
    type: list
    elements: str
  uid_min:
    description: The lowest uid that counts if O(users) is not given.
    type: int
    default: 1000
  uid_max:
    description:
      - The highest uid that counts if O(users) is not given.
      - Sites with users above V(60000), from a directory service say, must raise it.
    type: int
    default: 60000
  base_dir:
    description:
      - The directory that holds a directory for each user, by name; E(HOOK_BASE_DIR) of the hook.
      - The user's directory must exist, belong to the user and be writable by nobody else.
    type: path
    default: /home
  passwd_file:
    description: The file in the format of V(/etc/passwd) that lists the users; E(PASSWD_FILE) of the hook.
    type: path
    default: /opt/oci-hooks/etc/passwd
  key_type:
    description:
      - Type of the keys that are made. V(ecdsa) is NIST P-256.
      - A set of the other type that is there already is kept, unless O(overwrite=true).
    type: str
    choices: [ecdsa, ed25519]
    default: ecdsa
  state:
    description:
      - V(present) makes a set where there is none.
      - V(absent) removes the set, and the directories below the user's that are then empty.
    type: str
    choices: [present, absent]
    default: present
  overwrite:
    description:
      - Replaces sets that are there, also incomplete or broken ones, which are an error otherwise.
      - Such a task reports a change each time it runs.
    type: bool
    default: false
notes:
  - If a user cannot be served, the others are, and then the task fails and says who was served and who not, and why.
  - Needs root, unless the only user is the one who runs the task.
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
    key_type: ed25519
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
      description: Why the user could not be served; null if all is well.
      type: str
      sample: null
    public_key:
      description: The public key; null if there is none, or none yet in check mode.
      type: str
      sample: ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTY...
    fingerprint:
      description: SHA256 fingerprint of the public key; null where RV(users[].public_key) is.
      type: str
      sample: SHA256:Vjc6v1lVH0Xa75RfIkf7WHgBK19pXxCnIn+acQO/sPQ
    paths:
      description: Where the files of the set are, or would be; null if there is no such user.
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
          description: The host key of the user's own SSH server.
          type: str
          sample: /home/alice/.oci-hooks/ssh/keys/dropbear_ecdsa_host_key
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
            "key_type": {"type": "str", "choices": ["ecdsa", "ed25519"], "default": "ecdsa"},
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
    except _key_worker.MissingLibraryError as error:
        module.fail_json(msg=missing_required_lib("cryptography >= 3.1"), exception=str(error))
    results.sort(key=lambda result: (result["uid"] is None, result["uid"], result["name"]))
    diffs.sort(key=lambda diff: diff["before_header"])
    message = _user_keys.failure_message(results)
    if message:
        module.fail_json(msg=message, changed=bool(diffs), users=results, diff=diffs)
    module.exit_json(changed=bool(diffs), users=results, diff=diffs)


if __name__ == "__main__":
    main()
