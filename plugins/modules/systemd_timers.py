#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_timers
short_description: Install systemd timers with their services, or remove them
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment:
  - ocihooks.ssh.attributes
  - ocihooks.ssh.attributes.root
description:
  - Writes the units into C(/etc/systemd/system), enables and starts the timers, and restarts those of which a unit has
    changed, in one task.
  - Removes timers that are not wanted, with their services.
options:
  units:
    description: The units, file name to text. Each C(NAME.timer) has a C(NAME.service).
    type: dict
    default: {}
  absent:
    description: Names of the timers to stop and to remove with their services, without C(.timer).
    type: list
    elements: str
    default: []
attributes:
  diff_mode:
    description: Shows the lines of a unit that differ, and names in one line those that are new.
notes:
  - If the first process is not systemd, O(units) are ignored, and O(absent) are removed.
  - In an image of a node, where the root directory is not that of the first process, timers are enabled by links, as
    C(WantedBy) in their texts says, if systemd is installed. They start when the image is booted.
seealso:
  - module: ansible.builtin.systemd_service
"""

EXAMPLES = r"""
- name: Collect what killed containers left, every 15 minutes
  ocihooks.ssh.systemd_timers:
    units:
      ssh-hook-sweep.service: |
        [Service]
        Type=oneshot
        ExecStart=/opt/oci-hooks/bin/ssh_hook sweep
      ssh-hook-sweep.timer: |
        [Timer]
        OnUnitActiveSec=15min
        [Install]
        WantedBy=timers.target

- name: Remove it
  ocihooks.ssh.systemd_timers:
    absent: [ssh-hook-sweep]
"""

RETURN = r"""
written:
  description: File names of the units that were not as they should be; in check mode those that would be written.
  returned: success
  type: list
  elements: str
  sample: [ssh-hook-sweep.timer]
started:
  description: The timers that were enabled, started or restarted; in check mode those that would be.
  returned: success
  type: list
  elements: str
  sample: [ssh-hook-sweep.timer]
removed:
  description: The timers that were removed; in check mode those that would be.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ocihooks.ssh.plugins.module_utils import _diff, _files, _timers


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "dict", "default": {}},
            "absent": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    units = module.params["units"] if _timers.uses_systemd() else {}
    before = {name: _files.read(f"{_timers.UNITS}/{name}").decode(errors="replace") for name in units}
    try:
        removed = _timers.remove(module.params["absent"], module.check_mode)
        written, started = _timers.install(units, module.check_mode)
    except _timers.SystemdError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or _timers.UNITS} cannot be written: {error.strerror}")
    new = [name for name in written if not before[name]]
    diffs = [_diff.of_lines(f"new: {', '.join(new)}")] if new else []
    diffs += [_diff.of_text(name, before[name], units[name]) for name in written if name not in new]
    diffs += [_diff.of_lines(f"removed: {name}") for name in removed]
    module.exit_json(
        changed=bool(written or started or removed), written=written, started=started, removed=removed, diff=diffs
    )


if __name__ == "__main__":
    main()
