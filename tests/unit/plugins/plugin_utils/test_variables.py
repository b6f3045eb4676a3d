"""Wrong variables are refused, each by its sentence."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _variables as variables

RIGHT: dict[str, Any] = {
    "ssh_hook_prefix": "/opt/oci-hooks",
    "ssh_hook_python": "/usr/bin/python3",
    "ssh_hook_python_packages_dir": "",
    "ssh_hook_enroot_hooks_dir": "",
    "ssh_hook_podman_hpc_modules_dir": "",
    "ssh_hook_slurm_prolog_dir": "",
    "ssh_hook_slurm_epilog_dir": "",
    "ssh_hook_metrics_dir": "",
    "ssh_hook_report_dir": "",
    "ssh_hook_dev_template": "",
    "ssh_hook_base_dir": "/home",
    "ssh_hook_passwd_file": "/opt/oci-hooks/etc/passwd",
    "ssh_hook_dropbear_dir": "/opt/oci-hooks/dropbear",
    "ssh_hook_hooks_dirs": ["/usr/share/containers/oci/hooks.d"],
    "ssh_hook_json_name": "07-ssh-hook.json",
    "ssh_hook_cdi": False,
    "ssh_hook_docker_cdi": False,
    "ssh_hook_server_port": 15263,
    "ssh_hook_server_port_without_job": 15263,
    "ssh_hook_container_ports": [],
    "ssh_hook_listen_addresses": ["10.0.0.1", "::1"],
    "ssh_hook_stages": ["createRuntime", "poststop"],
    "ssh_hook_join_namespaces": True,
    "ssh_hook_passwd_refresh_minutes": 15,
    "ssh_hook_passwd_source": "getent",
}
KNOWN = {*RIGHT, *variables.PLAYBOOKS, "dropbear_prefix", "dropbear_version"}


def test_right_values_are_accepted() -> None:
    assert variables.wrong_paths(RIGHT) + variables.wrong_values(RIGHT) == []
    assert variables.wrong_dropbear_dir(RIGHT, None) + variables.wrong_dropbear_dir(RIGHT, "/opt/oci-hooks") == []


@pytest.mark.parametrize("port", [15263, "15263", "auto"])
def test_ports(port: int | str) -> None:
    given = {**RIGHT, "ssh_hook_server_port": port, "ssh_hook_server_port_without_job": 15264}
    assert variables.wrong_values(given) == []
    expected = (15264, "ssh_hook_server_port_without_job") if port == "auto" else (15263, "ssh_hook_server_port")
    assert variables.port_without_job(given) == expected


def test_scripts_for_slurm() -> None:
    given = {**RIGHT, "ssh_hook_slurm_prolog_dir": "/p", "ssh_hook_slurm_epilog_dir": "/e"}
    assert variables.wrong_paths(given) + variables.wrong_values(given) == []


def test_the_nodes_own_passwd_file_may_be_read() -> None:
    read = {**RIGHT, "ssh_hook_passwd_file": "/etc/passwd", "ssh_hook_passwd_source": "file"}
    assert variables.wrong_values(read) == []


def test_modules_of_other_collections_are_needed_only_where_they_are_asked_for() -> None:
    asked = {"ssh_hook_firewalld_zone": "cluster", "dropbear_selinux_type": True}
    assert variables.missing_collections({"ssh_hook_firewalld_zone": "", **RIGHT}, lambda _name: False) == []
    assert variables.missing_collections(asked, lambda _name: True) == []
    assert variables.missing_collections(asked, lambda name: name == "ansible.posix.firewalld") == [
        "dropbear_selinux_type needs the module community.general.sefcontext, which is missing on the controller: run "
        "ansible-galaxy collection install community.general there, or remove dropbear_selinux_type."
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "ssh_hook_server_prot",
            "ssh_hook_server_prot is not a variable of this collection: did you mean ssh_hook_server_port?",
        ),
        ("ssh_hook_basedir", "ssh_hook_basedir is not a variable of this collection: did you mean ssh_hook_base_dir?"),
        ("ssh_hook_user", "ssh_hook_user is not a variable of this collection: did you mean ssh_hook_users?"),
        ("ssh_hook_zzz", "ssh_hook_zzz is not a variable of this collection (the nearest is ssh_hook_"),
        ("dropbear_versoin", "dropbear_versoin is not a variable of this collection: did you mean dropbear_version?"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(name: str, sentence: str) -> None:
    (said,) = variables.misspelt([*KNOWN, name, "ssh_hook__private", "dropbear__private", "other"], KNOWN)
    assert said.startswith(sentence)


def test_another_roles_variables_are_none_of_ours() -> None:
    assert variables.misspelt(["dropbear_initramfs_options", "sshhook_x"], KNOWN) == []


SPECS = Path(__file__).resolve().parents[4] / "roles/dropbear/meta/argument_specs.yml"
ROLE = {*KNOWN, *re.findall(r"^ {6}(dropbear_[a-z0-9_]+):$", SPECS.read_text(encoding="utf-8"), re.MULTILINE)}


@pytest.mark.parametrize(
    "name", ["users", "port", "options", "keys", "hosts", "version_pin", "source", "sha512", "host_keys", "enabled"]
)
def test_nor_are_those_of_another_role_of_the_same_prefix(name: str) -> None:
    assert variables.misspelt([f"dropbear_{name}"], ROLE) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("verison", "version"),
        ("prefx", "prefix"),
        ("sha265", "sha256"),
        ("source_url", "source_urls"),
        ("opensl_version", "openssl_version"),
        ("build_hots", "build_host"),
        ("selinux_typ", "selinux_type"),
    ],
)
def test_a_misspelt_variable_of_the_role_dropbear_is_refused(name: str, meant: str) -> None:
    (said,) = variables.misspelt([f"dropbear_{name}"], ROLE)
    assert said == f"dropbear_{name} is not a variable of this collection: did you mean dropbear_{meant}?"


def test_what_the_header_of_a_play_reads_is_no_variable_of_the_inventory() -> None:
    (said,) = variables.ignored(["ssh_hook_users", "ssh_hook_serial", "ssh_hook_hosts"], {"ssh_hook_hosts": "all"})
    assert said == (
        "ssh_hook_serial has no effect in the inventory, because it applies to the whole play: set it on the command "
        "line (--extra-vars ssh_hook_serial=...), and remove it from the inventory."
    )
    assert variables.ignored(["ssh_hook_users"], {}) == []


@pytest.mark.parametrize("user", [{"name": "alice"}, ["alice"], None, True, 1.5, ""])
@pytest.mark.parametrize("name", ["ssh_hook_users", "ssh_hook_remove_keys_of"])
def test_users_are_names_and_uids(name: str, user: object) -> None:
    (said,) = variables.wrong_users({name: ["alice", 1002, user]})
    assert said == f"{name} has '{user}': give names or uids of users, such as [alice, 1002]."
    assert variables.wrong_users({name: ["alice", 1002, "1003"]}) == []


def test_a_string_is_no_list() -> None:
    values = {"ssh_hook_users": "alice", "ssh_hook_hooks_dirs": ["/etc/x"]}
    assert variables.wrong_lists(values, ["ssh_hook_users", "ssh_hook_hooks_dirs", "ssh_hook_stages"]) == [
        "ssh_hook_users is 'alice', but must be a list: write [alice]."
    ]
    assert variables.wrong_lists({"ssh_hook_users": None}, ["ssh_hook_users"]) == [
        "ssh_hook_users has no value, but must be a list: write []."
    ]


@pytest.mark.parametrize(
    "path",
    ["opt/oci-hooks", "/", "/opt/", "//opt", "/opt/../etc", "/opt/.", "/with blank", "/opt/a:b", "/opt/\n", ""],
)
@pytest.mark.parametrize("name", ["ssh_hook_prefix", "ssh_hook_hooks_dirs"])
def test_a_path_that_is_none_is_refused(name: str, path: str) -> None:
    value = ["/etc/right", path] if name == "ssh_hook_hooks_dirs" else path
    (said,) = variables.wrong_paths({**RIGHT, name: value})
    assert said.startswith(f"{name} is '{path}': it must be an absolute path")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ssh_hook_python": "/opt/" + 100 * "x"}, "ssh_hook_python has 105 characters, but a program can name"),
        ({"ssh_hook_hooks_dirs": []}, "ssh_hook_hooks_dirs is empty, so no engine would find the hook"),
        ({"ssh_hook_docker_cdi": True}, "ssh_hook_docker_cdi is true and ssh_hook_cdi is false, so Docker"),
        ({"ssh_hook_json_name": "hook.conf"}, "ssh_hook_json_name is 'hook.conf': it must be a file name"),
        ({"ssh_hook_json_name": ".json"}, "ssh_hook_json_name is '.json': it must be a file name"),
        (
            {"ssh_hook_server_port": 0},
            "ssh_hook_server_port is 0, but a TCP port is a number from 1 to 65535: give one",
        ),
        ({"ssh_hook_server_port": True}, "ssh_hook_server_port is True, but a TCP port"),
        ({"ssh_hook_server_port": "Auto"}, "ssh_hook_server_port is Auto, but a TCP port"),
        ({"ssh_hook_server_port": "65536"}, "ssh_hook_server_port is 65536, but a TCP port"),
        ({"ssh_hook_server_port_without_job": 0}, "ssh_hook_server_port_without_job is 0, but a TCP port"),
        (
            {"ssh_hook_server_port": "auto", "ssh_hook_server_port_without_job": 29999},
            "ssh_hook_server_port_without_job is 29999, which with ssh_hook_server_port: auto is in the range for "
            "jobs: give one",
        ),
        ({"ssh_hook_slurm_prolog_dir": "/p"}, "ssh_hook_slurm_prolog_dir is '/p' and ssh_hook_slurm_epilog_dir is ''"),
        ({"ssh_hook_slurm_epilog_dir": "/e"}, "ssh_hook_slurm_prolog_dir is '' and ssh_hook_slurm_epilog_dir is '/e'"),
        (
            {"ssh_hook_slurm_prolog_dir": "/p", "ssh_hook_slurm_epilog_dir": "/p"},
            "ssh_hook_slurm_prolog_dir is '/p' and ssh_hook_slurm_epilog_dir is '/p': name two directories",
        ),
        ({"ssh_hook_container_ports": [15264, 22]}, "ssh_hook_container_ports has 22, where the nodes' sshd"),
        ({"ssh_hook_container_ports": [1, 65536]}, "ssh_hook_container_ports is [1, 65536], but a TCP port"),
        ({"ssh_hook_listen_addresses": ["ib0", "::1", "10.0.0.0/8"]}, "ssh_hook_listen_addresses has 'ib0' and '10.0"),
        ({"ssh_hook_listen_addresses": ["::1", "::1"]}, "ssh_hook_listen_addresses is [::1, ::1]: give each"),
        ({"ssh_hook_listen_addresses": [f"127.0.0.{n}" for n in range(11)]}, "ssh_hook_listen_addresses has 11"),
        ({"ssh_hook_stages": ["poststop"]}, "ssh_hook_stages is [poststop]: without createRuntime no daemon"),
        (
            {"ssh_hook_join_namespaces": False},
            "ssh_hook_stages is [createRuntime, poststop]: without createContainer (",
        ),
        ({"ssh_hook_stages": ["createRuntime", "createContainer"]}, "ssh_hook_stages has both createRuntime and"),
        ({"ssh_hook_passwd_refresh_minutes": 0}, "ssh_hook_passwd_refresh_minutes is 0: give 1 minute at least, and "),
        (
            {"ssh_hook_passwd_refresh_minutes": 9999999999},
            "ssh_hook_passwd_refresh_minutes is 9999999999: give 1 minute at least, and at most a week (10080).",
        ),
        ({"ssh_hook_prefix": "/usr"}, "ssh_hook_prefix is '/usr', a directory of the system: name one for the"),
        ({"ssh_hook_passwd_file": "/etc/passwd"}, "ssh_hook_passwd_file is '/etc/passwd', the node's own file, which"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(changes: dict[str, Any], sentence: str) -> None:
    (said,) = variables.wrong_values({**RIGHT, **changes})
    assert said.startswith(sentence)


def test_dropbear_is_installed_where_the_hook_looks_for_it_or_not_at_all() -> None:
    (said,) = variables.wrong_dropbear_dir({**RIGHT, "ssh_hook_dropbear_dir": "/opt/static"}, None)
    assert said.startswith("ssh_hook_dropbear_dir is '/opt/static': this playbook installs Dropbear as a directory")
    (said,) = variables.wrong_dropbear_dir(RIGHT, "/srv")
    assert said.startswith("dropbear_prefix is '/srv', and this playbook installs Dropbear where the hook looks for it")
    assert said.endswith("set ssh_hook_dropbear_dir to /srv/dropbear, and remove dropbear_prefix.")
    assert variables.wrong_dropbear_dir(RIGHT, "/srv/")[0].endswith(
        "set ssh_hook_dropbear_dir to /srv/dropbear, and remove dropbear_prefix."
    )
    assert variables.wrong_dropbear_dir(RIGHT, "/opt/oci-hooks/")[0].endswith(
        "in /opt/oci-hooks/dropbear (ssh_hook_dropbear_dir): remove dropbear_prefix."
    )


def test_paths_of_the_role_dropbear() -> None:
    right = {"dropbear_prefix": "/opt", "dropbear_build_dir": "", "dropbear_source_archive": "/srv/with blank"}
    assert variables.wrong_dropbear_paths(right) == []
    wrong = {"dropbear_prefix": "opt", "dropbear_build_dir": "a b", "dropbear_openssh_source_archive": "x"}
    assert variables.wrong_dropbear_paths(wrong) == [
        "dropbear_prefix is 'opt': set an absolute path without spaces.",
        "dropbear_build_dir is 'a b': set an absolute path without spaces, or leave it empty.",
        "dropbear_openssh_source_archive is 'x': set an absolute path without spaces, or leave it empty.",
    ]


def test_facts_set_no_variables_of_the_collection() -> None:
    assert variables.wrong_facts("node1", {"architecture": "x86_64", "local": {}}) == []
    (sentence,) = variables.wrong_facts("node1", {"dropbear_sha256": "0" * 64, "ssh_hook_report_dir": "/root\x1b"})
    assert sentence.startswith(
        "The facts of node1 set variables of this collection ('dropbear_sha256', 'ssh_hook_report_dir')"
    )
    assert variables.wrong_facts("node1", ["ssh_hook_\x1b[2J"])[0].isprintable()


def test_facts_in_place_of_a_sites_variables_are_named() -> None:
    facts = {"site_python": "/tmp/python3", "architecture": "x86_64", "site_same": "a"}
    site = {
        "site_python": "/usr/bin/python3",
        "architecture": "aarch64",
        "site_same": "a",
        "ansible_architecture": "s390",
    }
    variables_of_play = {**site, **facts, "ansible_architecture": "x86_64", "architecture": "aarch64"}
    (sentence,) = variables.shadowing("node1", facts, variables_of_play, site)
    assert "variables of the inventory ('ansible_architecture', 'site_python'): find out" in sentence
    assert variables.shadowing("node1", facts, site, site) == []  # facts do not become variables
    assert variables.shadowing("node1", {}, site, site) == []


def test_a_registered_result_is_no_path_and_no_list() -> None:
    """A site's play chooses the name that it registers; a node what is in it."""
    result = {"stdout": "/tmp/python3", "stdout_lines": ["/tmp/python3"], "changed": True}
    lists = ("ssh_hook_users", "ssh_hook_hooks_dirs")
    assert len(variables.wrong_lists(dict.fromkeys(lists, result), lists)) == 2
    paths = {**dict.fromkeys(variables.PATHS, result), "ssh_hook_hooks_dirs": []}
    assert len(variables.wrong_paths(paths)) == len(variables.PATHS)
    names = [name for name, _pattern, _other in variables.DROPBEAR_PATHS]
    assert len(variables.wrong_dropbear_paths(dict.fromkeys(names, result))) == len(names)


def test_a_variable_is_a_fact_if_it_has_the_facts_value() -> None:
    facts = {"os_family": "Debian"}
    assert variables.is_fact("ansible_os_family", {"ansible_os_family": "Debian"}, facts)
    assert variables.is_fact("os_family", {"os_family": "Debian"}, facts)
    assert not variables.is_fact("os_family", {"os_family": "Suse"}, facts)
    assert not variables.is_fact("os_family", {}, facts)


def test_users_who_get_no_keys_are_named() -> None:
    answer = {"unknown": ["bob", "1002"], "without_home": ["carol"]}
    unknown, without_home = variables.without_keys(answer, "/etc/passwd", "/users")
    assert unknown.startswith("No keys are created for bob and 1002 (ssh_hook_users), who are not in /etc/passwd")
    assert without_home.startswith("No keys are created for carol (ssh_hook_users), who have no directory in /users")
    assert variables.without_keys({"unknown": [], "without_home": []}, "/etc/passwd", "/users") == []


def test_an_archive_of_programs_replaces_only_another(tmp_path: Path) -> None:
    path = tmp_path / "programs.tar.gz"
    refusal = f"{path} (dropbear_programs_archive_dest) is not an archive of programs, so it stays: name another path."
    assert variables.foreign_archive(str(path)) == []
    path.write_text("theirs", encoding="utf-8")
    assert variables.foreign_archive(str(path)) == [refusal]
    for name, said in (("backup/home", [refusal]), ("dropbear-1-0123456789ab/x86_64/ssh", [])):
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(tarfile.TarInfo(name))
        assert variables.foreign_archive(str(path)) == said
    assert variables.foreign_archive(str(tmp_path)) == [refusal.replace(str(path), str(tmp_path))]
