# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure functions that generate file contents for a container: bytes if they contain values from the container."""

from __future__ import annotations

from ..fast_stdlib import fsencode
from ..oci.container_paths import ENVIRONMENT, OPENSSH_KEY

_SPECIAL = frozenset("*?!,#=%$\"' \t\n\r\f\v\0")  # ssh_config(5) gives them a meaning in a user's name
_MAX_NAME = 255  # characters; ssh matches nothing in a list that has a name of 1,023


def profile_module() -> bytes:
    """Return the script for /etc/profile.d, read by login shells."""
    return f"""# shellcheck shell=sh
# In SSH sessions, give back what /etc/profile may have changed of their variables: Dropbear writes the file.
if [ -n "${{SSH_CONNECTION-}}" ] && [ -r {ENVIRONMENT} ]; then
    # shellcheck source=/dev/null
    . {ENVIRONMENT}
fi
""".encode()


def ssh_config(login_name: str, names: list[str], port: int, wait: int) -> bytes:
    """Return the ssh_config(5) that the container's ssh reads before all others.

    `names` are all names under which the user can log in, `login_name` is the preferred one. `port` is the port of the
    user's containers, `wait` is how many seconds to wait for one that does not answer yet. ssh uses ConnectTimeout as
    the limit for all attempts together (patch 02-containers of OpenSSH).
    """
    users = [_escape(name) for name in (login_name, *names) if _is_plain(name)]
    lines = ["# ssh reads this file before all other configuration."]
    if users:
        lines += [
            f"User {users[0]}",
            f"Match user {','.join(dict.fromkeys(users))}",
            f"    Port {port}",
            f"    IdentityFile {OPENSSH_KEY}",
            *([f"    ConnectTimeout {wait}"] if wait else []),
        ]
    return fsencode("\n".join(lines) + "\n")


def _is_plain(name: str) -> bool:
    return not _SPECIAL.intersection(name) and not name.endswith("\\") and len(name) <= _MAX_NAME


def _escape(name: str) -> str:
    """Return a name escaped for ssh's configuration: winbind's names have a backslash, as in DOMAIN\\alice."""
    return name.replace("\\", "\\\\")
