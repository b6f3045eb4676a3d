# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that the hook generates for a container, by pure functions: as bytes where they hold the container's values."""

from __future__ import annotations

from ..kernel.lean import fsencode
from ..spec.container_paths import ENVIRONMENT, PROGRAMS

# Variables that each session or shell sets for itself.
_NOT_RESTORED = frozenset(
    """
    BASHOPTS BASH_VERSINFO EUID HOME IFS LOGNAME OLDPWD PPID PWD SHELL SHELLOPTS SHLVL TERM UID USER _
    SSH_AUTH_SOCK SSH_CLIENT SSH_CONNECTION SSH_ORIGINAL_COMMAND SSH_TTY
    """.split()
)


def quote(value: str) -> str:
    """Quote any `value` as one word for a POSIX shell."""
    return "'" + value.replace("'", "'\\''") + "'"


def environment_file(environment: dict[str, str]) -> bytes:
    """Return shell commands that export the container's variables, except those whose name a shell does not allow."""
    lines = [
        f"export {name}={quote(value)}\n"
        for name, value in environment.items()
        if name not in _NOT_RESTORED and name.isascii() and name.isidentifier()
    ]
    return fsencode("".join(lines))


def profile_module() -> bytes:
    """Return the script for /etc/profile.d, which login shells read."""
    return f"""# shellcheck shell=sh
# In SSH sessions, give back what /etc/profile may have changed of the container's variables.
if [ -n "${{SSH_CONNECTION-}}" ] && [ -r {ENVIRONMENT} ]; then
    # shellcheck source=/dev/null
    . {ENVIRONMENT}
fi
""".encode()


def copier(name: str) -> bytes:
    """Return the script that runs `name`, one of COPIERS."""
    return f'#!/bin/sh\nexec {PROGRAMS}/{name} "$@"\n'.encode()
