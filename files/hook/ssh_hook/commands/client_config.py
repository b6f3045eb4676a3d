# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook client-config``: configure OpenSSH's client outside containers, on a login node or a laptop."""

from __future__ import annotations

import os
import pwd
import re
from argparse import ArgumentParser, Namespace
from fnmatch import fnmatchcase
from ipaddress import ip_address

from ..errors import ARGUMENTS_WRONG, SETTING_WRONG, HookError, printable
from ..keys import formats, store, writer
from ..node.caller import caller
from ..schedulers import host_notation, nodes
from ..schedulers.jobs import selected_port
from ..schedulers.nodes import SRUN, SUFFIX
from . import ssh_config
from .dev import profiles
from .dev.profiles import Profiles

PREFIX = "container-"  # of aliases; ssh to a host's own name still reaches the host
_SSH_PORT = 22  # omitted in known_hosts
_ALIASES = 50  # on one line
_LAPTOP = "laptop"  # where this program and the compute nodes are behind a jump host
_JUMP = re.compile(r"(?:\w[\w.+-]*@)?\w[\w.-]{0,252}", re.ASCII)
_USER = re.compile(r"[\w.@+-]+(\\[\w.@+-]+)?")
_QUOTABLE = '"!*\'*"'  # excludes Host names with a quote: a shell gets them, and ssh before 9.6 does not check names
# The host's name, quoted for the local and the remote shell. Windows' ssh uses no local shell: `ssh_hook connect` then
# gets the inner quotes.
_QUOTED_TWICE = r"\''%h'\'"
_SHELL_WORD = re.compile(r"[\w/.@:,+=-]+", re.ASCII)  # a path that needs no quotes
_JOBS = " ".join(f"{prefix}job{digit}*" for prefix in ("", "*.") for digit in range(1, 10))  # Host names
_CONTAINERS = f"*{SUFFIX} {_JOBS}"  # Host names that are always containers
_PATTERNS = _CONTAINERS.split()
# Each connection is a job step, which costs Slurm work, so sessions share one. Windows' ssh cannot share. Its shell
# has no "test", or Git's; all other shells have it, but differ in redirections. With ControlPersist, ssh discards what
# a ProxyCommand writes to stderr.
_SHARED = ["ControlMaster auto", "ControlPath ~/.ssh/oci-hooks-%C", "ControlPersist no"]
# Each ssh_hook on a node knows which profiles there are. A copy of this configuration may be on a laptop.
_PROFILE = f'Match originalhost "{profiles.PREFIX}*,!*\'*" exec "test -x {{0}} && {{0}} dev --has \'%n\'"'
_TITLE = "# Written by 'ssh_hook client-config': its next run replaces this file.\n"
_LAPTOP_TITLE = """\
# BEGIN ssh_hook
# By 'ssh_hook client-config --jump': ssh job1234, node002.job1234 and node002.container reach your containers. Put
# these lines at the top of ~/.ssh/config itself: the next ones are the containers' host keys, which ssh reads there.
"""
# Begins a line that is valid in ssh_config(5), where no host matches it, and in known_hosts, where it is for the alias
# and for all names of containers, since some clients do not support HostKeyAlias. sshj never finds names in capitals.
_HOST_KEY = f"Host=,{','.join([formats.HOST_KEY_ALIAS, *_PATTERNS])}"
# Before OpenSSH 8.1 a ProxyCommand has no %n, so %h must be the name as typed: the user's own entries follow these.
_AS_TYPED = "    HostName %h\n    CanonicalizeHostname no\n"
_BELOW_HOME = "/.oci-hooks/ssh/client"
_NOT_QUOTABLE = set("\"'\\%$*?[")  # in a path: special in ssh_config(5) or to a shell


DESCRIPTION = """Set up ssh on this host, outside containers, to reach your containers as job1234 (a job's first node),
as NODE.container (through the node's own sshd) or as container-HOST (directly, at the container's port).
This writes a key, known_hosts and a configuration to ~/.oci-hooks/ssh/client.
With --jump, print a configuration for a laptop instead. The laptop does not need the containers' key."""
EXAMPLE = "ssh_hook client-config --jump alice@login.example.org"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    host_notation.add_arguments(parser)
    parser.add_argument(
        "--jump",
        metavar="[USER@]HOST",
        help="print a configuration for ~/.ssh/config on a laptop that reaches this cluster through login node HOST",
    )
    nodes.add_way(parser)
    parser.add_argument(
        "--keys",
        action="store_true",
        help="with --jump: write the key and a configuration for a laptop, for programs that do not support "
        "ProxyCommand",
    )
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--install", action="store_true", help="put the line with Include at the top of your ~/.ssh/config on this host"
    )
    change.add_argument("--uninstall", action="store_true", help="remove that line, and do nothing else")


def run(arguments: Namespace, settings: dict[str, str]) -> int:
    """Write the files and print the remaining steps; or print the lines for a laptop; or remove the line with Include.

    Raises HookError and KeyStoreError.
    """
    if arguments.jump is not None and (arguments.install or arguments.uninstall):
        raise HookError(ARGUMENTS_WRONG, "--install and --uninstall are for this host, and --jump is for a laptop")
    if arguments.uninstall:
        changed = ssh_config.take_out(_include(writer.client_directory(caller(settings)[0])))
        print(f"Removed the line from {changed}." if changed else "~/.ssh/config has no such line.")
        return 0
    if arguments.jump is not None and not arguments.keys:
        if arguments.hosts or arguments.hostfile is not None:
            raise HookError(ARGUMENTS_WRONG, "connecting directly to hosts needs the containers' key: add --keys")
        print(laptop_lines(arguments.jump, settings, arguments.via), end="")
        return 0
    is_given = arguments.hosts or arguments.hostfile is not None or settings.get("SLURM_JOB_NODELIST")
    names = host_notation.selected_hosts(arguments, settings) if is_given else []
    port = selected_port(arguments, settings)
    print(client_config(names, port, settings, arguments.jump, arguments.via, arguments.install))
    return 0


def client_config(
    names: list[str],
    port: int,
    settings: dict[str, str],
    jump: str | None = None,
    via: str = "ssh",
    install: bool = False,
) -> str:
    """Write the caller's key, known_hosts and configuration for containers on hosts; return the remaining steps.

    `names` are the hosts, `jump` is a jump host for them. `via` is how containers of jobs are reached, as in `ssh_hook
    connect`. With `install`, ~/.ssh/config includes the configuration. Raises HookError and KeyStoreError.
    """
    if jump is not None:
        _check_jump(jump)
    directory, user = caller(settings)
    keys = store.load(directory, user)
    path = _tilde_path(writer.client_directory(directory))
    known_names = [*_at_port(names, port), ",".join(_at_port(_PATTERNS, port))]
    host_keys = store.host_public_keys(keys)
    text = config(names, port, user, path, [key.split()[0] for key in host_keys], via)
    files = {
        writer.CLIENT_KEY: formats.openssh_private_key(keys.id_dropbear, formats.key_comment(user)),
        writer.CLIENT_KNOWN_HOSTS: formats.known_hosts(host_keys, known_names),
        writer.CLIENT_CONFIG: text.encode(),
    }
    if jump is not None:
        files[_LAPTOP] = laptop_config(names, jump, path, via).encode()
    writer.write_client(directory, files)
    include = _include(writer.client_directory(directory))
    if install:
        changed = ssh_config.put_on_top(include)
        first = f"Added at the top of {changed}: {include}" if changed else f"~/.ssh/config begins with: {include}"
    else:
        first = f"Put this line at the top of ~/.ssh/config:\n{include}"
    ways = "\n".join(
        [
            "Then, through the nodes' own sshd:" if via == "ssh" else "Then, the first two through a step of the job:",
            "ssh job1234              your container on the first node of job 1234",
            "ssh node002.job1234      your container on another node of the job",
            f"ssh node002{SUFFIX}    your only container on a node",
        ]
    )
    others = len(names) - 1
    more = f", and {others} more host{'s' if others > 1 else ''}" if others > 0 else ""
    direct = f"\nOr directly: ssh {PREFIX}{names[0]}{more}" if names else ""
    told = f"{first}\n{ways}{direct}"
    return told if jump is None else f"{told}\n{_laptop_steps(jump, path)}"


def _include(directory: str) -> str:
    """Return the line for ~/.ssh/config that includes the one in the client's `directory`. Raises HookError."""
    return f"Include {_quoted(f'{_tilde_path(directory)}/{writer.CLIENT_CONFIG}')}"


def _at_port(names: list[str], port: int) -> list[str]:
    """Return the names as known_hosts has them."""
    return names if port == _SSH_PORT else [f"[{name}]:{port}" for name in names]


def _check_jump(jump: str) -> None:
    """Raise HookError if `jump` cannot be a login node in an ssh_config(5)."""
    if not _JUMP.fullmatch(jump):
        raise HookError(ARGUMENTS_WRONG, f"--jump is '{printable(jump)}': give the name of a login node, or USER@NAME")
    if any(fnmatchcase(jump.rpartition("@")[2], name) for name in _PATTERNS):
        raise HookError(
            ARGUMENTS_WRONG,
            f"--jump is '{jump}', and ssh takes such a name for a container: give another name of that host",
        )


def laptop_lines(jump: str, settings: dict[str, str], via: str = "ssh") -> str:
    """Return lines for a laptop's ~/.ssh/config that reach the caller's containers through `jump`.

    They contain no key: on the node `ssh_hook connect` uses the container's door. The host keys are in the same file.
    Raises HookError and KeyStoreError.
    """
    _check_jump(jump)
    directory, user = caller(settings)
    host_keys = store.host_public_keys(store.load(directory, user))
    dev_hosts = [profiles.PREFIX + name for name in Profiles(settings).names()]
    common = [
        f"User {_checked_user(user)}",
        f"HostKeyAlias {formats.HOST_KEY_ALIAS}",
        f"HostKeyAlgorithms {','.join(key.split()[0] for key in host_keys)}",
        "UserKnownHostsFile ~/.ssh/config",
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
        "UpdateHostKeys no",
        "ForwardX11 no",
    ]
    return "".join(
        [
            _LAPTOP_TITLE,
            *(f"{_HOST_KEY} {key}\n" for key in host_keys),
            *_laptop_entries(jump, via),
            *_profile_entries(dev_hosts, f"{_over_ssh(jump)} {_launcher()}", via),
            *_sharing_options(via),
            "\n    ".join([f"Host {' '.join([_CONTAINERS, *dev_hosts])}", *common]) + "\n",
            "Host *\n# END ssh_hook\n",  # what follows in the user's file is for all hosts again
        ]
    )


def _checked_user(user: str) -> str:
    if not _USER.fullmatch(user):
        raise HookError(SETTING_WRONG, f"ssh's configuration cannot contain the user name '{printable(user)}'")
    return user


def _sharing_options(via: str, patterns: list[str] = _PATTERNS) -> list[str]:
    if via != SRUN or not patterns:
        return []
    return ["\n    ".join([f'Match originalhost "{",".join(patterns)}" exec "test ! -e C:/Windows"', *_SHARED]) + "\n"]


def _connect_arguments(via: str) -> str:
    """Return the arguments for `ssh_hook connect` to containers of jobs."""
    return f" --via {via}" if via == SRUN else ""


def _laptop_entries(jump: str, via: str) -> list[str]:
    """Return ssh_config(5) entries that reach containers through this program on `jump`. Raises HookError."""
    return _entries(f"{_over_ssh(jump)} {_launcher()} connect", via, _QUOTED_TWICE)


def _over_ssh(jump: str) -> str:
    # The quotes are for Windows' ssh, which otherwise guesses where the program's name ends.
    return f'"{nodes.SSH[0]}" {" ".join(nodes.SSH[1:])} -- {jump}'


def _entries(command: str, via: str, name: str) -> list[str]:
    """Return the entries that reach containers by `command`; `name` is the quoted name of the host."""
    return [
        f"Host {_JOBS} {_QUOTABLE}\n{_AS_TYPED}    ProxyCommand {command}{_connect_arguments(via)} --job {name}\n",
        f"Host *{SUFFIX} {_QUOTABLE}\n{_AS_TYPED}    ProxyCommand {command} {name}\n",
    ]


def _profile_entries(hosts: list[str], command: str, via: str) -> list[str]:
    """Return the laptop's entries for the `hosts` of profiles; `command` is ssh_hook on the jump host."""
    if not hosts:
        return []
    command += f" dev{_connect_arguments(via)} --connect {_QUOTED_TWICE}"
    return [
        # A person's ssh has a terminal. Windows' has no "test", and starts no job.
        f'Match originalhost "{",".join(hosts)}" exec "test -t 2"\n    ProxyCommand {command} --terminal\n',
        f"Host {' '.join(hosts)}\n{_AS_TYPED}    ProxyCommand {command}\n",
        *_sharing_options(via, hosts),
    ]


def _launcher() -> str:
    """Return the path of this program, for shells. Raises HookError."""
    path = nodes.launcher()
    if not _SHELL_WORD.fullmatch(path):
        raise _bad_path(path)
    return path


def _laptop_steps(jump: str, path: str) -> str:
    """Return the steps for using the client directory `path` on a laptop."""
    parent = os.path.dirname(path)
    return "\n".join(
        [
            "On a laptop, copy the directory, which holds the key:",
            f"mkdir -p {parent} && scp -pr {jump}:{path.removeprefix('~/')} {parent}/",
            "and put this line at the top of ~/.ssh/config there:",
            f"Include {_quoted(f'{path}/{_LAPTOP}')}",
        ]
    )


def config(names: list[str], port: int, user: str, directory: str, host_key_types: list[str], via: str = "ssh") -> str:
    """Return an ssh_config(5) for containers on the hosts `names`, with the key and known_hosts in `directory`.

    `host_key_types` are the types of the containers' host keys, preferred first: OpenSSH before 8.5 prefers ECDSA.
    Raises HookError.
    """
    entries = [f"Host {PREFIX}{host}\n    HostName {host}\n" for host in names]
    entries += [
        *_entries(f"{_launcher()} connect", via, "'%h'"),
        *_sharing_options(via),
    ]
    common = [
        f"Port {port}",
        f"User {_checked_user(user)}",
        f"IdentityFile {_quoted(f'{directory}/{writer.CLIENT_KEY}')}",
        "IdentitiesOnly yes",
        f"HostKeyAlias {formats.HOST_KEY_ALIAS}",
        f"HostKeyAlgorithms {','.join(host_key_types)}",
        f"UserKnownHostsFile {_quoted(f'{directory}/{writer.CLIENT_KNOWN_HOSTS}')}",
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
        "ForwardX11 no",
    ]
    # No pattern for the aliases: another host may have a name such as container-registry.
    patterns = [_CONTAINERS, *_aliases(names)]
    entries += ["\n    ".join([f"Host {pattern}", *common]) + "\n" for pattern in patterns]
    profile = f"ProxyCommand {_launcher()} dev{_connect_arguments(via)} --connect '%h'"
    shared = _SHARED if via == SRUN else []
    lines = [_PROFILE.format(_launcher()), "HostName %h", "CanonicalizeHostname no", profile, *shared, *common]
    entries.append("\n    ".join(lines) + "\n")
    return _TITLE + "".join(entries)


def laptop_config(names: list[str], jump: str, directory: str, via: str) -> str:
    """Return an ssh_config(5) that includes the one in `directory`, for a laptop that needs the jump host `jump`.

    It starts with a ProxyCommand that runs this program there. Raises HookError.
    """
    return "".join(
        [
            _TITLE,
            *_laptop_entries(jump, via),
            *(f"Host {aliases}\n    ProxyJump {jump}\n" for aliases in _aliases(names)),
            f"Match all\n    Include {_quoted(f'{directory}/{writer.CLIENT_CONFIG}')}\n",
        ]
    )


def _aliases(names: list[str]) -> list[str]:
    """Return the aliases of hosts, several on each line. Addresses are aliases too: programs resolve names."""
    aliases = [f"{PREFIX}{host}" for host in names] + [host for host in names if _is_address(host)]
    return [" ".join(aliases[start : start + _ALIASES]) for start in range(0, len(aliases), _ALIASES)]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _tilde_path(directory: str) -> str:
    """Return the path, with ``~`` for the home, so that a copy on a laptop works too."""
    try:
        if os.path.samefile(directory.removesuffix(_BELOW_HOME), pwd.getpwuid(os.getuid()).pw_dir):
            return f"~{_BELOW_HOME}"
    except (KeyError, OSError):
        pass  # the user has no passwd entry or no home on this machine
    return directory


def _quotable(path: str) -> str:
    if _NOT_QUOTABLE & set(path):
        raise _bad_path(path)
    return path


def _bad_path(path: str) -> HookError:
    return HookError(
        SETTING_WRONG,
        f"ssh's configuration cannot contain the path {printable(path)}: ask the administrator for another",
    )


def _quoted(path: str) -> str:
    return f'"{_quotable(path)}"' if " " in path or "#" in path else _quotable(path)
