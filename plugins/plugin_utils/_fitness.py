# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a node's facts (module node_facts) for whether it can run the hook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.ocihooks.ssh.plugins.module_utils._build.recipes import ZIG_TARGETS
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _variables
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._engine_paths import DOCKER, EnginePaths

USR = "/usr"  # where the distribution's packages are
OLDEST_PYTHON = (3, 9)
ROOTLESS_OVERLAYS = (5, 13)  # the first kernel with rootless overlays
# Variables with directories of an engine, and what to do if a directory is missing.
OPTIONAL_DIRECTORIES = {
    "ssh_hook_metrics_dir": "create it, writable only by root, and let node_exporter read it "
    "(--collector.textfile.directory)",
    "ssh_hook_enroot_hooks_dir": "install enroot, or name the directory of its hooks",
    "ssh_hook_podman_hpc_modules_dir": "install podman-hpc, or name the directory of its modules",
    "ssh_hook_slurm_prolog_dir": "create it, writable only by root, and name it in slurm.conf (Prolog=DIRECTORY/*)",
    "ssh_hook_slurm_epilog_dir": "create it, writable only by root, and name it in slurm.conf (Epilog=DIRECTORY/*)",
}


def numbers(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(map(int, re.findall(r"[0-9]+", text)[:2]))


def wrong_devices(host: str, node: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an image without devices, or None."""
    if node["dev_null"]:
        return None
    return (
        f"/dev/null of {host} is not a device: remove the file if there is one, and mount /dev there before the play "
        "(mount --bind /dev IMAGE/dev), or programs write to a file."
    )


def wrong_interpreter(host: str, variables: Mapping[str, Any], node: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the interpreter of the hook, or None."""
    python, facts = variables["ssh_hook_python"], node["python"]
    if not facts["exists"]:
        return (
            f"There is no program {python} (ssh_hook_python) on {host}: install Python 3.9 or newer, or name another."
        )
    if facts["problem"]:
        return f"On {host} {facts['problem']} It is ssh_hook_python: name another, or fix this one."
    version = facts["version"]
    if version is None or numbers(version) < OLDEST_PYTHON:
        what = "not Python" if version is None else f"Python {version}"
        return f"{python} (ssh_hook_python) on {host} is {what}, and the hook needs Python 3.9 or newer: name another."
    return None


def is_client(variables: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Return whether a node gets only the users' commands: it has no engine, and needs none."""
    return not node["engines"] and not variables["ssh_hook_require_engine"]


def missing_packages(variables: Mapping[str, Any], node: Mapping[str, Any]) -> list[str]:
    """Return the Python packages that the node lacks. Without pyroute2's package in `ssh_hook_packages` it needs
    none."""
    named = [] if variables["ssh_hook_python_packages_dir"] else variables["ssh_hook_packages"]
    wanted = ["cryptography", *["pyroute2"] * any("pyroute2" in name for name in named)]
    return [name for name in wanted if node["python"]["packages"][name] is None]


def foreign(host: str, variables: Mapping[str, Any], node: Mapping[str, Any], paths: EnginePaths) -> list[str]:
    """Return a sentence for each path at which a run would replace or remove what this collection did not write.

    Files of engines at places that the variables do not name are left alone, and so are other SSH hooks by a removal.
    """
    left = {*paths.possible} - {*([] if is_client(variables, node) else paths.wanted)} | {*node["other_hooks"]}
    advice = {
        variables["ssh_hook_passwd_file"]: "set ssh_hook_passwd_source to 'file' if the site provides this file, or "
        "name another in ssh_hook_passwd_file",
        variables["ssh_hook_dropbear_dir"]: "move it away, or set another ssh_hook_dropbear_dir",
        **dict.fromkeys(paths.hooks, "move it away, or set another ssh_hook_json_name"),
    }
    return [
        f"{path} on {host} was not written by this collection, which replaces and removes only its own files: "
        f"{advice.get(path, 'move it away')}."
        for path in node["foreign_files"]
        if path not in left
    ]


def complaints(
    host: str, variables: Mapping[str, Any], node: Mapping[str, Any], *, audit: bool, with_dropbear: bool
) -> list[str]:
    """Return a sentence for each reason why a node cannot run the hook.

    Args:
        host: the node's name
        audit: whether nothing will be written, so free space does not matter
        with_dropbear: whether the play also builds and installs Dropbear
    """
    wrong = wrong_devices(host, node) or wrong_interpreter(host, variables, node)
    if wrong:
        return [wrong]
    rules = [*_common(host, variables, node, audit)]
    if not is_client(variables, node):
        rules += _engine_rules(host, variables, node, audit)
        rules += [*_architecture(host, node)] if with_dropbear else []
    return [sentence for holds, sentence in rules if not holds]


def _common(
    host: str, variables: Mapping[str, Any], node: Mapping[str, Any], audit: bool
) -> Iterable[tuple[object, str]]:
    packages_dir, missing = variables["ssh_hook_python_packages_dir"], missing_packages(variables, node)
    base_dir, passwd_file = variables["ssh_hook_base_dir"], variables["ssh_hook_passwd_file"]
    yield (
        node["image"] or base_dir not in node["missing"],  # homes are mounted after boot
        f"There is no directory {base_dir} (ssh_hook_base_dir) on {host}: name the parent directory of the users' "
        "homes, or mount it.",
    )
    yield (
        audit or not node["dead_links"],
        f"On {host} {_and(node['dead_links'])} is a dangling link, perhaps to a file system that is not mounted: "
        "create or mount its target, replace it with a directory, or install in other directories.",
    )
    for sentence in (
        [] if audit else _unwritable(host, variables, node, needs_packages=bool(missing and not packages_dir))
    ):
        yield False, sentence
    yield (
        audit or not node["full"],
        f"On {host} the file system of {_and(node['full'])} has less than 8 MB left: free some space.",
    )
    yield (
        not packages_dir or not missing,
        f"{packages_dir} (ssh_hook_python_packages_dir) on {host} does not contain {_and(missing)}, or not all users "
        "can "
        f"read it: install what is missing there, for {variables['ssh_hook_python']}.",
    )
    is_there = variables["ssh_hook_passwd_source"] != "file" or node["passwd_file"]
    yield (
        is_there,
        f"There is no file {passwd_file} (ssh_hook_passwd_file) on {host}: put it there, or set ssh_hook_passwd_source "
        "to 'getent' to have it made.",
    )
    yield not is_there or not node["unsafe"], f"On {host} {node['unsafe']}"


def _unwritable(
    host: str, variables: Mapping[str, Any], node: Mapping[str, Any], *, needs_packages: bool
) -> Iterable[str]:
    """Yield a sentence for each directory that cannot be written, with the variable that names another."""
    places = {
        **dict.fromkeys(variables["ssh_hook_hooks_dirs"], "ssh_hook_hooks_dirs"),
        **{variables[name]: name for name in OPTIONAL_DIRECTORIES if variables[name]},
        variables["ssh_hook_passwd_file"].rpartition("/")[0]: "ssh_hook_passwd_file",
        variables["ssh_hook_dropbear_dir"].rpartition("/")[0]: "ssh_hook_dropbear_dir",
        variables["ssh_hook_prefix"]: "ssh_hook_prefix",
        USR: "ssh_hook_python_packages_dir",
    }
    for path in node["unwritable"]:
        name = next((name for place, name in places.items() if f"{path}/".startswith(f"{place}/")), None)
        advice = f", or name another directory in {name}" if name else ""
        if path != USR or needs_packages:
            yield f"Root cannot create files in {path} on {host}: make it writable{advice}."


def _engine_rules(
    host: str, variables: Mapping[str, Any], node: Mapping[str, Any], audit: bool
) -> Iterable[tuple[object, str]]:
    others, (port, named) = node["other_hooks"], _variables.port_without_job(variables)
    yield node["engines"], f"There is no container engine on {host}: install podman, crun, runc or sarus first."
    for name, advice in OPTIONAL_DIRECTORIES.items():
        yield (
            variables[name] not in node["missing"],
            f"There is no directory {variables[name]} ({name}) on {host}: {advice}.",
        )
    zone = variables["ssh_hook_firewalld_zone"]
    yield (
        not zone or node["firewalld_zone"],
        f"firewalld on {host} has no zone {zone} (ssh_hook_firewalld_zone): install firewalld, or name one of its "
        "zones.",
    )
    yield (
        not others,
        f"On {host} {_and(others)} {'names' if len(others) == 1 else 'name'} another SSH hook for the same "
        f"containers, which would get two hooks, or lose that file: rename it, such as to {[*others, ''][0]}.old, "
        "since engines read only names that end in .json.",
    )
    yield (
        not node["port_holders"],
        f"Port {port} ({named}) on {host} is in use by {', '.join(node['port_holders'])}: choose a port "
        "that is free on all nodes.",
    )
    yield (
        port >= node["lowest_port"],
        f"Users of {host} may not listen on port {port} ({named}), since it is below {node['lowest_port']} "
        "(net.ipv4.ip_unprivileged_port_start), so no container would start: choose that port or a higher one.",
    )
    yield (
        not node["foreign"],
        f"{_and(node['foreign'])} (ssh_hook_listen_addresses) cannot be used on {host}: name addresses of this node.",
    )
    yield (
        not variables["ssh_hook_require_seccomp"] or node["python"]["libseccomp"],
        f"{variables['ssh_hook_python']} (ssh_hook_python) on {host} cannot load libseccomp.so.2, which sessions need "
        "for their container's seccomp profile: install libseccomp2 (Debian, Ubuntu, SUSE) or libseccomp (others), or "
        "set ssh_hook_require_seccomp to false.",
    )
    yield (
        audit or node["suid_dumpable"] != 1,
        f"On {host} fs.suid_dumpable is 1, so users can trace programs that they may not read, such as Dropbear "
        "before its container starts: set it to 0 (sysctl fs.suid_dumpable=0), or to 2.",
    )
    problem = node["docker"] and node["docker"]["problem"]
    yield not (variables["ssh_hook_docker_cdi"] and lacks_cdi(node) and problem), f"{problem}."


def _architecture(host: str, node: Mapping[str, Any]) -> Iterable[tuple[object, str]]:
    # The build is one task for all nodes: an unknown architecture would make it fail for all of them.
    yield (
        node["architecture"] in ZIG_TARGETS,
        f"{host} is {node['architecture']}, and the role dropbear builds programs only for "
        f"{', '.join(sorted(ZIG_TARGETS))}: leave {host} out of the play.",
    )


def lacks_cdi(node: Mapping[str, Any]) -> bool:
    """Return whether Docker's daemon is installed and supports CDI, but CDI is disabled."""
    docker = node["docker"]
    return docker is not None and not docker["cdi"] and not docker["is_old"]


def remarks(host: str, variables: Mapping[str, Any], node: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each thing that the admin should know, but that does not prevent installing the hook."""
    said = [*_image_remarks(host, variables, node), *_timer_remarks(host, variables, node)]
    unnamed, homes = node["unnamed_homes"]
    if unnamed > homes // 2:
        said += [
            f"{unnamed} of {homes} directories in {variables['ssh_hook_base_dir']} on {host} have no account of their "
            "name in 'getent passwd', so their users get no SSH: SSSD lists users only with 'enumerate = true'. Set "
            "ssh_hook_passwd_source to 'file' and provide the file (README of the role, 'The passwd file')."
        ]
    if is_client(variables, node):
        said += [
            f"{host} has no container engine, and gets only the users' commands of ssh_hook: keygen, client-config "
            "and wait."
        ]
        if node["dropbear"] and node["daemons"]:
            said += [
                f"Dropbear stays on {host} while it runs there in containers (pids {_and(map(str, node['daemons']))}): "
                "run the deployment again when they have ended."
            ]
    else:
        said += _engine_remarks(host, variables, node)
    return said


def _image_remarks(host: str, variables: Mapping[str, Any], node: Mapping[str, Any]) -> Iterable[str]:
    if node["image"]:
        yield (
            f"{host} is an image, not a running node: port, addresses, kernel and homes of its nodes are not checked, "
            "and "
            "the timers start when it is booted."
        )
        if variables.get("ssh_hook_users"):
            yield (
                f"No keys are created in the image {host}: those of ssh_hook_users are created on a running node of "
                "this play, if there is one."
            )


def _timer_remarks(host: str, variables: Mapping[str, Any], node: Mapping[str, Any]) -> Iterable[str]:
    prefix, passwd_file = variables["ssh_hook_prefix"], variables["ssh_hook_passwd_file"]
    commands = []
    if variables["ssh_hook_passwd_source"] == "getent":
        commands.append(f"'{prefix}/bin/ssh_hook refresh-passwd {passwd_file}'")
    if not is_client(variables, node):
        commands.append(f"'{prefix}/bin/ssh_hook sweep'")
    if commands and not node["systemd"]:
        yield f"There is no systemd on {host}, so no timer: have root run {_and(commands)} every 15 minutes, with cron."


def _engine_remarks(host: str, variables: Mapping[str, Any], node: Mapping[str, Any]) -> list[str]:
    docker, cdi = node["docker"], variables["ssh_hook_cdi"]
    read = {path for directories in node["hooks_dirs"].values() for path in directories}
    unread = [path for path in variables["ssh_hook_hooks_dirs"] if path not in read]
    podmans = node["hooks_dirs"].get("podman")
    port, named = _variables.port_without_job(variables)
    rules = [
        (
            port in _variables.PORTS_OF_CLIENTS,
            f"Port {port} ({named}) on {host} is in the range from which Linux takes ports for outgoing connections "
            "(32768 to 60999 by default), so another program may hold it when a container starts: choose a lower one.",
        ),
        (
            variables["ssh_hook_overlay_mount_home_ssh"]
            and not node["image"]
            and numbers(node["kernel"]) < ROOTLESS_OVERLAYS,
            f"Kernel {node['kernel']} of {host} is older than 5.13 and has no overlays in user namespaces: rootless "
            "containers get an SSH daemon there only with ssh_hook_overlay_mount_home_ssh set to false.",
        ),
        (
            cdi and docker and docker["is_old"],
            f"Docker {docker and docker['version']} on {host} does not support CDI devices (ssh_hook_cdi), so its "
            "containers get no SSH: upgrade it to 25 or newer.",
        ),
        (
            cdi and not variables["ssh_hook_docker_cdi"] and lacks_cdi(node),
            f"Docker {docker and docker['version']} on {host} does not accept CDI devices (ssh_hook_cdi): add "
            f'"features": {{"cdi": true}} to {DOCKER} and restart Docker, or set ssh_hook_docker_cdi to true and '
            "restart Docker afterwards.",
        ),
        (
            unread and podmans is not None,
            f"podman on {host} does not read {_and(unread)} (ssh_hook_hooks_dirs): to make podman read it, write to "
            "/etc/containers/containers.conf.d/50-oci-hooks.conf the lines '[engine]' and 'hooks_dir = "
            f"{json.dumps([*(podmans or []), *unread])}'.",
        ),
        (
            unread and "podman" not in node["engines"],
            f"No engine on {host} reads {_and(unread)} (ssh_hook_hooks_dirs): on their own, crun and runc read hooks "
            "only from a bundle's config.json, so the program that makes the bundles must add the hook.",
        ),
        (
            unread and "podman" in node["engines"] and podmans is None,
            f"podman on {host} does not report where it reads hooks, as in an image without /proc, or was not run "
            "because users other than root can change it: fix that, or make sure that podman reads "
            f"{_and(unread)} (ssh_hook_hooks_dirs).",
        ),
    ]
    return [sentence for is_so, sentence in rules if is_so]


def _and(values: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(values))
