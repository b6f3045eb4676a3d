# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook doctor``: check what a user can check of SSH into containers on this node, and say what to do."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import shutil
import socket
import stat
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import HookError, describe_failure, printable
from ..host.engine import runtime_directory
from ..kernel.identity import Identity
from ..keys import store
from ..keys.errors import KeyStoreError, MissingKeysError
from ..log import one_line
from ..spec.settings import default_port
from ..stages.port import NO_SUCH_ADDRESS, describe_holder
from ..stages.server import Programs, require_undumpable
from .daemons import LOOPBACK, Daemon, find_daemons
from .hosts import launcher
from .keygen import caller, caller_entry, describe, dropbearkey, is_root_without_keys, python_packages
from .unserved import find_running, unserved
from .wait import find_client

DEADLINE = 10.0  # seconds for one check
OK, WARNING, PROBLEM = "ok", "warning", "problem"
_HOOKS_DIRS = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
_CONFIGURATIONS = ("/usr/share/containers/containers.conf", "/etc/containers/containers.conf")
_CDI_DIRS = ("/etc/cdi", "/var/run/cdi")
CLIENT_PROGRAMS = ("ssh", "scp", "sftp", "sftp-server")  # in the directory of Dropbear's
_ENGINES = ("podman", "docker", "sarus", "crun", "runc")
_OVERLAY_SINCE = (5, 13)  # the kernel that mounts an overlay with keys in a user namespace
_GREETING = b"SSH-"
# TOML, as far as hooks_dir in containers.conf(5) takes it: strings, and what is no string and no comment.
_STRING = r"""\"(?:[^"\\\n]|\\.)*\"|'[^'\n]*'"""
_STRING_OR_COMMENT = re.compile(rf"({_STRING})|#[^\n]*")
_HOOKS_DIR_SETTING = re.compile(
    rf"""^\s*(?:engine\s*\.\s*)?hooks_dir\s*=\s*\[((?:{_STRING}|[^\]"'])*)\]""", re.MULTILINE
)
_APPEND = re.compile(r"\bappend\s*=\s*(true|false)\b")

_OF_CONTAINERS = ("rootless", "kernel", "port", "containers")  # checks that a node without an engine does not need

Result = tuple[str, str]
Check = Callable[[dict[str, str]], Result]

DESCRIPTION = "Check what SSH into your containers on this node takes, and say what to do. Exits with 1 for a problem."
EXAMPLE = "ssh_hook doctor"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--node", action="store_true", help="check the node, as root, in one line: for health checks")


def run(arguments: Namespace, settings: dict[str, str]) -> int:
    """Print the result of each check; return 1 where one is a problem. Raises HookError for --node without root."""
    if arguments.node:
        from . import node_health

        return node_health.run(settings, as_json=arguments.json)
    daemons = find_daemons()  # this and the next fork: before there are threads
    silent = unserved(find_running(), daemons)
    results = {name: within_deadline(check, settings) for name, check in _checks(daemons, silent, settings).items()}
    if arguments.json:
        print(as_json(results))
    else:
        for name, (kind, text) in results.items():
            print(f"{kind:8} {name:10} {one_line(text)}")
    return 1 if any(kind == PROBLEM for kind, _text in results.values()) else 0


def as_json(results: Mapping[str, Result]) -> str:
    """Return the results of checks, by the names of these, for programs."""
    return json.dumps([{"check": name, "result": kind, "text": text} for name, (kind, text) in results.items()])


def within_deadline(check: Check, settings: dict[str, str], deadline: float = DEADLINE) -> Result:
    """Return the result of `check`: a problem where it raises, or takes more than `deadline` seconds, as on a file
    system that hangs.
    """
    found: list[Result] = []

    def work() -> None:
        try:
            found.append(check(settings))
        except (HookError, KeyStoreError) as error:
            found.append((PROBLEM, str(error)))
        except Exception as error:
            found.append((PROBLEM, describe_failure(error)))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(deadline)
    return found[0] if found else (PROBLEM, f"no answer within {deadline:.0f} s: a file system or the network hangs")


def _check_account(settings: dict[str, str]) -> Result:
    _directory, name = caller(settings)
    return OK, f"you are {name} (uid {os.getuid()}) in {settings['PASSWD_FILE']}"


def _check_home(settings: dict[str, str]) -> Result:
    """Check the directory above the keys; the keys themselves are the next check's."""
    entry = caller_entry(settings)
    base = settings["HOOK_BASE_DIR"]
    home = f"{base}/{entry.name}"
    try:
        status = os.stat(home)
    except OSError as error:
        if os.getuid() == 0 and os.path.isdir(base):
            return OK, f"{entry.home}; there is no {home}, in which keys for containers of root's own would be"
        return PROBLEM, f"{home}, in which your keys are: {error.strerror}: is the file system mounted on this node?"
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return PROBLEM, f"{home}, in which your keys are, is not a directory of yours: tell the administrator"
    if status.st_mode & 0o022:
        return WARNING, f"others may write to {home}, in which your keys are: run chmod go-w {home}"
    space = os.statvfs(home)
    if space.f_bavail == 0 or (space.f_files and space.f_favail == 0):
        return PROBLEM, f"{home}, in which your keys are, has no room left: remove files"
    return OK, home


def _check_keys(settings: dict[str, str]) -> Result:
    directory, name = caller(settings)
    if is_root_without_keys(directory):
        return OK, f"root has none in {directory}: only containers of root's own would take them"
    try:
        return OK, f"{describe(store.load(directory, name))} in {directory}"
    except MissingKeysError as error:
        return WARNING, f"{error}, unless your site lets your first container make them"


def _check_programs(settings: dict[str, str]) -> Result:
    if _is_client_only(settings):
        return OK, f"{find_client(settings)}, for wait: this node has the users' commands alone"
    directory = f"{settings.get('DROPBEAR_DIR', '')}/bin"
    programs = Programs(directory)
    for name in (programs.name, *CLIENT_PROGRAMS):
        if not os.access(f"{directory}/{name}", os.X_OK):
            return (
                PROBLEM,
                f"cannot run {directory}/{name}: tell the administrator, who installs it by the role dropbear",
            )
    return OK, f"{directory}/{programs.name}, and ssh, scp, sftp"


def _check_kernel(_settings: dict[str, str]) -> Result:
    require_undumpable()
    release = os.uname().release
    numbers = tuple(int(part) for part in re.findall(r"[0-9]+", release)[:2])
    if os.getuid() != 0:
        spaces = _read("/proc/sys/user/max_user_namespaces").strip()
        if spaces == "0":
            return WARNING, "user.max_user_namespaces is 0: rootless podman does not work on this node"
        if numbers < _OVERLAY_SINCE:
            return WARNING, (
                f"Linux {release}: rootless containers need 5.13, or the site's OVERLAY_MOUNT_HOME_SSH=false"
            )
    return OK, f"Linux {release}"


def _is_client_only(settings: Mapping[str, str]) -> bool:
    """Return whether the role ssh_hook found no container engine on this node, and installed the users' side alone."""
    return settings.get("CLIENT_ONLY") == "true"


def _check_engine(settings: dict[str, str]) -> Result:
    """Check that an engine is there, and that a file that it reads names this hook."""
    if _is_client_only(settings):
        return OK, "this node is for keygen, client-config and wait, and starts no containers with SSH"
    engines = [name for name in _ENGINES if shutil.which(name)]
    if not engines:
        return PROBLEM, f"none of {', '.join(_ENGINES)} is in PATH: load the module of your container engine"
    directories, where = _hooks_dirs()
    files, devices = naming_hook(directories), naming_hook(_CDI_DIRS)
    if "podman" in engines and not files:
        return PROBLEM if not devices else WARNING, (
            f"no file in {', '.join(directories)} ({where}) names {launcher()}, so the annotation starts no SSH: "
            + ("use --device ocihooks.org/ssh=on" if devices else "correct hooks_dir, or tell the administrator")
        )
    if not files and not devices:
        return (
            WARNING,
            f"no file in {', '.join([*directories, *_CDI_DIRS])} names {launcher()}: does your engine know it?",
        )
    return OK, f"{', '.join(engines)}; the hook is named by {', '.join(files + devices)}"


def _hooks_dirs() -> tuple[list[str], str]:
    """Return podman's directories for hook JSON, and who says so: the last containers.conf(5) with hooks_dir counts."""
    paths = list(_CONFIGURATIONS)
    paths += _files("/etc/containers/containers.conf.d", ".conf")
    own = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    paths += [f"{own}/containers/containers.conf", *_files(f"{own}/containers/containers.conf.d", ".conf")]
    override = os.environ.get("CONTAINERS_CONF")
    found, where, is_appended = list(_HOOKS_DIRS[:1]), "podman's default", False
    for path in [override] if override else paths:
        setting = _read_hooks_dir(_read(path))
        if setting is not None:
            named, append = setting
            is_appended = is_appended if append is None else append  # which holds for the files that follow, too
            found = found + named if is_appended else named
            where = path
    return list(dict.fromkeys(found)), where


def _read_hooks_dir(text: str) -> tuple[list[str], bool | None] | None:
    """Return the directories that a containers.conf(5) sets, and its `append`; None where it does not set hooks_dir.

    tomllib is missing before Python 3.11.
    """
    match = _HOOKS_DIR_SETTING.search(_STRING_OR_COMMENT.sub(lambda found: found.group(1) or "", text))
    if match is None:
        return None
    strings = re.findall(_STRING, match.group(1))
    append = _APPEND.search(re.sub(_STRING, "", match.group(1)))
    return [_unquoted(string) for string in strings], None if append is None else append.group(1) == "true"


def _unquoted(string: str) -> str:
    """Return the content of a string of TOML, of whose escapes only those of quotes and backslashes are known."""
    return string[1:-1] if string[0] == "'" else re.sub(r"\\([\"\\])", r"\1", string[1:-1])


def _files(directory: str, suffix: str = ".json") -> list[str]:
    try:
        return sorted(f"{directory}/{name}" for name in os.listdir(directory) if name.endswith(suffix))
    except OSError:
        return []


def naming_hook(directories: Iterable[str]) -> list[str]:
    """Return the JSON files in `directories` that name this hook."""
    return [path for directory in directories for path in _files(directory) if _names_hook(path)]


def files_naming_hook() -> list[str]:
    """Return the hook JSON and the CDI specs that name this hook, in the directories that engines read."""
    return naming_hook([*_hooks_dirs()[0], *_CDI_DIRS])


def _names_hook(path: str) -> bool:
    return f'"{launcher()}"' in _read(path)


def _read(path: str) -> str:
    """Return the text of a file; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _check_rootless(_settings: dict[str, str]) -> Result:
    """Check what rootless podman takes of the node."""
    uid = os.getuid()
    if uid == 0 or not shutil.which("podman"):
        return OK, "not needed"
    try:
        _directory, name = caller(_settings)
    except KeyStoreError:
        name = str(uid)
    for file in ("/etc/subuid", "/etc/subgid"):
        ranges = [line.split(":") for line in _read(file).splitlines()]
        if not any(fields[0] in (name, str(uid)) for fields in ranges):
            return WARNING, (
                f"{file} has no range for {name}: rootless containers have one user only; ask the administrator"
            )
    directory = os.environ.get("XDG_RUNTIME_DIR") or runtime_directory(uid)
    try:
        status = os.stat(directory)
    except OSError:
        return WARNING, f"there is no {directory}: a sweep will not find what a killed rootless podman leaves"
    if status.st_uid != uid:
        return PROBLEM, f"{directory} (XDG_RUNTIME_DIR) is another user's: log in as yourself, not by su"
    return OK, f"{directory}, /etc/subuid and /etc/subgid are in order"


def _check_port(settings: dict[str, str], daemons: list[Daemon]) -> Result:
    port = default_port(settings)
    mine = [daemon for daemon in daemons if not daemon.has_own_network and daemon.port == port]
    if mine:
        return OK, f"your container (daemon {mine[0].pid}) has port {port}: another needs com.hooks.ssh.port"
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno in NO_SUCH_ADDRESS:
                continue
            problem = f": {error.strerror}"
            if error.errno == errno.EADDRINUSE:
                holder = describe_holder(port, Identity(os.getuid(), os.getgid()), python_packages(settings))
                problem = f" is in use{holder}"
            return WARNING, (
                f"port {port} on this node{problem}: containers on the node's network need another, by the annotation "
                "com.hooks.ssh.port"
            )
    return OK, f"port {port} is free on this node"


def _check_network(_settings: dict[str, str]) -> Result:
    name = socket.gethostname()
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None)})
    except OSError as error:
        return (
            WARNING,
            f"this node's name {name} is not resolved ({error.strerror}): use addresses, or tell the administrator",
        )
    return OK, f"{name} is {', '.join(addresses)}"


def _check_packages(settings: dict[str, str]) -> Result:
    """Check what makes keys: dropbearkey or, on a node without Dropbear, a Python package."""
    program = dropbearkey(settings)
    if program is not None:
        return OK, f"{program.program}, for keygen"
    sys.path += [path for path in python_packages(settings) if path not in sys.path]
    if importlib.util.find_spec("cryptography") is None:
        return PROBLEM, (
            f"{sys.executable} has no cryptography, with which keygen makes keys: tell the administrator (role "
            "ssh_hook)"
        )
    return OK, "cryptography is there, for keygen"


def _check_containers(daemons: list[Daemon], silent: list[str]) -> Result:
    """Check that each container of the caller's answers, and that others can reach it.

    `silent` are sentences of those that were meant to have a daemon and have none.
    """
    problems, warnings = list(silent), []
    for daemon in daemons:
        called = printable(daemon.name or daemon.id[:12] or str(daemon.pid))
        if daemon.has_own_network:
            if not _answers(LOOPBACK, daemon.port):
                warnings.append(
                    f"{called} has a network of its own, and port {daemon.port} is not published: other nodes do not "
                    f"reach it (podman: --publish {daemon.port}:{daemon.port}, or --network host)"
                )
        elif not _answers(_addresses(daemon), daemon.port):
            problems.append(
                f"{called} does not answer on port {daemon.port}: its limits may be reached (podman: --pids-limit, "
                "--memory), or it is stopped or paused"
            )
    if problems or warnings:
        return PROBLEM if problems else WARNING, "; ".join(problems + warnings)
    return OK, f"{len(daemons)} with an SSH daemon" + (", and all answer" if daemons else "")


def _addresses(daemon: Daemon) -> Sequence[str]:
    return [address for address, _port in daemon.places if address] or LOOPBACK


def _answers(addresses: Sequence[str], port: int) -> bool:
    """Tell whether an SSH server greets on `port` of one of `addresses`."""
    for address in addresses:
        try:
            with socket.create_connection((address, port), DEADLINE / 4) as peer:
                peer.settimeout(DEADLINE / 4)
                if peer.recv(len(_GREETING)) == _GREETING:
                    return True
        except OSError:
            continue
    return False


def _checks(daemons: list[Daemon], silent: list[str], settings: Mapping[str, str]) -> dict[str, Check]:
    """Return the checks of this node by their names; `daemons` are those of the caller's containers.

    `silent` are sentences of containers without one.
    """
    checks: dict[str, Check] = {
        "account": _check_account,
        "home": _check_home,
        "keys": _check_keys,
        "programs": _check_programs,
        "engine": _check_engine,
        "rootless": _check_rootless,
        "kernel": _check_kernel,
        "port": lambda settings: _check_port(settings, daemons),
        "network": _check_network,
        "packages": _check_packages,
        "containers": lambda _settings: _check_containers(daemons, silent),
    }
    skipped = _OF_CONTAINERS if _is_client_only(settings) else ()
    return {name: check for name, check in checks.items() if name not in skipped}
