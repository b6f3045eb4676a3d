# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out the properties of a node that matter to the SSH hook. Changes nothing."""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from . import _daemons, _docker, _dropbear, _files, _hook_package, _image, _loader, _nobody, _secure_path, _timers
from ._keys import name_service

ENGINES = ("podman", "crun", "runc", "sarus")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DOCKER_CDI = (25, 0)  # the first version with CDI
DOCKER_CDI_DEFAULT = (28, 2)  # the first in which it is on by default
ROOM = 8 << 20  # bytes needed by one version of the programs and of the hook
TIMERS = ("ssh-hook-passwd", "ssh-hook-sweep")
GIVEN_PORT = re.compile(rb"\bSERVER_PORT_DEFAULT=([0-9]{1,5}|auto)\b")  # present in each of the engines' files
ENABLED = ("com.hooks.ssh.enabled", "true")
COMMAND = "start-ssh-daemon"
SUID_DUMPABLE = "/proc/sys/fs/suid_dumpable"
LOWEST_PORT = "/proc/sys/net/ipv4/ip_unprivileged_port_start"


SECONDS = 60
GETENT_SECONDS = 20  # a slower name service is queried again, with a longer deadline, when the file is written
ZONES = ("/etc/firewalld/zones", "/usr/lib/firewalld/zones")

# Prints the properties of the hook's interpreter, run isolated as the user nobody.
INTERPRETER = """
import sys
print("Python %d.%d" % sys.version_info[:2])
if sys.version_info >= (3, 9):
    import ctypes, importlib.machinery, json, os, site
    def holds(directory, name):
        spec = importlib.machinery.PathFinder.find_spec(name, [directory])
        return spec is not None and spec.origin is not None  # a directory of that name that is empty has no origin
    own = [path for path in site.getsitepackages() if not path.startswith("/usr/local/")]  # the distribution's
    directories = [sys.argv[1]] if sys.argv[1] else own
    homes = {name: next((path for path in directories if holds(path, name)), None) for name in sys.argv[2:]}
    path = [path for path in sys.path if os.path.exists(path)]
    try:
        ctypes.CDLL("libseccomp.so.2")
        libseccomp = True
    except OSError:
        libseccomp = False
    print(json.dumps({"import_path": path, "packages": homes, "libseccomp": libseccomp}))
"""
PACKAGES = ("cryptography", "pyroute2")


def interpreter(python: str, packages_dir: str) -> dict[str, object]:
    """Return the properties of the hook's interpreter: whether it is a program, its version, what it can load.

    Its import path includes the file with which a virtual environment sets it.
    """
    facts: dict[str, Any] = {"exists": False, "problem": None, "unsafe": False, "version": None, "libseccomp": False}
    facts.update(import_path=[], packages=dict.fromkeys(PACKAGES))
    if not os.path.isfile(python) or not os.access(python, os.X_OK):
        return facts
    facts["exists"] = True
    violations = _secure_path.violations_of(python)
    if violations:
        return {**facts, "unsafe": True, "problem": _secure_path.sentences(violations, [])}
    try:
        command = [python, "-I", "-S", "-c", INTERPRETER, packages_dir, *PACKAGES]
        answer = _nobody.run(command, seconds=SECONDS)
    except OSError as error:
        return {**facts, "problem": f"{python} cannot be run by an ordinary user: {error.strerror}."}
    except subprocess.TimeoutExpired:
        return {**facts, "problem": f"{python} did not report its version within {SECONDS} seconds."}
    first, _newline, rest = answer.stdout.decode(errors="replace").partition("\n")
    numbers = re.fullmatch(r"Python ([0-9]+)\.([0-9]+)", first.strip())
    if numbers:
        facts["version"] = f"{numbers[1]}.{numbers[2]}"
    if rest.startswith("{"):
        with suppress(ValueError):
            facts.update(json.loads(rest))
    elif answer.returncode != 0 and answer.stderr.strip():
        said = _secure_path.printable(answer.stderr.strip().splitlines()[-1])
        facts["problem"] = f"{python} does not report its Python version when an ordinary user runs it: {said}."
    directory = os.path.dirname(python)
    environments = [f"{place}/pyvenv.cfg" for place in (directory, os.path.dirname(directory))]
    facts["import_path"] += filter(os.path.exists, environments)
    return facts


def engines() -> dict[str, str]:
    """Return the container engines of the node, including a Sarus that only an environment module puts on PATH."""
    path = ":".join([SEARCH_PATH, *glob.glob("/opt/sarus/*/bin")])
    found = {name: shutil.which(name, path=path) for name in ENGINES}
    return {name: program for name, program in found.items() if program}


def docker(settings: str) -> dict[str, object] | None:
    """Return the properties of Docker's daemon, see `report`. None if there is none.

    Since 28.2 it supports CDI devices unless its daemon.json `settings` disable them, since 25 only if they enable
    them, and before never.
    """
    program = shutil.which("dockerd", path=SEARCH_PATH)
    if program is None:
        return None
    try:
        answer = _nobody.run([program, "--version"], seconds=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    numbers = re.search(rb"version v?([0-9]+)\.([0-9]+)", answer.stdout)
    if numbers is None:
        return None
    version = int(numbers[1]), int(numbers[2])
    try:
        with open(settings, encoding="utf-8") as file:
            is_on = json.load(file)["features"]["cdi"] is True
    except (OSError, ValueError, LookupError, TypeError):
        is_on = version >= DOCKER_CDI_DEFAULT
    try:
        _docker.read(settings)
        problem = None
    except (_docker.NotChanged, OSError) as error:
        problem = str(error)
    return {
        "version": f"{version[0]}.{version[1]}",
        "cdi": is_on and version >= DOCKER_CDI,
        "is_old": version < DOCKER_CDI,
        "problem": problem,
    }


def podman_hooks_dirs(program: str) -> list[str] | None:
    """Return the directories from which podman reads hooks. Its --help shows the values from containers.conf.

    None if it does not run, as in an image without /proc, or users other than root can change it.
    """
    if _secure_path.violations_of(program):
        return None
    answer = subprocess.run([program, "--help"], stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    if answer.returncode != 0:
        return None
    option = re.search(r"--hooks-dir .*\(default \[(.*)\]\)", answer.stdout)
    return option.group(1).split(",") if option else []


def sarus_hooks_dirs(program: str) -> list[str]:
    """Return the directory from which Sarus reads hooks, from the sarus.json of its installation."""
    settings = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(program))), "etc/sarus.json")
    try:
        with open(settings, encoding="utf-8") as file:
            directory = json.load(file).get("hooksDir")
    except (OSError, ValueError, AttributeError):
        return []
    return [directory] if isinstance(directory, str) else []


def hooks_dirs(found: dict[str, str]) -> dict[str, list[str]]:
    """Return the directories from which engines read hooks, as far as known; crun and runc read none."""
    readers: dict[str, Callable[[str], list[str] | None]] = {"podman": podman_hooks_dirs, "sarus": sarus_hooks_dirs}
    read = {name: reader(found[name]) for name, reader in readers.items() if name in found}
    return {name: directories for name, directories in read.items() if directories is not None}


def ssh_hook_program(path: str) -> str | None:
    """Return the program that a JSON file names as the SSH hook of containers with our annotation, or None.

    Without a condition on annotations it is that of all containers, or of those that start some command.
    """
    try:
        with open(path, encoding="utf-8") as file:
            root = json.load(file)
        patterns = root["when"].get("annotations", {}).items()
        is_for_ours = not patterns or any(
            all(re.search(pattern, text) for pattern, text in zip(condition, ENABLED)) for condition in patterns
        )
        if COMMAND not in root["hook"]["args"] or root["when"].get("always") is False or not is_for_ours:
            return None
        return str(root["hook"]["path"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, re.error):
        return None  # not a hook of schema 1.0.0


def superfluous_hooks(directories: list[str], launcher: str, json_files: list[str]) -> tuple[list[str], list[str]]:
    """Return the JSON files that would give containers a second SSH hook: this role's, and others."""
    ours: list[str] = []
    others: list[str] = []
    for path in sorted({path for name in directories for path in glob.glob(os.path.join(glob.escape(name), "*.json"))}):
        program = ssh_hook_program(path)
        if program is None or (program == launcher and path in json_files):
            continue
        if not _files.is_ours(path):
            others.append(path)
        elif path not in json_files:
            ours.append(path)
    return ours, others


def given_port(paths: list[str]) -> int | str | None:
    """Return the port for the hook, or "auto", in the first of the engines' files that has one; else None."""
    named = (GIVEN_PORT.search(_files.read(path)) for path in paths)
    value = next((match[1].decode() for match in named if match), None)
    return int(value) if value and value.isdigit() else value


def can_listen(address: str) -> bool:
    """Return whether this node has an IP address. Names are not resolved."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.inet_pton(family, address)
        with socket.socket(family, socket.SOCK_STREAM) as probed:
            probed.bind((address, 0))
    except OSError:
        return False
    return True


def file_system(path: str) -> os.statvfs_result:
    """Return the status of a directory's file system; the directory need not exist."""
    return os.statvfs(_files.existing(path))


def unwritable(question: dict[str, Any], engines: bool) -> list[str]:
    """Return the directories in which an installation has to create files, but root cannot; and "/usr" likewise.

    A file that exists may be up to date: the module that would replace it tells, also in check mode.

    Args:
        engines: whether the node has a container engine
    """
    existing = {os.path.dirname(path) for path in question["files"] if os.path.exists(path)}
    existing |= {_timers.UNITS} if _timers.unwanted(TIMERS) else set()
    places = dict.fromkeys([*surroundings(question, engines), "/usr"])
    return [
        path for path in places if path not in existing and not dead_link(f"{path}/x") and not _files.is_writable(path)
    ]


def full(path: str) -> bool:
    """Return whether a directory is on a file system with too little free space for the installation."""
    status = file_system(path)
    return status.f_bavail * status.f_frsize < ROOM


def dead_link(path: str) -> str | None:
    """Return the dangling link above a path, or None: a directory may be mounted there later."""
    above = os.path.dirname(path)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    return None if os.path.exists(above) else above


def listed_accounts() -> dict[bytes, bytes]:
    """Return the accounts that the name service lists, name -> line; none if it does not answer in time."""
    try:
        return name_service.entries(name_service.list_accounts(GETENT_SECONDS))
    except name_service.NotRefreshed:
        return {}


def unnamed_homes(base_dir: str, accounts: dict[bytes, bytes]) -> list[int]:
    """Return how many directories of homes have no account of their name, and how many there are.

    The homes are not opened, so autofs mounts none.
    """
    try:
        homes = {name for name in os.listdir(os.fsencode(base_dir)) if not name.startswith((b".", b"lost+"))}
    except OSError:
        return [0, 0]
    return [len(homes - accounts.keys()), len(homes)] if accounts else [0, 0]


def is_outdated(passwd_file: str, accounts: dict[bytes, bytes]) -> bool:
    """Return whether a passwd file differs from the name service, or that is unknown."""
    if not os.path.isfile(passwd_file):
        return True
    try:
        content = name_service.new_content(passwd_file, _files.read(passwd_file), accounts, is_known=True)
        return _files.update(passwd_file, content, check=True, is_known=True)
    except (name_service.NotRefreshed, OSError):
        return True


def foreign_files(question: dict[str, Any]) -> list[str]:
    """Return the paths of an installation at which there is what this collection did not write."""
    prefix, passwd_file = question["prefix"], question["passwd_file"]
    units = [f"{_timers.UNITS}/{name}{kind}" for name in TIMERS for kind in _timers.KINDS]
    metrics = [f"{question['metrics_dir']}/ssh_hook.prom"] * bool(question["metrics_dir"])
    found = _hook_package.foreign(_hook_package.Hook(prefix, question["python"], {}, {}))
    try:
        _dropbear.current(os.path.dirname(question["dropbear_dir"]))
    except _dropbear.NotInstalled:
        found.append(question["dropbear_dir"])
    if (
        question["writes_passwd_file"]
        and _files.is_foreign(passwd_file)
        and not name_service.is_ours(passwd_file, _files.read(passwd_file))
        and not _hook_package.wrote_passwd_file(prefix, passwd_file)
    ):
        found.append(passwd_file)
    paths = dict.fromkeys([*question["files"], *question["possible"], *units, *metrics])
    return [*found, *filter(_files.is_foreign, paths)]


def has_zone(name: str) -> bool:
    """Return whether firewalld has a zone: a file, or a directory of files."""
    return any(os.path.exists(f"{directory}/{name}{suffix}") for directory in ZONES for suffix in (".xml", ""))


def parameter(path: str) -> int:
    """Return the kernel parameter in the file `path`, a number; 0 if the kernel does not have it."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def running(question: dict[str, Any]) -> dict[str, object]:
    """Return the properties of the running kernel and of processes."""
    daemons = _daemons.running_daemons(question["dropbear_dir"])
    return {
        "kernel": os.uname().release,
        "port_holders": _daemons.port_holders(question["port"], daemons),
        "foreign": [address for address in question["addresses"] if not can_listen(address)],
        "suid_dumpable": parameter(SUID_DUMPABLE),
        "lowest_port": parameter(LOWEST_PORT),
        "daemons": daemons,
        "servers": servers(question) if question["lists_daemons"] else [],
    }


def servers(question: dict[str, Any]) -> list[dict[str, object]] | None:
    """Return the daemons that the hook lists; None if others than root can change it, or it does not answer."""
    found = listed(question)
    return None if found is None else _daemons.servers(found, question["dropbear_dir"])


def listed(question: dict[str, Any]) -> list[dict[str, int]] | None:
    """Return what `_daemons.listed` does; None also if others than root can change the hook."""
    launcher = f"{question['prefix']}/bin/ssh_hook"
    own = [launcher, question["python"], *_hook_package.versions(question["prefix"])[:1]]
    if not os.path.exists(launcher):
        return []
    try:
        return None if _secure_path.violations_of(*own) else _daemons.listed(launcher)
    except ValueError:
        return None


# The same for an image: its nodes have other kernels, processes and addresses than the machine that builds it.
NOT_RUNNING = {
    "kernel": "",
    "port_holders": [],
    "foreign": [],
    "suid_dumpable": 0,
    "lowest_port": 0,
    "daemons": [],
    "servers": [],
}


def release(dropbear_dir: str, versions: dict[str, str], relabel: Callable[[str], bool]) -> str:
    """Return the name of Dropbear's release, if it is complete, and only root can change it: its programs are run."""
    try:
        if not versions or _secure_path.violations_of(dropbear_dir):
            return ""
    except ValueError:
        return ""
    return _dropbear.intact(os.path.dirname(dropbear_dir), versions, relabel)


def installed(question: dict[str, Any], runs: bool, relabel: Callable[[str], bool]) -> dict[str, object]:
    """Return the properties of an installation. Its files are only read, except programs, which are run.

    Args:
        runs: whether the interpreter may be run
    """
    prefix, python = question["prefix"], question["python"]
    digests = question["hook_digests"] if runs else {}
    hook = _hook_package.Hook(prefix, python, {}, digests)
    files = {path: _files.digest(path, int(mode, 8)) for path, mode in question["files"].items()}
    accounts = listed_accounts() if question["name_service"] else {}
    return {
        "hook_settings": _hook_package.found_settings(hook) if digests else None,
        "hook_version": _hook_package.launched_version(prefix),
        "versions": _hook_package.versions(prefix),
        "dropbear": bool(_dropbear.releases(os.path.dirname(question["dropbear_dir"]))),
        "release": release(question["dropbear_dir"], question["dropbear_versions"], relabel),
        "files": {path: sha256 for path, sha256 in files.items() if sha256},
        "passwd_outdated": question["name_service"] and is_outdated(question["passwd_file"], accounts),
        "unnamed_homes": unnamed_homes(question["base_dir"], accounts),
        "timers": _timers.unwanted(TIMERS),
        "units": _timers.installed_units(TIMERS),
        "drop_ins": _timers.drop_ins(TIMERS),
    }


def written(question: dict[str, Any], engines: bool) -> list[str]:
    """Return the directories of an installation, and that of the passwd file if the role writes it.

    Args:
        engines: whether the node has a container engine; without one it gets no Dropbear
    """
    passwd_dir = os.path.dirname(question["passwd_file"])
    dropbear_prefix = os.path.dirname(question["dropbear_dir"])
    return [question["prefix"], *[dropbear_prefix] * engines, *[passwd_dir] * question["name_service"]]


def surroundings(question: dict[str, Any], engines: bool) -> list[str]:
    """Return the directories in which an installation writes files or creates directories.

    Args:
        engines: whether the node has a container engine
    """
    hook = _hook_package.Hook(question["prefix"], question["python"], {}, {})
    made = (hook.directory, hook.completion, _hook_package.MOUNT_POINT)
    places = [*written(question, engines), *map(os.path.dirname, (hook.launcher, *made))]
    if engines:
        places += [*map(os.path.dirname, question["files"]), *filter(None, [question["metrics_dir"]])]
    return [*places, *[_timers.UNITS] * _timers.uses_systemd()]


def verification(question: dict[str, Any], node: dict[str, Any]) -> dict[str, object]:
    """Check that only root can change everything that decides what root runs when a container starts.

    Returns: `safe`, paths that only root can change; and `unsafe`, how others can change what an installation does not
    write, the end of a sentence, or empty.
    """
    if not question["critical"] or node["python"]["problem"]:  # an interpreter with a problem is not run again
        return {"safe": [], "unsafe": ""}
    homes = node["python"]["packages"]
    packages = sorted({path for path in homes.values() if path})
    others = [*question["provided"], *node["python"]["import_path"], *packages]
    units = [f"{_timers.UNITS}/{unit}" for unit in node["units"]]
    own = [path for path in [*question["critical"], *node["versions"], *units] if os.path.lexists(path)]
    try:
        # Until cryptography is installed it cannot be loaded.
        loaded = _loader.loaded(question["python"], packages) if homes["cryptography"] else _loader.Loaded([], [], {})
        violations = _secure_path.verify(
            paths=_secure_path.parse_paths([*others, *loaded.files]),
            directories=_secure_path.parse_paths([*surroundings(question, bool(node["engines"])), *loaded.directories]),
        )
        if violations:
            return {"safe": [], "unsafe": _secure_path.sentences(violations, loaded.naming(violations))}
        is_own_safe = not own or not _secure_path.violations_of(*own)
    except (ValueError, _loader.LoadError) as error:
        return {"safe": [], "unsafe": f"{error}."}
    return {"safe": (others if homes["cryptography"] else []) + (own if is_own_safe else []), "unsafe": ""}


def report(question: dict[str, Any], relabel: Callable[[str], bool]) -> dict[str, object]:
    """Return the properties of the node.

    Args:
        question: the options of the module node_facts
        relabel: returns whether a path has another SELinux label than the node's policy has for it

    Returns:
        image (bool): whether this is an image of a node, not a running node: the root directory is not that of pid 1,
            as in a chroot, or `/proc` is not mounted. `kernel`, `port_holders`, `foreign`, `suid_dumpable`,
            `lowest_port` and `daemons` are then empty, since they would describe the machine that builds the image.
        dev_null (bool): whether `/dev/null` is a device. It is not in an image without devices.
        architecture (str): the machine's architecture.
        kernel (str): release of the running kernel. Empty in an image.
        systemd (bool): whether the first process is systemd; in an image, whether systemd is installed.
        python (dict): properties of `python`: whether it `exists`; the `problem`, a sentence or null, why it was not
            run or does not run as the user nobody, and whether that is because others can change it (`unsafe`); its
            `version`, or null if it is not Python; its isolated `import_path`, with the file with which a virtual
            environment sets it; the directory of each of its `packages` cryptography and pyroute2, or null; and whether
            it can load `libseccomp`.
        engines (dict): container engine to the absolute path of its program.
        docker (dict): properties of Docker's daemon: its `version`, whether it supports `cdi` devices, whether it
            `is_old` (without CDI), and the `problem` with `docker_json`, or null. Null if there is no such daemon.
        hooks_dirs (dict): engine to the directories from which it reads OCI hooks. Lacks podman if that does not run,
            as in an image without `/proc`.
        other_hooks (list): JSON files of other SSH hooks, in these directories or in those of `json_files`.
        port_holders (list): processes other than the hook's daemons that listen on `port` in the node's network
            namespace.
        foreign (list): those of `addresses` on which nothing can listen on this node.
        lowest_port (int): the first port on which users may listen (net.ipv4.ip_unprivileged_port_start); 0 in an
            image.
        suid_dumpable (int): the kernel parameter fs.suid_dumpable.
        daemons (list): process ids of the SSH daemons that run from `dropbear_dir`, or from an older version beside it.
        servers (list): with `lists_daemons`, the daemons that the hook lists: the `pid` of each, the name of its `user`
            (the uid if there is no name), its TCP `ports`, the number of its `sessions`, the `release` of Dropbear that
            it runs, and whether that is `outdated`. Null if users other than root can change the hook, or it did not
            answer.
        passwd_file (bool): whether `passwd_file` exists.
        passwd_outdated (bool): with `name_service`, whether `passwd_file` differs from `getent passwd`, or that is
            unknown.
        files (dict): those of `files` that are root's regular files with that mode, to their SHA-256.
        unnamed_homes (list): with `name_service`, how many directories in `base_dir` have no account of their name in
            `getent passwd`, and how many there are.
        firewalld_zone (bool): whether firewalld has `firewalld_zone`.
        missing (list): those of `directories` that do not exist.
        dead_links (list): dangling links above directories of an installation, as in an image without its nodes'
            mounts.
        unwritable (list): directories in which an installation has to create files or directories, but root cannot;
            and "/usr" if packages could not be installed there.
        full (list): directories of an installation, and that of `passwd_file` with `name_service`, on a file system
            with too little free space.
        stale (list): the hook JSON files of this collection with another name than `json_files`, or in another
            directory that engines read, and those of `unwanted` that exist. Without a container engine, also those of
            `files`, and the metrics. Never one that this collection did not write.
        foreign_files (list): paths of an installation, and those of `possible`, at which there is something that this
            collection did not write.
        port (int): the TCP port of the SSH daemons in `files`, which may differ from `port`, or "auto" if it is derived
            from the container's job; null if there is none.
        units (dict): the units of those timers that are enabled and run, or, in an image, that are enabled, to their
            SHA-256.
        drop_ins (list): files with which somebody has changed these units.
        safe (list): paths that only root can change. Once cryptography is installed, they include `provided`, and
            `import_path` and `packages` of `python`. They include the existing ones of `critical`, `versions` and
            `units` if only root can change all of these.
        unsafe (str): how others can change what an installation does not write, and what to do about it. Empty if only
            root can, if `critical` is empty, or if `python` has a problem.
        timers (list): names of the hook's systemd timers that are installed.
        hook_settings (dict): the launcher's settings for the hook, name to value. Null if anything except these
            settings differs from `hook_digests`, `prefix` and `python`, or if there is no hook.
        dropbear (bool): whether there is a release of Dropbear beside `dropbear_dir`.
        release (str): name of Dropbear's current release, if its files match its name, everything is as the module
            dropbear_programs installs it, and its programs report `dropbear_versions`. Empty otherwise.
        hook_version (str): version of the hook that the launcher runs; null if there is none.
        versions (list): directories of the installed versions of the hook: the launcher's, then the others, newest
            first.
    """
    image = _image.is_image()
    found = engines()
    places = written(question, bool(found))
    read = hooks_dirs(found)
    searched = [os.path.dirname(path) for path in question["json_files"]]
    searched += [directory for directories in read.values() for directory in directories]
    launcher = f"{question['prefix']}/bin/ssh_hook"
    python = interpreter(question["python"], question["packages_dir"])
    stale, others = superfluous_hooks(searched, launcher, question["json_files"])
    # Without an engine, nothing reads the engines' files.
    of_engines = {*question["files"], *[f"{question['metrics_dir']}/ssh_hook.prom"] * bool(question["metrics_dir"])}
    unwanted = [*question["unwanted"], *([] if found else of_engines - set(others))]
    node: dict[str, Any] = {
        "image": image,
        "dev_null": _image.has_null(),
        "architecture": platform.machine(),
        **(NOT_RUNNING if image else running(question)),
        "systemd": _timers.uses_systemd(),
        "python": python,
        "engines": found,
        "docker": docker(question["docker_json"]),
        "hooks_dirs": read,
        "other_hooks": others,
        "passwd_file": os.path.isfile(question["passwd_file"]),
        "firewalld_zone": bool(question["firewalld_zone"]) and has_zone(question["firewalld_zone"]),
        "missing": [path for path in question["directories"] if not os.path.isdir(path)],
        "dead_links": sorted({link for path in places if (link := dead_link(path))}),
        "unwritable": unwritable(question, bool(found)),
        "full": [path for path in places if _files.is_writable(path) and full(path)],
        "stale": stale + sorted(path for path in unwanted if _files.is_ours(path)),
        "foreign_files": foreign_files(question),
        "port": given_port([*question["files"], *stale]),
        **installed(question, not python["problem"], relabel),
    }
    return {**node, **verification(question, node)}
