# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts that the hook generates for a container: pure functions, bytes where the container's values are in them."""

from __future__ import annotations

from ..kernel.lean import fsencode
from ..spec.container_paths import ENVIRONMENT, PROGRAMS

# Of each session its own, or a shell's own business.
_NOT_RESTORED = frozenset(
    """
    BASHOPTS BASH_VERSINFO EUID HOME IFS LOGNAME OLDPWD PPID PWD SHELL SHELLOPTS SHLVL TERM UID USER _
    SSH_AUTH_SOCK SSH_CLIENT SSH_CONNECTION SSH_ORIGINAL_COMMAND SSH_TTY
    """.split()
)


def quote(value: str) -> str:
    """`value` as one word of a POSIX shell, whatever it holds."""
    return "'" + value.replace("'", "'\\''") + "'"


def environment_file(environment: dict[str, str]) -> bytes:
    """Shell commands that export the container's variables; those that a shell cannot name are left out."""
    lines = [
        f"export {name}={quote(value)}\n"
        for name, value in environment.items()
        if name not in _NOT_RESTORED and name.isascii() and name.isidentifier()
    ]
    return fsencode("".join(lines))


def profile_module() -> bytes:
    """What a login shell reads from /etc/profile.d."""
    return f"""# shellcheck shell=sh
# In SSH sessions, give back what /etc/profile may have changed of the container's variables.
if [ -n "${{SSH_CONNECTION-}}" ] && [ -r {ENVIRONMENT} ]; then
    # shellcheck source=/dev/null
    . {ENVIRONMENT}
fi
""".encode()


def copier(name: str) -> bytes:
    """What runs one of COPIERS."""
    return f'#!/bin/sh\nexec {PROGRAMS}/{name} "$@"\n'.encode()
