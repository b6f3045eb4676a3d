# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook check-user-has-sshkeys``: exit with 0 if the calling user has a complete key set."""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING
from ..keys import store
from ..log import INFO, log
from ..node.caller import caller, describe

if TYPE_CHECKING:
    from argparse import Namespace

DESCRIPTION = "Exit with 0 if you have SSH keys for containers; otherwise report what is missing, and exit with 1."
EXAMPLE = "ssh_hook check-user-has-sshkeys || ssh_hook keygen"
FLAGS: dict[str, str] = {}


def run(_arguments: Namespace, settings: dict[str, str]) -> int:
    """Look for the keys. Raises KeyStoreError if there is no complete set."""
    log(INFO, check(settings))
    return 0


def check(settings: dict[str, str]) -> str:
    """Return one line that describes the caller's key set. Raises KeyStoreError if there is no complete one."""
    directory, name = caller(settings)
    return f"{name} has SSH keys in {directory}: {describe(store.load(directory, name))}"
