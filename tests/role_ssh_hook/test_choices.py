"""What the roles choose for distributions on which no test can run: packages, compiler, firewall and SELinux."""

from __future__ import annotations

import json
from typing import Any

import pytest
from node import play

# As ansible.builtin.setup tells the families of these distributions.
FAMILIES = {
    "debian12": "Debian",
    "debian13": "Debian",
    "ubuntu24": "Debian",
    "rhel8": "RedHat",
    "rocky9": "RedHat",
    "leap15": "Suse",
    "suite": "Suse",
}
# What an inventory says besides.
SET = {
    "rhel8": {"ssh_hook_packages": ["python3.11-cryptography"], "ssh_hook_container_ports": [15264, "15264", 15263]},
    "leap15": {"dropbear_prefix": "/srv/oci.hooks-1"},
    "ubuntu24": {"ssh_hook_passwd_file": "/etc/site/passwd", "ssh_hook_hooks_dirs": ["/etc/site/hooks.d"]},
    "suite": {"ssh_hook_engines": ["sarus-suite"]},
}
BOTH = ["python3-cryptography", "python3-pyroute2"]


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name of each distribution -> what the roles choose."""
    answers = tmp_path_factory.mktemp("answers")
    hosts = {name: {"os_family": family, **SET.get(name, {})} for name, family in FAMILIES.items()}
    inventory = answers / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
    done = play("choices", variables={"answers": str(answers)}, inventory=str(inventory))
    assert done.status == 0, done.said
    return {name: json.loads((answers / name).read_text(encoding="utf-8")) for name in FAMILIES}


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        *((name, BOTH) for name in ("debian12", "debian13", "ubuntu24", "leap15", "suite")),
        ("rocky9", ["python3-cryptography"]),  # EL has no pyroute2 of its own
        ("rhel8", ["python3.11-cryptography"]),  # whose python3 is too old: named by the site
    ],
)
def test_packages_of_the_hook(choices: dict[str, Any], name: str, packages: list[str]) -> None:
    assert choices[name]["packages"] == packages


@pytest.mark.parametrize("name", FAMILIES)
def test_compiler_and_tools(choices: dict[str, Any], name: str) -> None:
    everywhere = {"make": "make", "patch": "patch", "perl": "perl", "pip": "python3-pip"}
    if FAMILIES[name] == "Debian":
        expected = "musl-gcc", {**everywhere, "gcc": "gcc", "musl-gcc": "musl-tools"}
    else:
        expected = "zig", everywhere
    assert (choices[name]["compiler"], choices[name]["tools"]) == expected


def test_ports_in_the_firewall(choices: dict[str, Any]) -> None:
    assert choices["rocky9"]["ports"] == ["15263"]
    assert choices["rhel8"]["ports"] == ["15263", "15264"]
    assert choices["suite"]["ports"] == ["20000-29999", "15263"]


def test_defaults_for_the_sarus_suite(choices: dict[str, Any]) -> None:
    names = ("hooks_dirs", "json_name", "server_port", "prolog_dir", "epilog_dir")
    assert [choices["leap15"][name] for name in names] == [
        *(["/usr/share/containers/oci/hooks.d"], "07-ssh-hook.json", "15263", "", "")
    ]
    assert [choices["suite"][name] for name in names] == [
        *(["/etc/containers/oci/hooks.d"], "70-ssh-hook.json", "auto", "/etc/slurm/prolog.d", "/etc/slurm/epilog.d")
    ]


def test_paths_with_the_selinux_type(choices: dict[str, Any]) -> None:
    assert choices["rocky9"]["selinux"] == "/opt/oci-hooks/dropbear-.*"
    assert choices["leap15"]["selinux"] == r"/srv/oci\.hooks-1/dropbear-.*"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_directory_is_removed_after_those_in_it(choices: dict[str, Any], name: str) -> None:
    """One of them may be that of the passwd file, and above the one that engines read."""
    paths = choices[name]["emptied"]
    assert "/opt/oci-hooks" in paths
    assert name != "ubuntu24" or "/etc/site" in paths
    assert [path for path in paths if any(other.startswith(f"{path}/") for other in paths[paths.index(path) :])] == []
