#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: end_daemons
short_description: Internal to the role ssh_hook - end the SSH daemons of users' containers on a node
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.root]
description:
  - Kills the processes that run the hook's Dropbear for O(uids), and so ends their sessions. Containers go on. A line
    in the system log (C(journalctl -t ssh_hook)) says so.
  - Returns C(pids), and C(said), a sentence, of what was ended, or in check mode would be.
options:
  prefix: {type: path, default: /opt/oci-hooks, description: "Directory of the installation."}
  python: {type: path, default: /usr/bin/python3, description: "The interpreter that runs the hook."}
  dropbear_dir: {type: path, default: /opt/oci-hooks/dropbear, description: "Directory of Dropbear."}
  uids: {type: list, elements: int, required: true, description: "The users."}
"""

EXAMPLES = r"""
- ocihooks.ssh.end_daemons:
    uids: [1001]
"""

import syslog

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils import _daemons, _node


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "path", "default": "/opt/oci-hooks"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "dropbear_dir": {"type": "path", "default": "/opt/oci-hooks/dropbear"},
            "uids": {"type": "list", "elements": "int", "required": True},
        },
        supports_check_mode=True,
    )
    uids = set(module.params["uids"])
    known = _node.listed(module.params)
    if known is None:
        module.warn(
            "The hook on this node was not asked, or did not answer, so containers of root's engines in user "
            "namespaces may keep their SSH daemons: run the playbook audit."
        )
    try:
        found = _daemons.processes_of(uids, known or [], module.params["dropbear_dir"])
    except TimeoutError as error:
        module.fail_json(msg=str(error))
    users = ", ".join(sorted(map(_daemons.user_name, uids)))
    pids = ", ".join(map(str, found))
    ended = "would end" if module.check_mode else "ended"
    said = f"SSH daemons of {users} that {ended}, with their sessions: pids {pids}." if found else ""
    said = said or f"No SSH daemon of {users} runs here."
    if not module.check_mode:
        left = _daemons.end(found)
        syslog.openlog("ssh_hook", syslog.LOG_PID, syslog.LOG_AUTHPRIV)
        syslog.syslog(syslog.LOG_NOTICE, f"revoke: {said}")
        if left:
            module.fail_json(msg=f"SSH daemons of {users} have not exited: pids {', '.join(map(str, left))}.")
    module.exit_json(changed=bool(found), pids=found, said=said)


if __name__ == "__main__":
    main()
