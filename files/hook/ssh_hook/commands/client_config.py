# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook client-config``: set up OpenSSH's client outside of containers, on a login node or a laptop."""

from __future__ import annotations

import os
import pwd
import re

from ..errors import HookError, printable
from ..keys import formats, store, writer
from .hosts import Options
from .keygen import caller

PREFIX = "container-"  # of aliases; ssh to a host's own name still reaches the host
_KEY = "id_container"
_KNOWN_HOSTS = "known_hosts"
_SSH_PORT = 22  # which known_hosts does not name
_CONFIG = "config"
_USER = re.compile(r"[\w.@+-]+(\\[\w.@+-]+)?")
_BELOW_HOME = "/.oci-hooks/ssh/client"
_NOT_QUOTABLE = set('"\\%$*?[')  # in a path: they have a meaning in ssh_config(5)


def client_config(arguments: list[str], settings: dict[str, str]) -> str:
    """Write the caller's key, known_hosts and configuration for the hosts in `arguments`; return instructions.

    Raises HookError and KeyStoreError.
    """
    options = Options(arguments, settings)
    directory, name = caller(settings)
    keys = store.load(directory, name)
    path = _tilde_path(writer.client_directory(directory))
    names = options.hosts if options.port == _SSH_PORT else [f"[{host}]:{options.port}" for host in options.hosts]
    host_keys = store.host_public_keys(keys)
    text = config(options.hosts, options.port, name, path, [key.split()[0] for key in host_keys])
    files = {
        _KEY: formats.openssh_private_key(keys.id_dropbear, formats.key_comment(name)),
        _KNOWN_HOSTS: formats.known_hosts(host_keys, names),
        _CONFIG: text.encode(),
    }
    writer.write_client(directory, files)
    include = _quoted(f"{path}/{_CONFIG}")
    others = len(options.hosts) - 1
    more = f", and {others} more host{'s' if others > 1 else ''} alike" if others else ""
    return f"Have this line at the top of ~/.ssh/config:\nInclude {include}\nThen: ssh {PREFIX}{options.hosts[0]}{more}"


def config(hosts: list[str], port: int, user: str, directory: str, host_key_types: list[str]) -> str:
    """Return an ssh_config(5) for containers on `hosts`, with key and known_hosts in `directory`. Raises HookError.

    `host_key_types` are those of the containers' host keys, the preferred one first: OpenSSH before 8.5 prefers ECDSA.
    """
    if not _USER.fullmatch(user):
        raise HookError(f"ssh's configuration cannot hold the user's name '{printable(user)}'")
    entries = [f"Host {PREFIX}{host}\n    HostName {host}\n" for host in hosts]
    common = [
        f"Host {PREFIX}*",
        f"Port {port}",
        f"User {user}",
        f"IdentityFile {_quoted(f'{directory}/{_KEY}')}",
        "IdentitiesOnly yes",
        f"HostKeyAlias {formats.HOST_KEY_ALIAS}",
        f"HostKeyAlgorithms {','.join(host_key_types)}",
        f"UserKnownHostsFile {_quoted(f'{directory}/{_KNOWN_HOSTS}')}",
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
        "ForwardX11 no",
    ]
    title = "# Written by 'ssh_hook client-config': its next run replaces this file.\n"
    return title + "".join(entries) + "\n    ".join(common) + "\n"


def _tilde_path(directory: str) -> str:
    """Return the path, from ``~`` on where it is below the home, so that a copy on a laptop works too."""
    try:
        if os.path.samefile(directory.removesuffix(_BELOW_HOME), pwd.getpwuid(os.getuid()).pw_dir):
            return f"~{_BELOW_HOME}"
    except (KeyError, OSError):
        pass  # the user has no entry or no home on this machine
    return directory


def _quoted(path: str) -> str:
    if _NOT_QUOTABLE & set(path):
        raise HookError(
            f"ssh's configuration cannot hold the path {printable(path)}: ask the administrator for another"
        )
    return f'"{path}"' if " " in path or "#" in path else path
