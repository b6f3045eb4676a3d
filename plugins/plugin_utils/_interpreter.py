# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out whether a host's modules fail because Ansible's interpreter there is too old."""

from __future__ import annotations

import re
import shlex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ansible.plugins.action import ActionBase

OLDEST = (3, 9)
_PROBE = 'import sys; print("Python %d.%d" % sys.version_info[:2])'  # for any Python


def too_old(action: ActionBase, host: str) -> str | None:
    """Return a message if the interpreter of an action's last module is older than `OLDEST`, else None.

    It runs a command on the host, so call it only after a module has failed.
    """
    interpreter = str(action._used_interpreter or "").lstrip("#!").strip()
    if not interpreter:
        return None
    answer = action._low_level_execute_command(f"{interpreter} -c {shlex.quote(_PROBE)}", sudoable=True)
    found = re.search(r"^Python ([0-9]{1,3})\.([0-9]{1,3})\s*$", str(answer.get("stdout", "")), re.MULTILINE)
    if not found or (int(found[1]), int(found[2])) >= OLDEST:
        return None
    oldest = "{}.{}".format(*OLDEST)
    return (
        f"Ansible runs modules on {host} with {interpreter}, which is Python {found[1]}.{found[2]}, and this "
        "collection "
        f"needs {oldest} or newer there: install a newer one, and set ansible_python_interpreter to its path."
    )
