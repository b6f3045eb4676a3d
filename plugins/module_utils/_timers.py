# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install, start and remove systemd timers. In an image, only create systemctl's links."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from . import _files, _image

UNITS = "/etc/systemd/system"
# From which systemd reads drop-ins of a unit (systemd.unit(5)).
SEARCHED = (
    *("/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient", "/run/systemd/generator"),
    *(UNITS, "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"),
)
KINDS = (".service", "@.service", ".timer")  # a timer may have a template, whose instances its service starts
SECONDS = 60


class SystemdError(Exception):
    """systemctl failed; str() is the message for the admin."""


def runs_systemd() -> bool:
    """Return whether pid 1 is systemd, with this root directory."""
    return not _image.is_image() and _files.read("/proc/1/comm").strip() == b"systemd"


def uses_systemd() -> bool:
    """Return whether systemd runs here, or will when this image is booted."""
    return _image.has_systemd() if _image.is_image() else runs_systemd()


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
    """Return those of the timers that have an installed unit."""
    return [name for name in names if any(os.path.lexists(f"{UNITS}/{name}{kind}") for kind in KINDS)]


def drop_ins(names: Sequence[str]) -> list[str]:
    """Return the drop-ins that change the timers' units, also those of all units that begin alike, such as ssh-."""
    starts = {name[: end + 1] for name in names for end, letter in enumerate(name) if letter == "-"}
    folders = [f"{start}.*.d" for start in starts] + [f"{name}{each}.d" for name in names for each in (".*", "@*")]
    return sorted({path for place in SEARCHED for folder in folders for path in glob.glob(f"{place}/{folder}/*.conf")})


def installed_units(names: Sequence[str]) -> dict[str, str]:
    """Return unit -> SHA-256 for those of the timers that are enabled and run; in an image, that are enabled."""
    digests = {}
    for name in names:
        there = [f"{name}{kind}" for kind in KINDS if os.path.lexists(f"{UNITS}/{name}{kind}")]
        units = {unit: _files.read(f"{UNITS}/{unit}").decode(errors="replace") for unit in there}
        try:
            written, started = install(units, check=True)
        except (SystemdError, OSError):
            continue
        if not written and not started:
            digests.update({unit: hashlib.sha256(text.encode()).hexdigest() for unit, text in units.items()})
    return digests


def remove(names: Sequence[str], check: bool) -> list[str]:
    """Stop, disable and remove timers. Return those that existed.

    Raises:
        OSError: a unit cannot be removed.
        SystemdError: systemctl failed.
    """
    found = unwanted(names)
    if check or not found:
        return found
    running = runs_systemd()
    for name in found:
        for kind in KINDS:
            _files.refuse_foreign(f"{UNITS}/{name}{kind}")
        if running:
            for verb in ("stop", "disable"):  # not "disable --now", which fails where systemd is only simulated
                systemctl(verb, f"{name}.timer")
        else:
            disable(f"{name}.timer")
        for kind in KINDS:
            _files.remove(f"{UNITS}/{name}{kind}")
    if running:
        systemctl("daemon-reload")
    return found


def targets(text: str) -> list[str]:
    """Return the units that want a unit with this text, from its [Install] section."""
    return [name for names in re.findall(r"^WantedBy=(.*)$", text, re.MULTILINE) for name in names.split()]


def enable(name: str, text: str, check: bool) -> bool:
    """Create the links that make systemd start a unit when the image is booted. Return whether one was missing.

    Raises:
        OSError: a link cannot be created.
    """
    unit = f"{UNITS}/{name}"
    links = [f"{UNITS}/{target}.wants/{name}" for target in targets(text)]
    missing = [link for link in links if not os.path.islink(link) or os.readlink(link) != unit]
    for link in [] if check else missing:
        _files.make_missing(os.path.dirname(link))
        if os.path.islink(link):
            os.unlink(link)
        os.symlink(unit, link)
    return bool(missing)


def disable(name: str) -> None:
    """Remove the links that make systemd start a unit, and directories that become empty.

    Raises:
        OSError: a link cannot be removed.
    """
    for link in glob.glob(f"{glob.escape(UNITS)}/*.wants/{name}"):
        if os.path.islink(link):
            os.unlink(link)
        with suppress(OSError):  # not empty: other units are wanted too
            os.rmdir(os.path.dirname(link))


def install(units: Mapping[str, str], check: bool) -> tuple[list[str], list[str]]:
    """Write units, name -> text, and enable and start their timers. In an image nothing starts.

    Returns: the units that were written, and the timers that were started or enabled.

    Raises:
        OSError: a unit cannot be written.
        SystemdError: systemctl failed.
    """
    written = [name for name, text in units.items() if _files.update(f"{UNITS}/{name}", text.encode(), check=check)]
    timers = [name for name in units if name.endswith(".timer")]
    if not runs_systemd():
        return written, [name for name in timers if enable(name, units[name], check)]
    if written and not check:
        systemctl("daemon-reload")
    started = []
    for name in timers:
        is_new = not set(written).isdisjoint(f"{name[: -len('.timer')]}{kind}" for kind in KINDS)
        if not is_new and systemctl("is-enabled", name, check=False) and systemctl("is-active", name, check=False):
            continue
        started.append(name)
        if not check:
            systemctl("enable", name)
            systemctl("restart" if is_new else "start", name)
    return written, started
