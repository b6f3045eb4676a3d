#!/usr/bin/python
# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_timers
short_description: Internal to the role ssh_hook - install systemd timers with their services, or remove them
version_added: "1.0.0"
author: The ocihooks.ssh contributors (@ocihooks)
extends_documentation_fragment: [ocihooks.ssh.attributes, ocihooks.ssh.attributes.root]
description:
  - Writes units into C(/etc/systemd/system), enables and starts the timers, and restarts those with a changed unit.
    If the first process is not systemd, O(units) are ignored. In an image they are enabled by links.
  - Returns C(written), file names, and C(started) and C(removed), names of timers; in check mode those that would be.
options:
  units:
    type: dict
    default: {}
    description: File name to text. Each C(NAME.timer) has a C(NAME.service), and may have a C(NAME@.service).
  absent: {type: list, elements: str, default: [], description: "Names of timers to remove with their services."}
"""

EXAMPLES = r"""
- ocihooks.ssh.systemd_timers:
    absent: [ssh-hook-sweep]
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
