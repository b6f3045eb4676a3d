"""What the role has secure_path verify after its last change: all files by which engines find the hook are among it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._engine_paths import engine_paths
from jinja2 import Environment

ROLE = Path(__file__).resolve().parents[3] / "roles" / "ssh_hook"
VARIABLES = {
    "ssh_hook_hooks_dirs": ["/usr/hooks.d", "/etc/hooks.d"],
    "ssh_hook_json_name": "07-ssh-hook.json",
    "ssh_hook_cdi": True,
    "ssh_hook_enroot_hooks_dir": "/etc/enroot/hooks.d",
    "ssh_hook_podman_hpc_modules_dir": "/etc/podman_hpc/modules.d",
    "ssh_hook_slurm_prolog_dir": "/etc/slurm/prolog.d",
    "ssh_hook_slurm_epilog_dir": "/etc/slurm/epilog.d",
}
PATHS = engine_paths(VARIABLES)


def own_paths(*, audit: bool, client_only: bool = False) -> list[str]:
    """The value of the role's variable with this name, which ansible makes of its expression as jinja2 does."""
    text = (ROLE / "vars" / "main.yml").read_text(encoding="utf-8")
    (expression,) = re.findall(r"^ssh_hook__own_paths: >-\n  \{\{(.*?)\}\}\n", text, re.MULTILINE | re.DOTALL)
    environment = Environment(autoescape=False)
    environment.filters["product"] = itertools.product
    found = environment.compile_expression(expression)(
        ssh_hook__launcher="/opt/oci-hooks/bin/ssh_hook",
        ssh_hook_passwd_file="/opt/oci-hooks/etc/passwd",
        ssh_hook__node=SimpleNamespace(versions=["/opt/oci-hooks/lib/old"]),
        ssh_hook__audit=audit,
        ssh_hook__installed_directory="/opt/oci-hooks/lib/new",
        ssh_hook__client_only=client_only,
        ssh_hook_dropbear_dir="/opt/oci-hooks/dropbear",
        ssh_hook__paths=SimpleNamespace(wanted=list(PATHS.wanted)),  # as the preflight has it
        ssh_hook__unit_names=["ssh-hook-sweep.service"],
    )
    assert isinstance(found, list)
    return found


def test_each_file_for_an_engine_is_verified() -> None:
    assert len(PATHS.wanted) == 7
    assert set(PATHS.wanted) <= set(own_paths(audit=False))


@pytest.mark.parametrize(("audit", "version"), [(False, "new"), (True, "old")])
def test_so_is_what_they_call(audit: bool, version: str) -> None:
    called = {"/opt/oci-hooks/bin/ssh_hook", f"/opt/oci-hooks/lib/{version}", "/opt/oci-hooks/dropbear"}
    called |= {"/opt/oci-hooks/etc/passwd", "/etc/systemd/system/ssh-hook-sweep.service"}
    assert set(own_paths(audit=audit)) == {*called, *PATHS.wanted}


def test_a_login_node_has_no_engine() -> None:
    assert not set(PATHS.wanted) & set(own_paths(audit=False, client_only=True))
