"""Where the files lie by which engines find the hook, and which of them a site wants."""

from __future__ import annotations

from typing import Any

from ansible_collections.ocihooks.ssh.plugins.plugin_utils._engine_paths import engine_paths

VARIABLES: dict[str, Any] = {
    "ssh_hook_hooks_dirs": ["/usr/hooks.d", "/etc/hooks.d", "/usr/hooks.d"],
    "ssh_hook_json_name": "07-ssh-hook.json",
    "ssh_hook_cdi": False,
    "ssh_hook_enroot_hooks_dir": "",
    "ssh_hook_podman_hpc_modules_dir": "",
    "ssh_hook_slurm_prolog_dir": "",
    "ssh_hook_slurm_epilog_dir": "",
}
HOOKS = ["/usr/hooks.d/07-ssh-hook.json", "/etc/hooks.d/07-ssh-hook.json"]
CDI = "/etc/cdi/ocihooks-ssh.json"
PROLOG, EPILOG = "/etc/slurm/prolog.d/ocihooks-ssh-prolog.sh", "/etc/slurm/epilog.d/ocihooks-ssh-epilog.sh"
ENROOT, PODMAN_HPC = "/etc/enroot/hooks.d/zz-ocihooks-ssh.sh", "/etc/podman_hpc/modules.d/ocihooks-ssh.yaml"


def test_a_site_of_hook_json_alone() -> None:
    paths = engine_paths(VARIABLES)
    assert paths.hooks == HOOKS
    assert paths.wanted == dict.fromkeys(HOOKS, "0644")
    assert paths.possible == [*HOOKS, CDI, ENROOT, PODMAN_HPC, PROLOG, EPILOG]


def test_a_site_of_all_engines() -> None:
    more = {"ssh_hook_cdi": True, "ssh_hook_enroot_hooks_dir": "/e", "ssh_hook_podman_hpc_modules_dir": "/p"}
    more.update(ssh_hook_slurm_prolog_dir="/s/p", ssh_hook_slurm_epilog_dir="/s/e")
    paths = engine_paths({**VARIABLES, **more})
    own = {"/e/zz-ocihooks-ssh.sh": "0755", "/p/ocihooks-ssh.yaml": "0644"}
    own.update({"/s/p/ocihooks-ssh-prolog.sh": "0755", "/s/e/ocihooks-ssh-epilog.sh": "0755"})
    assert paths.wanted == {**dict.fromkeys([*HOOKS, CDI], "0644"), **own}
    assert [paths.cdi, paths.enroot, paths.podman_hpc, paths.prolog, paths.epilog] == [CDI, *own]
    assert set(paths.possible) == {*paths.wanted, ENROOT, PODMAN_HPC, PROLOG, EPILOG}
