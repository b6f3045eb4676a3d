# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook client-config``: set up OpenSSH's client outside of containers, on a login node or a laptop."""

from __future__ import annotations

import os
import pwd
import re
from argparse import ArgumentParser, Namespace

from ..errors import HookError, printable
from ..keys import formats, store, writer
from . import hosts
from .hosts import SUFFIX
from .keygen import caller

PREFIX = "container-"  # of aliases; ssh to a host's own name still reaches the host
_KEY = "id_container"
_KNOWN_HOSTS = "known_hosts"
_SSH_PORT = 22  # which known_hosts does not name
_CONFIG = "config"
_USER = re.compile(r"[\w.@+-]+(\\[\w.@+-]+)?")
_QUOTABLE = '"!*\'*"'  # not of Host names with a quote: ssh gives them to a shell, and before 9.6 checks none
_BELOW_HOME = "/.oci-hooks/ssh/client"
_NOT_QUOTABLE = set('"\\%$*?[')  # in a path: they have a meaning in ssh_config(5)


DESCRIPTION = """Write a key, known_hosts and a configuration with which ssh outside of containers reaches yours:
as job1234 in a job, as NODE.container by the node's own sshd, and as container-HOST directly."""
EXAMPLE = "ssh_hook client-config gpu[001-016]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    hosts.add_arguments(parser)


def run(arguments: Namespace, settings: dict[str, str]) -> int:
    """Write the files, and print what is left to do. Raises HookError and KeyStoreError."""
    is_given = arguments.hosts or arguments.hostfile is not None or settings.get("SLURM_JOB_NODELIST")
    names = hosts.selected_hosts(arguments, settings) if is_given else []
    print(client_config(names, hosts.selected_port(arguments, settings), settings))
    return 0


def client_config(names: list[str], port: int, settings: dict[str, str]) -> str:
    """Write the caller's key, known_hosts and configuration for containers on hosts; return instructions.

    `names` are those of the hosts. Raises HookError and KeyStoreError.
    """
    directory, user = caller(settings)
    keys = store.load(directory, user)
    path = _tilde_path(writer.client_directory(directory))
    known_names = names if port == _SSH_PORT else [f"[{host}]:{port}" for host in names]
    host_keys = store.host_public_keys(keys)
    text = config(names, port, user, path, [key.split()[0] for key in host_keys])
    files = {
        _KEY: formats.openssh_private_key(keys.id_dropbear, formats.key_comment(user)),
        _KNOWN_HOSTS: formats.known_hosts(host_keys, known_names),
        _CONFIG: text.encode(),
    }
    writer.write_client(directory, files)
    include = _quoted(f"{path}/{_CONFIG}")
    ways = "\n".join(
        [
            "Then, by the nodes' own sshd:",
            "ssh job1234              your container on the first node of job 1234",
            "ssh node002.job1234      that on another of its nodes",
            f"ssh node002{SUFFIX}    your only container on a node",
        ]
    )
    others = len(names) - 1
    more = f", and {others} more host{'s' if others > 1 else ''} alike" if others > 0 else ""
    direct = f"\nOr directly: ssh {PREFIX}{names[0]}{more}" if names else ""
    return f"Have this line at the top of ~/.ssh/config:\nInclude {include}\n{ways}{direct}"


def config(names: list[str], port: int, user: str, directory: str, host_key_types: list[str]) -> str:
    """Return an ssh_config(5) for containers on the hosts `names`, with key and known_hosts in `directory`.

    `host_key_types` are those of the containers' host keys, the preferred one first: OpenSSH before 8.5 prefers ECDSA.
    Raises HookError.
    """
    if not _USER.fullmatch(user):
        raise HookError(f"ssh's configuration cannot hold the user's name '{printable(user)}'")
    command = _quoted(hosts.launcher())
    jobs = " ".join(f"{prefix}job{digit}*" for prefix in ("", "*.") for digit in range(1, 10))
    entries = [f"Host {PREFIX}{host}\n    HostName {host}\n" for host in names]
    entries += [
        f"Host {jobs} {_QUOTABLE}\n    ProxyCommand {command} connect --job '%n'\n",
        f"Host *{SUFFIX} {_QUOTABLE}\n    ProxyCommand {command} connect '%n'\n",
    ]
    common = [
        f"Host {PREFIX}* *{SUFFIX} {jobs}",
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
