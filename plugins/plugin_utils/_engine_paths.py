# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files in which container engines and Slurm find the hook, from the variables of the role ssh_hook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

CDI = "/etc/cdi/ocihooks-ssh.json"  # in the directory that all engines read without configuration
DOCKER = "/etc/docker/daemon.json"
# The names sort after those of the engines' own files: enroot's last hook has all variables.
_ENROOT_DIR, _ENROOT_NAME = "/etc/enroot/hooks.d", "zz-ocihooks-ssh.sh"
_PROLOG_DIR, _PROLOG_NAME = "/etc/slurm/prolog.d", "ocihooks-ssh-prolog.sh"
_EPILOG_DIR, _EPILOG_NAME = "/etc/slurm/epilog.d", "ocihooks-ssh-epilog.sh"
_PODMAN_HPC_DIR, _PODMAN_HPC_NAME = "/etc/podman_hpc/modules.d", "ocihooks-ssh.yaml"


class EnginePaths(NamedTuple):
    """The absolute paths of these files.

    Attributes:
        hooks: the hook JSON files, one in each directory that engines read
        cdi: the CDI spec
        docker: the configuration of Docker's daemon
        enroot: the hook script of enroot
        podman_hpc: the module of podman-hpc
        prolog: the script for Slurm's Prolog
        epilog: the script for Slurm's Epilog
        wanted: the files for this site's settings -> mode
        possible: all places for such files, including those for earlier values of the variables
    """

    hooks: list[str]
    cdi: str
    docker: str
    enroot: str
    podman_hpc: str
    prolog: str
    epilog: str
    wanted: dict[str, str]
    possible: list[str]


def engine_paths(values: Mapping[str, Any]) -> EnginePaths:
    """Return the paths for the values of the role's variables."""
    hooks = [
        f"{directory}/{values['ssh_hook_json_name']}" for directory in dict.fromkeys(values["ssh_hook_hooks_dirs"])
    ]
    enroot_dir, podman_hpc_dir = values["ssh_hook_enroot_hooks_dir"], values["ssh_hook_podman_hpc_modules_dir"]
    enroot = f"{enroot_dir or _ENROOT_DIR}/{_ENROOT_NAME}"
    podman_hpc = f"{podman_hpc_dir or _PODMAN_HPC_DIR}/{_PODMAN_HPC_NAME}"
    prolog_dir, epilog_dir = values["ssh_hook_slurm_prolog_dir"], values["ssh_hook_slurm_epilog_dir"]
    prolog = f"{prolog_dir or _PROLOG_DIR}/{_PROLOG_NAME}"
    epilog = f"{epilog_dir or _EPILOG_DIR}/{_EPILOG_NAME}"
    wanted = dict.fromkeys(hooks + [CDI] * bool(values["ssh_hook_cdi"]), "0644")
    wanted.update({enroot: "0755"} if enroot_dir else {})
    wanted.update({podman_hpc: "0644"} if podman_hpc_dir else {})
    wanted.update({prolog: "0755"} if prolog_dir else {})
    wanted.update({epilog: "0755"} if epilog_dir else {})
    fixed = [CDI, enroot, f"{_ENROOT_DIR}/{_ENROOT_NAME}", podman_hpc, f"{_PODMAN_HPC_DIR}/{_PODMAN_HPC_NAME}"]
    fixed += [prolog, f"{_PROLOG_DIR}/{_PROLOG_NAME}", epilog, f"{_EPILOG_DIR}/{_EPILOG_NAME}"]
    possible = list(dict.fromkeys([*hooks, *fixed]))
    return EnginePaths(hooks, CDI, DOCKER, enroot, podman_hpc, prolog, epilog, wanted, possible)
