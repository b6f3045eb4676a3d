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
  - Verifies that nobody but root can tamper with the given files and directories, or takes care of it.
  - A path is safe when it is owned by root (uid 0) and writable by neither group nor others, and so is every
    directory above it, up to C(/). Of a directory, all that it holds is checked as well, at any depth.
  - Links are checked at both ends. The link itself must be owned by root and lie in a safe place, and so must
    where it leads, with the directories above that and, if it is a directory, with what that holds.
  - All violations are reported, not only the first one.
author:
  - The ocihooks.ssh contributors (@ocihooks)
options:
  path:
    description:
      - The files and directories to check, by their absolute paths. A V(..) is not accepted.
    type: list
    elements: path
    required: true
  directory:
    description:
      - Directories, by their absolute paths, that must be safe with every directory above them, whatever they hold.
        For a search path, of which what is found is named in O(path). A V(..) is not accepted.
      - One that does not exist is no violation. Checked is then the nearest directory above it that exists, since
        whoever can write there could make it.
      - They are verified only, with O(state=enforced) too.
    type: list
    elements: path
    default: []
  state:
    description:
      - V(verified) changes nothing, and fails if there is any violation.
      - V(enforced) first repairs each path and what lies below it - the owner becomes root, and group and others
        lose write permission - and then verifies, and fails if a violation is left.
      - Never changed are the directories above a path and what a link leads to. Name these in O(path) as well if they
        are yours to repair.
      - Nothing is repaired below a directory that stays unsafe, since others could swap what is repaired there.
      - A file with several hard links is not repaired if it has to be, since another of its names may lie elsewhere.
      - A file whose owner changes loses the set-user-ID and set-group-ID bits.
      - The path C(/) cannot be enforced.
    type: str
    choices:
      - verified
      - enforced
    default: verified
attributes:
  check_mode:
    description: Can run in check mode and tell what would change, and which violations would be left.
    support: full
  diff_mode:
    description: Shows owner and mode of each repaired path, before and after.
    support: full
  platform:
    description: Target systems that the module works on.
    support: full
    platforms: linux
notes:
  - Run it as root. What it may not look at is a violation.
  - A sticky directory that others can write to, such as C(/tmp), is a violation too. They cannot replace what root has
    there, but they can be the first to make it.
  - Access control lists are covered, since the group bits of a mode are the upper bound of what a POSIX ACL gives. A
    default ACL is not a violation, for it gives nothing on what is there already.
  - Contents are not judged. What others have written into a file before it was repaired stays there, and so do the
    descriptors that they hold open.
  - In what is returned, characters that are not printable, bytes that are not UTF-8, and the backslash are written
    as backslash escapes.
seealso:
  - module: ansible.builtin.file
"""

EXAMPLES = r"""
- name: Verify that nobody but root can change the hook
  ocihooks.ssh.secure_path:
    path:
      - /opt/oci-hooks
      - /usr/share/containers/oci/hooks.d/07-ssh-hook.json
      - /usr/bin/python3

- name: Repair an installation that was unpacked by somebody else, and verify it
  ocihooks.ssh.secure_path:
    path:
      - /opt/oci-hooks
    state: enforced

- name: Verify that nobody but root can put a library where the dynamic loader looks first
  ocihooks.ssh.secure_path:
    path:
      - /etc/ld.so.cache
    directory:
      - /usr/local/lib
"""

RETURN = r"""
violations:
  description:
    - All violations, each place and rule once. Empty when the task succeeds.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The file that breaks the rule, without links on the way to it.
      type: str
      returned: always
      sample: /opt/oci-hooks/bin/ssh_hook
    rule:
      description:
        - V(missing) if the path does not exist.
        - V(dangling_link) if a link leads to what does not exist.
        - V(link_loop) if a link leads in a circle, or through more than 40 links.
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
      description: Name of its owner; null if there is none, or it cannot be known.
      type: str
      returned: always
      sample: root
    uid:
      description: User id of its owner; null if it cannot be known.
      type: int
      returned: always
      sample: 0
    mode:
      description: Its permissions as an octal number; null if they cannot be known.
      type: str
      returned: always
      sample: "0775"
    via:
      description: The path asked for, or the link below it, that led to the file.
      type: str
      returned: always
      sample: /opt/oci-hooks
repaired:
  description:
    - What was repaired, in that order, or would be in check mode.
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
from ansible_collections.ocihooks.ssh.plugins.module_utils import _secure_path


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "list", "elements": "path", "required": True},
            "directory": {"type": "list", "elements": "path", "default": []},
            "state": {"type": "str", "choices": ["verified", "enforced"], "default": "verified"},
        },
        supports_check_mode=True,
    )
    result: dict[str, Any] = {"changed": False}
    try:
        paths = _secure_path.parse_paths(module.params["path"])
        directories = _secure_path.parse_paths(module.params["directory"]) if module.params["directory"] else []
        if module.params["state"] == "enforced":
            outcome = _secure_path.repair(paths=paths, apply=not module.check_mode)
            result.update(_secure_path.report(outcome))
            violations = _secure_path.verify(
                paths=paths, directories=directories, planned=outcome.planned, refused=outcome.refused
            )
        else:
            violations = _secure_path.verify(paths=paths, directories=directories)
    except ValueError as error:
        module.fail_json(msg=str(error))
    result["violations"] = [violation._asdict() for violation in violations]
    if violations:
        module.fail_json(msg=_secure_path.summary(violations), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
