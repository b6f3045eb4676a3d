"""A node that is not fit for the hook is refused, each time by a sentence."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _fitness as fitness
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._engine_paths import engine_paths

VARIABLES: dict[str, Any] = {
    "ssh_hook_python": "/usr/bin/python3",
    "ssh_hook_python_packages_dir": "",
    "ssh_hook_packages": ["python3-cryptography", "python3-pyroute2"],
    "ssh_hook_prefix": "/opt",
    "ssh_hook_base_dir": "/home",
    "ssh_hook_passwd_file": "/opt/passwd",
    "ssh_hook_passwd_source": "getent",
    "ssh_hook_dropbear_dir": "/opt/dropbear",
    "ssh_hook_hooks_dirs": ["/etc/hooks.d"],
    "ssh_hook_metrics_dir": "",
    "ssh_hook_enroot_hooks_dir": "",
    "ssh_hook_podman_hpc_modules_dir": "",
    "ssh_hook_slurm_prolog_dir": "",
    "ssh_hook_slurm_epilog_dir": "",
    "ssh_hook_firewalld_zone": "",
    "ssh_hook_cdi": False,
    "ssh_hook_docker_cdi": False,
    "ssh_hook_server_port": 15263,
    "ssh_hook_server_port_without_job": 15263,
    "ssh_hook_require_seccomp": True,
    "ssh_hook_require_engine": True,
    "ssh_hook_overlay_mount_home_ssh": True,
}
NODE: dict[str, Any] = {
    "image": False,
    "dev_null": True,
    "architecture": "x86_64",
    "kernel": "6.12.0-1-amd64",
    "python": {
        "exists": True,
        "problem": None,
        "version": "3.11",
        "packages": {"cryptography": "/x", "pyroute2": "/x"},
        "libseccomp": True,
    },
    "engines": {"podman": "/usr/bin/podman"},
    "docker": None,
    "hooks_dirs": {"podman": ["/etc/hooks.d"]},
    "dropbear": False,
    "daemons": [],
    "other_hooks": [],
    "port_holders": [],
    "foreign": [],
    "suid_dumpable": 0,
    "lowest_port": 1024,
    "systemd": True,
    "passwd_file": False,
    "firewalld_zone": False,
    "missing": [],
    "dead_links": [],
    "unwritable": [],
    "unnamed_homes": [1, 2],
    "full": [],
    "unsafe": "",
}


def node(**changes: Any) -> dict[str, Any]:
    changed = copy.deepcopy(NODE)
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(changed[name], dict) and name == "python":
            changed[name].update(value)
        else:
            changed[name] = value
    return changed


def test_a_fit_node_is_accepted_without_a_remark() -> None:
    assert fitness.complaints("n1", VARIABLES, NODE, audit=False, with_dropbear=True) == []
    assert fitness.remarks("n1", VARIABLES, NODE) == []


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {},
        {"python": {"problem": "/x/python3 is alice's: whoever can."}},
        "On n1 /x/python3 is alice's: whoever can. It is ssh_hook_python: name another, or fix this one.",
    ),
    ({}, {"python": {"exists": False}}, "There is no program /usr/bin/python3 (ssh_hook_python) on n1: install Python"),
    ({}, {"python": {"version": None}}, "/usr/bin/python3 (ssh_hook_python) on n1 is not Python, and the hook needs"),
    ({}, {"python": {"version": "3.8"}}, "/usr/bin/python3 (ssh_hook_python) on n1 is Python 3.8, and the hook needs"),
    ({}, {"engines": {}}, "There is no container engine on n1: install podman, crun, runc or sarus first."),
    ({}, {"missing": ["/home"]}, "There is no directory /home (ssh_hook_base_dir) on n1: name the parent directory"),
    (
        {},
        {"dead_links": ["/opt"]},
        "On n1 /opt is a dangling link, perhaps to a file system that is not mounted: create",
    ),
    (
        {"ssh_hook_metrics_dir": "/var/lib/node_exporter"},
        {"missing": ["/var/lib/node_exporter"]},
        "There is no directory /var/lib/node_exporter (ssh_hook_metrics_dir) on n1: create it, writable only by root",
    ),
    (
        {"ssh_hook_enroot_hooks_dir": "/etc/enroot/hooks.d"},
        {"missing": ["/etc/enroot/hooks.d"]},
        "There is no directory /etc/enroot/hooks.d (ssh_hook_enroot_hooks_dir) on n1: install enroot, or name the",
    ),
    (
        {"ssh_hook_podman_hpc_modules_dir": "/etc/podman_hpc/modules.d"},
        {"missing": ["/etc/podman_hpc/modules.d"]},
        "There is no directory /etc/podman_hpc/modules.d (ssh_hook_podman_hpc_modules_dir) on n1: install podman-hpc",
    ),
    (
        {"ssh_hook_firewalld_zone": "cluster"},
        {},
        "firewalld on n1 has no zone cluster (ssh_hook_firewalld_zone): install firewalld, or name one of its zones.",
    ),
    (
        {},
        {"unwritable": ["/usr", "/etc/hooks.d"]},
        "Root cannot create files in /etc/hooks.d on n1: make it writable, or name another directory in ssh_hook_hooks",
    ),
    (
        {},
        {"unwritable": ["/opt/lib"]},
        "Root cannot create files in /opt/lib on n1: make it writable, or name another ",
    ),
    ({}, {"unwritable": ["/etc/systemd"]}, "Root cannot create files in /etc/systemd on n1: make it writable."),
    (
        {},
        {"unwritable": ["/usr"], "python": {"packages": {"cryptography": None, "pyroute2": None}}},
        "Root cannot create files in /usr on n1: make it writable, or name another directory in ssh_hook_python",
    ),
    (
        {},
        {"architecture": "s390x"},
        "n1 is s390x, and the role dropbear builds programs only for aarch64, ppc64le, riscv64, x86_64: leave",
    ),
    ({}, {"full": ["/opt"]}, "On n1 the file system of /opt has less than 8 MB left: free some space."),
    ({}, {"unsafe": "/opt is alice's: whoever can."}, "On n1 /opt is alice's: whoever can."),
    (
        {},
        {"other_hooks": ["/a.json"]},
        "On n1 /a.json names another SSH hook for the same containers, which would get",
    ),
    ({}, {"other_hooks": ["/a.json", "/b.json"]}, "On n1 /a.json and /b.json name another SSH hook for the same"),
    (
        {},
        {"port_holders": ["nginx (pid 8)"]},
        "Port 15263 (ssh_hook_server_port) on n1 is in use by nginx (pid 8): choose",
    ),
    ({}, {"foreign": ["10.0.0.1"]}, "10.0.0.1 (ssh_hook_listen_addresses) cannot be used on n1: name addresses"),
    (
        {},
        {"python": {"libseccomp": False}},
        "/usr/bin/python3 (ssh_hook_python) on n1 cannot load libseccomp.so.2, which",
    ),
    (
        {"ssh_hook_server_port": 1023},
        {},
        "Users of n1 may not listen on port 1023 (ssh_hook_server_port), since it is below 1024 (net.ipv4.ip",
    ),
    (
        {"ssh_hook_server_port": "auto", "ssh_hook_server_port_without_job": 1022},
        {},
        "Users of n1 may not listen on port 1022 (ssh_hook_server_port_without_job), since it is below 1024 "
        "(net.ipv4.ip",
    ),
    (
        {"ssh_hook_slurm_prolog_dir": "/p", "ssh_hook_slurm_epilog_dir": "/e"},
        {"missing": ["/e"]},
        "There is no directory /e (ssh_hook_slurm_epilog_dir) on n1: create it, writable only by root, and name it in",
    ),
    (
        {},
        {"suid_dumpable": 1},
        "On n1 fs.suid_dumpable is 1, so users can trace programs that they may not read",
    ),
    (
        {"ssh_hook_python_packages_dir": "/opt/p"},
        {"python": {"packages": {"cryptography": None, "pyroute2": None}}},
        "/opt/p (ssh_hook_python_packages_dir) on n1 does not contain cryptography, or not all users can",
    ),
    (
        {"ssh_hook_passwd_source": "file"},
        {},
        "There is no file /opt/passwd (ssh_hook_passwd_file) on n1: put it there, or set ssh_hook_passwd_source to "
        "'get",
    ),
    (
        {"ssh_hook_cdi": True, "ssh_hook_docker_cdi": True},
        {
            "docker": {
                "version": "26.1",
                "cdi": False,
                "is_old": False,
                "problem": "/etc/docker/daemon.json is not JSON",
            }
        },
        "/etc/docker/daemon.json is not JSON.",
    ),
]


@pytest.mark.parametrize(("variables", "facts", "sentence"), REFUSED)
def test_a_node_that_is_not_fit_is_refused_by_its_sentence(
    variables: dict[str, Any], facts: dict[str, Any], sentence: str
) -> None:
    (said,) = fitness.complaints("n1", {**VARIABLES, **variables}, node(**facts), audit=False, with_dropbear=True)
    assert said.startswith(sentence)
    assert said.endswith(".")


def test_an_audit_writes_nothing_and_needs_no_room() -> None:
    facts = node(dead_links=["/opt"], unwritable=["/opt"], full=["/srv"], suid_dumpable=1)
    assert fitness.complaints("n1", VARIABLES, facts, audit=True, with_dropbear=True) == []


def test_a_login_node_without_an_engine_gets_the_users_side_alone() -> None:
    login = {**VARIABLES, "ssh_hook_require_engine": False}
    facts = node(engines={}, port_holders=["nginx (pid 8)"], suid_dumpable=1, python={"libseccomp": False})
    assert fitness.is_client(login, facts)
    assert fitness.complaints("n1", login, facts, audit=False, with_dropbear=True) == []
    assert fitness.remarks("n1", login, facts) == [
        "n1 has no container engine, and gets only the users' commands of ssh_hook: keygen, client-config and wait."
    ]
    assert fitness.remarks("n1", login, {**facts, "dropbear": True, "daemons": [8, 9]})[1:] == [
        "Dropbear stays on n1 while it runs there in containers (pids 8 and 9): run the deployment again when they "
        "have ended."
    ]
    assert fitness.remarks("n1", login, {**facts, "dropbear": True})[1:] == []
    assert not fitness.is_client(login, NODE)
    facts["missing"] = ["/home"]
    assert len(fitness.complaints("n1", login, facts, audit=False, with_dropbear=True)) == 1


def test_the_architecture_matters_only_where_this_play_installs_dropbear() -> None:
    mainframe = node(architecture="s390x")
    assert fitness.complaints("n1", VARIABLES, mainframe, audit=False, with_dropbear=False) == []
    login = {**VARIABLES, "ssh_hook_require_engine": False}
    assert fitness.complaints("n1", login, {**mainframe, "engines": {}}, audit=False, with_dropbear=True) == []


def test_pyroute2_may_be_missing_where_its_package_is_not_named() -> None:
    facts = node(python={"packages": {"cryptography": "/x", "pyroute2": None}})
    assert fitness.missing_packages(VARIABLES, facts) == ["pyroute2"]
    without = {**VARIABLES, "ssh_hook_packages": ["python3.11-cryptography"]}
    assert fitness.missing_packages(without, facts) == []
    assert fitness.missing_packages({**VARIABLES, "ssh_hook_python_packages_dir": "/opt/p"}, facts) == []


OLD = {"version": "20.10", "cdi": False, "is_old": True, "problem": None}
OFF = {"version": "26.1", "cdi": False, "is_old": False, "problem": None}


@pytest.mark.parametrize(
    ("variables", "facts", "sentence"),
    [
        ({}, {"kernel": "5.4.0-1"}, "Kernel 5.4.0-1 of n1 is older than 5.13 and has no overlays in user namespaces"),
        (
            {"ssh_hook_cdi": True},
            {"docker": OLD},
            "Docker 20.10 on n1 does not support CDI devices (ssh_hook_cdi), so its",
        ),
        ({"ssh_hook_cdi": True}, {"docker": OFF}, "Docker 26.1 on n1 does not accept CDI devices (ssh_hook_cdi): add"),
        (
            {},
            {"hooks_dirs": {"podman": ["/x"]}},
            "podman on n1 does not read /etc/hooks.d (ssh_hook_hooks_dirs): to make",
        ),
        (
            {},
            {"engines": {"crun": "/usr/bin/crun"}, "hooks_dirs": {}},
            "No engine on n1 reads /etc/hooks.d (ssh_hook_hooks_dirs): on their own, crun and runc",
        ),
        (
            {},
            {"hooks_dirs": {}},
            "podman on n1 does not report where it reads hooks, as in an image without /proc, or was not run",
        ),
        (
            {},
            {"image": True, "kernel": "", "missing": ["/home"]},
            "n1 is an image, not a running node: port, addresses,",
        ),
    ],
)
def test_what_does_not_keep_the_hook_away_is_told(
    variables: dict[str, Any], facts: dict[str, Any], sentence: str
) -> None:
    (said,) = fitness.remarks("n1", {**VARIABLES, **variables}, node(**facts))
    assert said.startswith(sentence)


@pytest.mark.parametrize(
    ("variables", "facts"),
    [
        ({"ssh_hook_overlay_mount_home_ssh": False}, {"kernel": "5.4.0-1"}),
        ({}, {"docker": OFF}),
        ({"ssh_hook_cdi": True, "ssh_hook_docker_cdi": True}, {"docker": OFF}),
        ({}, {"kernel": "5.13"}),
    ],
)
def test_and_only_where_it_matters(variables: dict[str, Any], facts: dict[str, Any]) -> None:
    assert fitness.remarks("n1", {**VARIABLES, **variables}, node(**facts)) == []


def test_an_image_gets_no_keys_and_needs_no_homes() -> None:
    image = node(image=True, kernel="", missing=["/home"])
    _first, said = fitness.remarks("n1", {**VARIABLES, "ssh_hook_users": ["alice"]}, image)
    assert said.startswith(
        "No keys are created in the image n1: those of ssh_hook_users are created on a running node of this play"
    )
    assert fitness.complaints("n1", VARIABLES, image, audit=False, with_dropbear=True) == []


def test_an_image_without_devices_is_refused_by_one_sentence() -> None:
    image = node(image=True, dev_null=False, python={"version": None})
    (said,) = fitness.complaints("n1", VARIABLES, image, audit=True, with_dropbear=True)
    assert said.startswith("/dev/null of n1 is not a device: remove the file if there is one")


def test_a_node_without_systemd_is_told_what_its_timers_would_run() -> None:
    own: dict[str, Any] = {**VARIABLES, "ssh_hook_passwd_source": "getent"}
    refresh = "'/opt/bin/ssh_hook refresh-passwd /opt/passwd'"
    (said,) = fitness.remarks("n1", own, node(systemd=False))
    assert said.startswith("There is no systemd on n1, so no timer: have root run '")
    assert f"{refresh} and '/opt/bin/ssh_hook sweep' every 15 minutes, with cron." in said
    (said,) = fitness.remarks("n1", {**own, "ssh_hook_passwd_source": "file"}, node(systemd=False))
    assert "refresh-passwd" not in said
    assert fitness.remarks("n1", own, NODE) == []


PATHS: dict[str, Any] = {
    **VARIABLES,
    "ssh_hook_json_name": "07.json",
    "ssh_hook_cdi": False,
}


def test_what_another_program_wrote_is_refused_where_a_run_would_write() -> None:
    paths = engine_paths(PATHS)
    foreign = ["/opt/passwd", "/opt/dropbear", "/etc/hooks.d/07.json", paths.cdi, "/etc/systemd/system/x.timer"]

    def said(**changes: Any) -> list[str]:
        return fitness.foreign("n1", PATHS, node(foreign_files=foreign, **changes), paths)

    passwd, dropbear, hook, unit = said()
    assert passwd.startswith("/opt/passwd on n1 was not written by this collection, which replaces and removes only")
    assert passwd.endswith(
        "set ssh_hook_passwd_source to 'file' if the site provides this file, or name another in ssh_hook_passwd_file."
    )
    assert dropbear.endswith(": move it away, or set another ssh_hook_dropbear_dir.")
    assert hook.endswith(": move it away, or set another ssh_hook_json_name.")
    assert unit.endswith(": move it away.")
    assert said(other_hooks=["/etc/hooks.d/07.json"]) == [passwd, dropbear, unit]
    login = {**PATHS, "ssh_hook_require_engine": False}
    assert fitness.foreign("n1", login, node(foreign_files=foreign, engines={}), paths) == [passwd, dropbear, unit]


def test_a_name_service_that_lists_few_users_is_a_warning() -> None:
    (said,) = fitness.remarks("n1", VARIABLES, node(unnamed_homes=[19976, 20000]))
    assert said.startswith("19976 of 20000 directories in /home on n1 have no account of their name in 'getent passwd'")
    assert "Set ssh_hook_passwd_source to 'file' and provide the file" in said


@pytest.mark.parametrize(
    ("port", "warned"), [(32767, False), (32768, True), (40000, True), (60999, True), (61000, False)]
)
def test_a_port_that_clients_may_get_is_a_warning(port: int, warned: bool) -> None:
    said = fitness.remarks("n1", {**VARIABLES, "ssh_hook_server_port": port}, NODE)
    sentence = f"Port {port} (ssh_hook_server_port) on n1 is in the range from which Linux takes ports for outgoing"
    assert [remark.startswith(sentence) for remark in said] == [True] * warned
