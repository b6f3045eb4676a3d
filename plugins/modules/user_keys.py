#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates and removes users' SSH key sets, as those users."""

from __future__ import annotations

DOCUMENTATION = r"""
module: user_keys
short_description: Create or remove the SSH keys with which users log in to their containers
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.changes
description:
  - Creates or removes each user's key set in C(<base_dir>/<name>/.oci-hooks/ssh/keys). It is the same set that
    C(ssh_hook keygen) creates.
  - A process that has dropped root's privileges does all work in a user's directories B(as that user).
    It therefore works on NFS homes that are exported with C(root_squash), and links planted by a user do no harm.
  - A new set is written next to the old one and replaces it as a whole. A working set is never lost, not even if the
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
      - Names or numeric ids of the users. All of them must be in O(passwd_file), unless O(state=absent).
      - A value that is a name in that file counts as a name.
      - With O(state=absent) the account may have been removed. A name then means the home of that name in O(base_dir),
        a numeric id all homes there that belong to it, and an absolute path that home. Keys are removed as the
        owner of the home. A name or id without a home is not an error, but causes a warning.
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
      - The user's directory must belong to the user and not be writable by others. See O(missing_homes) for
        directories that do not exist.
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
      - With V(ecdsa) (NIST P-256) all keys of the set are ECDSA, like those of Sarus's SSH hook. It is for hosts in
        FIPS mode.
      - An existing set of any type is kept as it is, and no key is added to it, unless O(overwrite=true).
    type: str
    choices: [ed25519, ecdsa]
    default: ed25519
  state:
    description:
      - V(present) creates a set if there is none.
      - V(absent) removes the set, and then the empty directories below the user's directory.
    type: str
    choices: [present, absent]
    default: present
  missing_homes:
    description:
      - What to do for a user whose directory in O(base_dir) does not exist.
      - With V(fail) the task fails for that user if O(state=present). With O(state=absent) there is nothing to remove.
      - V(skip) omits the user, also from RV(users), and counts such users in RV(without_home). Use it for a range of
        uids if homes are created at the users' first logins.
      - O(base_dir) itself must exist.
      - Under autofs, each user without a home costs an attempt to mount one, which takes minutes for many thousands.
        Run such a task where the parent directory of all homes is mounted, such as on the file server, with
        O(base_dir) there.
    type: str
    choices: [fail, skip]
    default: fail
  overwrite:
    description:
      - Replaces existing sets, including incomplete or broken ones. Otherwise these are an error.
      - Such a task is not idempotent. It reports a change each time.
    type: bool
    default: false
notes:
  - If the task fails for a user, it continues with the others. At the end it fails, and lists the users for whom it
    succeeded or failed, with the reasons; at most 20 of each.
  - It requires root, unless the only user is the one who runs the task.
seealso:
  - module: ansible.builtin.user
"""

EXAMPLES = r"""
- name: Create keys for every user of the directory service who has logged in before and has none
  ocihooks.ssh.user_keys:
    uid_max: 200000
    missing_homes: skip
  become: true

- name: Create keys for two users whose homes are elsewhere
  ocihooks.ssh.user_keys:
    users: [alice, "1002"]
    base_dir: /cluster/home
  become: true

- name: Create keys on a cluster in FIPS mode
  ocihooks.ssh.user_keys:
    key_type: ecdsa
  become: true

- name: Replace the keys of a user whose laptop was stolen
  ocihooks.ssh.user_keys:
    users: [alice]
    overwrite: true
  become: true

- name: Remove the keys of a user who is leaving
  ocihooks.ssh.user_keys:
    users: [bob]
    state: absent
  become: true

- name: Remove the keys of users whose accounts were deleted, by name, uid and home
  ocihooks.ssh.user_keys:
    users: [bob, "1002", /cluster/home/carol]
    base_dir: /cluster/home
    state: absent
  become: true
"""

RETURN = r"""
users:
  description:
    - The result for each user, in the order of their uids.
    - If the task fails for some users of a range, at most 20 of them. Those for whom it failed take precedence.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the user, or of the home if the account was removed.
      type: str
      sample: alice
    uid:
      description: Numeric id of the user, or of the owner of the home; null if there is no such user.
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
without_home:
  description: Number of users whose directory in O(base_dir) does not exist. O(missing_homes=skip) omits them.
  returned: unless the arguments are wrong
  type: int
  sample: 0
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.ocihooks.ssh.plugins.module_utils import _key_worker, _user_keys
from ansible_collections.ocihooks.ssh.plugins.module_utils._as_user import AsUserError
from ansible_collections.ocihooks.ssh.plugins.module_utils._keys.passwd import Entry


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
            "missing_homes": {"type": "str", "choices": ["fail", "skip"], "default": "fail"},
            "overwrite": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not os.path.isabs(params["base_dir"]):
        module.fail_json(msg=f"base_dir must be an absolute path, not {params['base_dir']}")
    if not os.path.isdir(params["base_dir"]):
        module.fail_json(msg=f"there is no directory {params['base_dir']} (base_dir): is it mounted?")
    try:
        with open(params["passwd_file"], "rb") as file:
            data = file.read()
    except OSError as error:
        module.fail_json(msg=f"cannot read passwd_file {params['passwd_file']}: {error.strerror}")

    users, results = _chosen(module, data)
    task = _user_keys.KeyTask(params, module.check_mode)
    without_home = 0
    diffs = []
    try:
        for user, outcome in _key_worker.run(users, params, module.check_mode):
            if _user_keys.has_no_home(outcome):
                without_home += 1
                if params["missing_homes"] == "skip":
                    continue
            result = task.result(user, outcome)
            results.append(result)
            if not isinstance(outcome, AsUserError) and outcome["changed"]:
                diffs.append(_user_keys.difference(result, outcome))
    except _key_worker.WorkerImportError as error:
        module.fail_json(msg=missing_required_lib("cryptography >= 3.1"), exception=str(error))
    results.sort(key=lambda result: (result["uid"] is None, result["uid"], result["name"]))
    diffs.sort(key=lambda diff: diff["before_header"])
    if users and without_home == len(users):
        module.warn(f"No user of this task has a home in {params['base_dir']} ({len(users)} asked for): is it mounted?")
    values: dict[str, Any] = {"changed": bool(diffs), "without_home": without_home, "diff": diffs}
    unserved = without_home if (params["state"], params["missing_homes"]) == ("present", "fail") else 0
    message = _user_keys.failure_message(results, unserved)
    if message:
        shown = _user_keys.bounded(results) if params["users"] is None else results
        module.fail_json(msg=message, users=shown, **values)
    module.exit_json(users=results, **values)


def _chosen(module: AnsibleModule, data: bytes) -> tuple[list[Entry], list[dict[str, Any]]]:
    """Return the entries of the task's users in the passwd file `data`, and the results for users without one.

    Absent keys are also removed from the homes of users whose accounts were deleted.
    """
    params = module.params
    if params["users"] is None:
        return _user_keys.users_in_range(data, params["uid_min"], params["uid_max"]), []
    users, unknown = _user_keys.select_users(data, params["users"])
    if params["state"] == "present":
        error = f"there is no such user in {params['passwd_file']}"
        return users, [_user_keys.unknown_user(name, error) for name in unknown]
    try:
        homes, others = _user_keys.homes_of_removed_users(params["base_dir"], unknown)
    except OSError as error:
        module.fail_json(msg=f"cannot read base_dir {params['base_dir']}: {error.strerror}")
    nowhere = [name for name, problem in others.items() if problem is None]
    if nowhere:
        module.warn(
            f"There is neither an account in {params['passwd_file']} nor a home in {params['base_dir']} of "
            f"{_user_keys.shortened(nowhere, ', ')}, so there is nothing to remove."
        )
    known = {user.name for user in users}
    return (
        [*users, *(home for home in homes if home.name not in known)],
        [_user_keys.unknown_user(name, problem) for name, problem in others.items()],
    )


if __name__ == "__main__":
    main()
