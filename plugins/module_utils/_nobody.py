# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program as the user nobody, without root's environment, since others may have changed what it loads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

NOBODY = 65534


def rights() -> dict[str, Any]:
    """Return the arguments for subprocess.run that drop root's privileges. Other users keep theirs."""
    return {} if os.geteuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def run(
    command: Sequence[str], stdin: bytes = b"", *, env: Mapping[str, str] | None = None, seconds: float
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in the root directory, without a terminal. Return its result, with its output.

    Raises:
        OSError: the user nobody may not run it.
        subprocess.TimeoutExpired: it took longer than this time.
    """
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        cwd="/",
        env=env or {},
        timeout=seconds,
        start_new_session=True,
        check=False,
        **rights(),
    )
