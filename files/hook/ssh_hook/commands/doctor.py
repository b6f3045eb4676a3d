# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook doctor``: check as a user whether SSH into containers works on this node, and report fixes."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import socket
import stat
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence

from ..errors import ARGUMENTS_WRONG, HookError, printable
from ..fast_stdlib import closing
from ..health import hook_files
from ..health.checks import (
    CLIENT_PROGRAMS,
    DEADLINE,
    OK,
    PROBLEM,
    WARNING,
    Check,
    Result,
    as_json,
    read_text,
    within_deadline,
)
from ..health.login import find_client
from ..health.unserved import look, unserved
from ..keys import store, writer
from ..keys.errors import KeyStoreError, MissingKeysError
from ..linux import syscalls
from ..linux.identity import Identity
from ..linux.process import Process, sees_all_processes
from ..log import one_line
from ..node.caller import caller, caller_entry, describe, dropbearkey, is_root_without_keys
from ..node.engine import runtime_directory
from ..node.inventory import LOOPBACK, Daemon, find_daemons
from ..oci.container_paths import KEYS, from_programs
from ..schedulers.jobs import containers_port
from ..schedulers.nodes import launcher
from ..start.port_check import first_refused
from ..start.port_holder import describe_holder
from ..start.server import Programs, require_undumpable

_ENGINES = ("podman", "docker", "sarus", "crun", "runc")
_OVERLAY_SINCE = (5, 13)  # the first kernel that mounts an overlay with keys in a user namespace
_GREETING = b"SSH-"
_OF_CONTAINERS = ("rootless", "kernel", "port", "containers")  # checks that a node without an engine does not need

DESCRIPTION = (
    "Check that SSH into your containers works on this node, and suggest fixes. Exits with 1 if there is a problem."
)
EXAMPLE = "ssh_hook doctor"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--node", action="store_true", help="check the node itself and print one line, for health checks (as root)"
    )
    parser.add_argument(
        "--probe",
        metavar="USER",
        help="with --node, and if the checks find no problem: start a container of USER with podman, and log in to it",
    )


def run(arguments: Namespace, settings: dict[str, str]) -> int:
    """Print the result of each check; return 1 if one is a problem. Raises HookError if the arguments are wrong."""
    if arguments.node:
        from ..health import node_health

        return node_health.run(settings, as_json=arguments.json, probed_user=arguments.probe)
    if arguments.probe is not None:
        raise HookError(ARGUMENTS_WRONG, "--probe is for root's check of a node: add --node")
    daemons = find_daemons()  # this call and the next fork, so no thread may run yet
    running, unseen = look()
    checks = _checks(daemons, unserved(running, daemons), unseen, settings)
    results = {name: within_deadline(check, settings) for name, check in checks.items()}
    if arguments.json:
        print(as_json(results))
    else:
        for name, (kind, text) in _without_repeats(results).items():
            print(f"{kind:8} {name:10} {one_line(text)}")
    return 1 if any(kind == PROBLEM for kind, _text in results.values()) else 0


def _without_repeats(results: Mapping[str, Result]) -> dict[str, Result]:
    """Return `results`, in which a text that several checks have, such as that of a missing setting, is there once."""
    first: dict[str, str] = {}
    return {
        name: (kind, text if first.setdefault(text, name) == name else f"same as '{first[text]}'")
        for name, (kind, text) in results.items()
    }


def _check_account(settings: dict[str, str]) -> Result:
    _directory, name = caller(settings)
    return OK, f"you are {name} (uid {os.getuid()}) in {settings['PASSWD_FILE']}"


def _check_home(settings: dict[str, str]) -> Result:
    """Check the directory above the keys; the next check is for the keys themselves."""
    entry = caller_entry(settings)
    base = settings["HOOK_BASE_DIR"]
    home = f"{base}/{entry.name}"
    try:
        status = os.stat(home)
    except OSError as error:
        if os.getuid() == 0 and os.path.isdir(base):
            return OK, f"root has no directory {home} for keys, and needs it only for its own containers"
        return (
            PROBLEM,
            f"cannot access {home}, where your keys are stored ({error.strerror}): is its file system mounted?",
        )
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return PROBLEM, f"{home}, where your keys are stored, is not a directory that you own: ask the administrator"
    if status.st_mode & 0o022:
        return WARNING, f"{home}, where your keys are stored, is writable by other users: run chmod go-w {home}"
    space = os.statvfs(home)
    if space.f_bavail == 0 or (space.f_files and space.f_favail == 0):
        return PROBLEM, f"the file system of {home}, where your keys are stored, is full: remove files"
    if not os.access(home, os.W_OK):
        return WARNING, f"{home} is not writable for you on this node, so no keys can be created in it"
    return OK, f"{home} is accessible, and has free space"


def _check_keys(settings: dict[str, str]) -> Result:
    directory, name = caller(settings)
    if is_root_without_keys(directory):
        return OK, f"root has no keys in {directory}, and needs them only for its own containers"
    try:
        keys = store.load(directory, name)
        if writer.has_old_client(directory, keys, name):
            file = f"{writer.client_directory(directory)}/{writer.CLIENT_KEY}"
            return WARNING, f"{file} is not your current key: run 'ssh_hook client-config' again, for the same hosts"
        return OK, f"{describe(keys)} in {directory}"
    except MissingKeysError as error:
        return WARNING, f"{error}, or let your first container create them, if your site allows that"


def _check_programs(settings: dict[str, str]) -> Result:
    if _is_client_only(settings):
        return OK, f"'ssh_hook wait' uses {find_client(settings)}; this node is set up without a container engine"
    directory = f"{settings.get('DROPBEAR_DIR', '')}/bin"
    programs = Programs(directory)
    for name in (programs.name, *CLIENT_PROGRAMS):
        if not os.access(f"{programs.path}/{name}", os.X_OK):
            return (
                PROBLEM,
                f"cannot run {directory}/{name}: ask the administrator to install it (role dropbear)",
            )
    return OK, f"{directory}/{programs.name}, ssh, scp and sftp can be run"


def _check_kernel(settings: dict[str, str]) -> Result:
    require_undumpable()
    release = os.uname().release
    numbers = tuple(int(part) for part in re.findall(r"[0-9]+", release)[:2])
    if os.getuid() != 0:
        spaces = read_text("/proc/sys/user/max_user_namespaces").strip()
        if spaces == "0":
            return WARNING, "user.max_user_namespaces is 0: rootless podman does not work on this node"
        if numbers < _OVERLAY_SINCE and settings.get("OVERLAY_MOUNT_HOME_SSH", "true").lower() == "true":
            return WARNING, (
                f"Linux {release} is older than 5.13, so rootless containers with SSH do not start here: ask the "
                "administrator to set ssh_hook_overlay_mount_home_ssh: false"
            )
    if not sees_all_processes():
        return WARNING, (
            "this node's /proc hides processes (hidepid): sessions of rootless containers are not logged, 'ssh_hook "
            "status' counts none of others, and pyxis's containers get no SSH: ask the administrator for a /proc that "
            "shows processes to one of your groups (gid=)"
        )
    return OK, f"Linux {release}"


def _is_client_only(settings: Mapping[str, str]) -> bool:
    """Return whether the role ssh_hook found no container engine here and installed only the users' commands."""
    return settings.get("CLIENT_ONLY") == "true"


def _check_engine(settings: dict[str, str]) -> Result:
    """Check that an engine is installed, and that its configuration names this hook."""
    if _is_client_only(settings):
        return OK, "not checked: this node is set up without a container engine"
    engines = [name for name in _ENGINES if shutil.which(name)]
    if not engines:
        return PROBLEM, f"none of {', '.join(_ENGINES)} is in PATH: load the module of your container engine"
    directories, where = hook_files.hooks_dirs()
    files, devices = hook_files.naming_hook(directories), hook_files.naming_hook(hook_files.CDI_DIRS)
    if "podman" in engines and not files:
        return PROBLEM if not devices else WARNING, (
            f"no hook JSON in {', '.join(directories)} ({where}) calls {launcher()}, so the annotation has no effect: "
            + (
                "use --device ocihooks.org/ssh=on"
                if devices
                else "correct hooks_dir in containers.conf, or ask the administrator"
            )
        )
    if not files and not devices:
        searched = ", ".join([*directories, *hook_files.CDI_DIRS])
        return (
            WARNING,
            f"no hook JSON or CDI spec in {searched} calls {launcher()}: ask the administrator, unless your engine "
            "reads another directory",
        )
    return OK, f"{', '.join(engines)}; the hook is configured in {', '.join(files + devices)}"


def _check_rootless(_settings: dict[str, str]) -> Result:
    """Check what rootless podman requires of the node."""
    uid = os.getuid()
    if uid == 0:
        return OK, "not checked: this is about rootless containers, which root does not run"
    if not shutil.which("podman"):
        return OK, "not checked: podman is not in PATH"
    try:
        _directory, name = caller(_settings)
    except KeyStoreError:
        name = str(uid)
    for file in ("/etc/subuid", "/etc/subgid"):
        ranges = [line.split(":") for line in read_text(file).splitlines()]
        if not any(fields[0] in (name, str(uid)) for fields in ranges):
            return WARNING, (
                f"{file} has no range for {name}, so rootless containers have only one uid and gid: ask the "
                "administrator for a range"
            )
    directory = os.environ.get("XDG_RUNTIME_DIR") or runtime_directory(uid)
    try:
        status = os.stat(directory)
    except OSError:
        return WARNING, (
            f"there is no {directory}, because you have no login session on this node: SSH works, but if podman is "
            "killed, the hook cannot clean up after it"
        )
    if status.st_uid != uid:
        return PROBLEM, f"{directory} (XDG_RUNTIME_DIR) belongs to another user: log in as yourself, not with su"
    return OK, f"{directory}, /etc/subuid and /etc/subgid are OK"


def _check_port(settings: dict[str, str], daemons: list[Daemon]) -> Result:
    port = containers_port(settings)
    mine = [daemon for daemon in daemons if not daemon.has_own_network and daemon.port == port]
    if mine:
        return (
            OK,
            f"your container (daemon {mine[0].pid}) uses port {port}: to start another one, choose its port with "
            "com.hooks.ssh.port",
        )
    refused = first_refused(port, [])
    if refused is None:
        return OK, f"port {port} is free on this node"
    _address, error = refused
    problem = f": {error.strerror}"
    if error.errno == errno.EADDRINUSE:
        problem = f" is in use{describe_holder(port, Identity(os.getuid(), os.getgid()))}"
    return WARNING, (
        f"port {port} on this node{problem}; for containers on the node's network choose another one with the "
        "annotation com.hooks.ssh.port"
    )


def _check_network(_settings: dict[str, str]) -> Result:
    name = socket.gethostname()
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None)})
    except OSError as error:
        return (
            WARNING,
            f"this node's name {name} cannot be resolved ({error.strerror}): use addresses, or ask the administrator",
        )
    return OK, f"this node's name {name} resolves to {', '.join(addresses)}"


def _check_packages(settings: dict[str, str]) -> Result:
    """Check for a key generator: dropbearkey or, on a node without Dropbear, a Python package."""
    program = dropbearkey(settings)
    if program is not None:
        return OK, f"keygen uses {program.program}"
    if importlib.util.find_spec("cryptography") is None:
        return PROBLEM, (
            f"keygen needs the Python package cryptography for {sys.executable}: ask the administrator (role ssh_hook)"
        )
    return OK, "keygen uses the Python package cryptography"


def _check_containers(daemons: list[Daemon], silent: list[str], unseen: list[str]) -> Result:
    """Check that each of the caller's containers answers and can be reached from others.

    `silent` describes containers that should have a daemon but do not, `unseen` why some could not be found.
    """
    problems, warnings = list(silent), list(unseen)
    for daemon in daemons:
        called = f"container {printable(daemon.label or str(daemon.pid))}"
        if _refuses_keys(daemon):
            problems.append(
                f"{called} refuses every key, since others can write to ~/.ssh in it: run chmod go-w ~/.ssh there"
            )
        if not daemon.places:
            if daemon.door and not _answers_at_door(daemon.door):
                problems.append(
                    f"{called} has no port, and does not respond at its door (a socket on the node): it may be paused "
                    "or at its limits; if a logout or the end of a job has removed the door, start the container again"
                )
        elif daemon.has_own_network:
            if not _answers(LOOPBACK, daemon.port):
                warnings.append(
                    f"{called} has its own network and does not publish port {daemon.port}, so other nodes cannot "
                    f"reach it: use --publish {daemon.port}:{daemon.port} or, except in rootless Docker, --network host"
                )
        elif not _answers(daemon.addresses, daemon.port):
            problems.append(
                f"{called} does not respond on port {daemon.port}: it may be paused, or at its limits (podman: "
                "--pids-limit, --memory)"
            )
    if problems or warnings:
        return PROBLEM if problems else WARNING, "; ".join(problems + warnings)
    closed = sum(not daemon.places and not daemon.door for daemon in daemons)
    if closed:
        return OK, (
            f"containers with an SSH daemon: {len(daemons)}; not checked: {closed}, which belong to other users and "
            "have no port; all others respond"
        )
    return OK, f"containers with an SSH daemon: {len(daemons)}" + (", all respond" if daemons else "")


def _refuses_keys(daemon: Daemon) -> bool:
    """Return whether others can write to the directory of its authorized keys, so that Dropbear ignores these.

    False if the daemon is not a process of the caller.
    """
    try:
        with Process(daemon.pid) as process:
            if process.uid() != os.getuid():
                return False
            with closing(process.open("cwd", os.O_PATH | os.O_DIRECTORY)) as programs:
                return _status_on_tmpfs(programs, from_programs(KEYS)).st_mode & 0o022 != 0
    except OSError:
        return False


def _status_on_tmpfs(directory: int, path: str) -> os.stat_result:
    """Return the status of `path`, which leads from the open `directory` by ".." to names on a tmpfs. Raises OSError.

    Root in the container can replace these names. A link could lead to a file system that never responds, so none is
    followed.
    """
    if path == "":
        return os.fstat(directory)
    name, _slash, rest = path.partition("/")
    if name != ".." and syscalls.filesystem_type(directory) != syscalls.TMPFS_MAGIC:
        raise OSError  # the mount of the programs was moved
    with closing(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)) as found:
        return _status_on_tmpfs(found, rest)


def _answers_at_door(path: str) -> bool:
    """Return whether an SSH server answers at the Unix socket `path`."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # as in `connect`
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(DEADLINE / 4)
        try:
            peer.connect(path)
            return peer.recv(len(_GREETING)) == _GREETING
        except OSError:
            return False


def _answers(addresses: Sequence[str], port: int) -> bool:
    """Return whether an SSH server answers on `port` of one of `addresses`."""
    for address in addresses:
        try:
            with socket.create_connection((address, port), DEADLINE / 4) as peer:
                peer.settimeout(DEADLINE / 4)
                if peer.recv(len(_GREETING)) == _GREETING:
                    return True
        except OSError:
            continue
    return False


def _checks(
    daemons: list[Daemon], silent: list[str], unseen: list[str], settings: Mapping[str, str]
) -> dict[str, Check]:
    """Return the checks of this node, keyed by name; `daemons` are those of the caller's containers.

    `silent` and `unseen` are as in `_check_containers`.
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
        "containers": lambda _settings: _check_containers(daemons, silent, unseen),
    }
    skipped = _OF_CONTAINERS if _is_client_only(settings) else ()
    return {name: check for name, check in checks.items() if name not in skipped}
