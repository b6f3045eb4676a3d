# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install, start and remove systemd timers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from . import _files

UNITS = "/etc/systemd/system"
KINDS = (".service", ".timer")
SECONDS = 60


class SystemdError(Exception):
    """systemctl failed; str() is the sentence for the admin."""


def runs_systemd() -> bool:
    """Return whether the first process is systemd."""
    return _files.read("/proc/1/comm").strip() == b"systemd"


def systemctl(*arguments: str, check: bool = True) -> bool:
    """Run systemctl. Return whether it succeeded.

    Raises:
        SystemdError: it did not, and `check` is true; or it cannot be run.
    """
    program = shutil.which("systemctl", path="/usr/bin:/bin") or "systemctl"
    try:
        answer = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemdError(f"systemctl {' '.join(arguments)} failed: {error}") from error
    if check and answer.returncode != 0:
        said = answer.stderr.strip().splitlines()
        reason = said[-1] if said else f"exit status {answer.returncode}"
        raise SystemdError(f"systemctl {' '.join(arguments)} failed: {reason}")
    return answer.returncode == 0


def unwanted(names: Sequence[str]) -> list[str]:
    """Return those of the timers of which a unit is installed."""
    return [name for name in names if any(os.path.lexists(f"{UNITS}/{name}{kind}") for kind in KINDS)]


def remove(names: Sequence[str], check: bool) -> list[str]:
    """Stop, disable and remove timers. Return those that were there.

    Raises:
        OSError: a unit cannot be removed.
        SystemdError: systemctl failed.
    """
    found = unwanted(names)
    if check or not found:
        return found
    running = runs_systemd()
    for name in found:
        if running:
            for verb in ("stop", "disable"):  # not "disable --now", which fails where systemd only pretends to run
                systemctl(verb, f"{name}.timer")
        for kind in KINDS:
            _files.remove(f"{UNITS}/{name}{kind}")
    if running:
        systemctl("daemon-reload")
    return found


def install(units: Mapping[str, str], check: bool) -> tuple[list[str], list[str]]:
    """Write units, name -> text, and enable and start their timers.

    Returns: the units that were written, and the timers that were started or enabled.

    Raises:
        OSError: a unit cannot be written.
        SystemdError: systemctl failed.
    """
    written = [name for name, text in units.items() if _files.update(f"{UNITS}/{name}", text.encode(), check=check)]
    if written and not check:
        systemctl("daemon-reload")
    started = []
    for name in (name for name in units if name.endswith(".timer")):
        is_new = not set(written).isdisjoint((name, name.replace(".timer", ".service")))
        if not is_new and systemctl("is-enabled", name, check=False) and systemctl("is-active", name, check=False):
            continue
        started.append(name)
        if not check:
            systemctl("enable", name)
            systemctl("restart" if is_new else "start", name)
    return written, started
