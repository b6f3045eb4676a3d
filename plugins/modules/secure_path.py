#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secure_path
short_description: Verify that only root can change critical files and directories
version_added: "1.0.0"
description:
  - Verifies that only root can change the given files and directories, or repairs them.
  - A path is safe if it is owned by root (uid 0) and not writable by group or others, and so is every
    directory above it, up to C(/). The contents of a directory are checked as well, at any depth.
  - Links are checked at both ends. The link must be owned by root and be in a safe directory. Its target must be
    safe, with the directories above it and, if it is a directory, with its contents.
  - All violations are reported, not only the first one.
author:
  - The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.changes
options:
  path:
    description:
      - Absolute paths of the files and directories to check. A V(..) is not accepted.
    type: list
    elements: path
    required: true
  directory:
    description:
      - Absolute paths of directories that are checked without their contents, with every directory above them.
        A V(..) is not accepted.
      - Use it for the directories of a search path, and name the files that are found there in O(path).
      - If one does not exist, the nearest existing directory above it is checked, since a user who can write there
        could create it.
      - These directories are never repaired, not even with O(state=enforced).
    type: list
    elements: path
    default: []
  interpreter:
    description:
      - A Python interpreter that runs the SSH hook. What it loads is checked too; the shared libraries that it has
        mapped after loading libseccomp and the Python packages, C(/etc/ld.so.preload), C(/etc/ld.so.cache),
        C(/etc/ld.so.conf) and the files that it includes, and, without their contents, the directories that these files
        name or that the dynamic loader searched.
      - The interpreter runs as the user nobody for this, since others may have changed what it loads.
      - What it loads is never repaired.
    type: path
  packages:
    description: The directories with cryptography and pyroute2 for O(interpreter).
    type: list
    elements: path
    default: []
  state:
    description:
      - V(verified) changes nothing, and fails if there is any violation.
      - V(enforced) first repairs each path and everything below it. The owner becomes root, and group and others
        lose write permission. Then it verifies, and fails if a violation is left.
      - The directories above a path and the targets of links are never changed. Name them in O(path) as well to have
        them repaired.
      - Nothing is repaired below a directory that stays unsafe, since others could replace files there.
      - A violation of a file with several hard links is not repaired, since the file may have another name elsewhere.
      - A file whose owner changes loses the set-user-ID and set-group-ID bits.
      - The path C(/) cannot be enforced.
      - V(reported) changes nothing, and does not fail for violations. It returns them.
    type: str
    choices:
      - verified
      - enforced
      - reported
    default: verified
attributes:
  check_mode:
    description: Can run in check mode and report what would change, and which violations would be left.
  diff_mode:
    description: Shows owner and mode of each repaired path, before and after.
notes:
  - Run it as root. A path that it cannot inspect is a violation.
  - A sticky directory that others can write to, such as C(/tmp), is a violation too. Others cannot replace root's files
    there, but they can create a file before root does.
  - Access control lists are covered, since the group bits of a mode are the upper bound of a POSIX ACL's permissions. A
    default ACL is not a violation, since it does not apply to existing files.
  - File contents are not checked. What others have written to a file before its repair stays, and so do their open
    descriptors.
  - In return values, unprintable characters, bytes that are not UTF-8, and the backslash are written as backslash
    escapes.
seealso:
  - module: ansible.builtin.file
"""

EXAMPLES = r"""
- name: Verify that only root can change what the hook's interpreter loads
  ocihooks.ssh.secure_path:
    path:
      - /usr/bin/python3
    interpreter: /usr/bin/python3
    packages:
      - /usr/lib/python3/dist-packages

- name: Verify that only root can change the hook
  ocihooks.ssh.secure_path:
    path:
      - /opt/oci-hooks
      - /usr/share/containers/oci/hooks.d/07-ssh-hook.json
      - /usr/bin/python3

- name: Repair an installation that was unpacked by another user, and verify it
  ocihooks.ssh.secure_path:
    path:
      - /opt/oci-hooks
    state: enforced

- name: Verify that only root can put a library where the dynamic loader searches first
  ocihooks.ssh.secure_path:
    path:
      - /etc/ld.so.cache
    directory:
      - /usr/local/lib
"""

RETURN = r"""
violations:
  description:
    - All violations, each file and rule once. Empty if the task succeeds, unless O(state=reported).
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: Path of the file that violates the rule, with links resolved.
      type: str
      returned: always
      sample: /opt/oci-hooks/bin/ssh_hook
    rule:
      description:
        - V(missing) if the path does not exist.
        - V(dangling_link) if the target of a link does not exist.
        - V(link_loop) if links form a loop, or there are more than 40.
        - V(owner) if it is not owned by root.
        - V(group_writable) if its group can write to it.
        - V(acl_writable) if its access control list lets other users or groups write to it.
        - V(other_writable) if everyone can write to it.
        - V(unverifiable) if it cannot be checked, for example because it cannot be read.
      type: str
      returned: always
      sample: group_writable
    message:
      description: What is wrong, in one sentence.
      type: str
      returned: always
      sample: /opt/oci-hooks/bin/ssh_hook is writable by its group staff (gid 50) and must not be
    owner:
      description: Name of its owner; null if the owner has no name or is unknown.
      type: str
      returned: always
      sample: root
    uid:
      description: User id of its owner; null if unknown.
      type: int
      returned: always
      sample: 0
    mode:
      description: Its permissions as an octal number; null if unknown.
      type: str
      returned: always
      sample: "0775"
    via:
      description: The path in O(path) or O(directory), or the link below it, that led to the file.
      type: str
      returned: always
      sample: /opt/oci-hooks
named_by:
  description:
    - Files of the dynamic loader's configuration that name a directory with a violation. Alternatively, repair it by
      removing the directory from these files and running ldconfig.
  returned: when O(interpreter) is given
  type: list
  elements: str
  sample: [/etc/ld.so.conf.d/site.conf]
repaired:
  description:
    - The repairs, in order; in check mode those that would be made.
  returned: when O(state=enforced)
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
      returned: always
      sample: /opt/oci-hooks/bin/ssh_hook
    before:
      description: Its RV(violations[].owner), RV(violations[].uid) and RV(violations[].mode) before the repair.
      type: dict
      returned: always
      sample:
        owner: alice
        uid: 1000
        mode: "0775"
    after:
      description: The same after the repair.
      type: dict
      returned: always
      sample:
        owner: root
        uid: 0
        mode: "0755"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils import _loader, _secure_path


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "list", "elements": "path", "required": True},
            "directory": {"type": "list", "elements": "path", "default": []},
            "interpreter": {"type": "path"},
            "packages": {"type": "list", "elements": "path", "default": []},
            "state": {"type": "str", "choices": ["verified", "enforced", "reported"], "default": "verified"},
        },
        supports_check_mode=True,
    )
    result: dict[str, Any] = {"changed": False}
    params, loaded = module.params, None
    try:
        repairable = _secure_path.parse_paths(params["path"])
        if params["interpreter"]:
            loaded = _loader.loaded(params["interpreter"], params["packages"])
        paths = _secure_path.parse_paths([*params["path"], *(loaded.files if loaded else [])])
        named = [*params["directory"], *(loaded.directories if loaded else [])]
        directories = _secure_path.parse_paths(named) if named else []
        if params["state"] == "enforced":
            outcome = _secure_path.repair(paths=repairable, apply=not module.check_mode)
            result.update(_secure_path.report(outcome))
            violations = _secure_path.verify(
                paths=paths, directories=directories, planned=outcome.planned, refused=outcome.refused
            )
        else:
            violations = _secure_path.verify(paths=paths, directories=directories)
    except (ValueError, _loader.LoadError) as error:
        module.fail_json(msg=str(error))
    named_by = loaded.naming(violations) if loaded else []
    if loaded:
        result["named_by"] = named_by
    result["violations"] = [violation._asdict() for violation in violations]
    if violations and params["state"] != "reported":
        module.fail_json(msg=_secure_path.summary(violations, named_by), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
