"""The playbooks as a new user would run them: wrong input fails before anything changes, and ways to run them work.

The node is as it was before anything was deployed, and so it is afterwards.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from node import CDI_SPEC, HOOK_JSON, LAUNCHER, PASSWD, PORT, PREFIX, ROOT, SETTINGS, listing, package, play
from patience import within
from plays import Play
from test_deployment import WITHOUT_ENGINES, as_daemon, daemon

BY_GROUPS: dict[str, object] = {"ssh_hook_hosts": "compute_nodes:login_nodes"}


@pytest.fixture(scope="module")
def untouched() -> dict[str, str]:
    """What is on the node before anything was deployed."""
    return listing()


def inventory(path: Path, **groups: list[str]) -> str:
    """Write an inventory with these groups; return its path."""
    children = {name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()}
    path.write_text(json.dumps({"all": {"children": children}}), encoding="utf-8")
    return str(path)


def refused(untouched: dict[str, str], done: Play, *sentences: str) -> None:
    """The play failed with these sentences, and nothing has changed."""
    assert done.status != 0, done.said
    said = " ".join(done.said.split())
    assert [sentence for sentence in sentences if sentence not in said] == [], done.said
    assert "Traceback" not in done.said
    assert listing() == untouched


@pytest.mark.parametrize("playbook", ["deploy", "audit", "remove"])
def test_a_pattern_that_matches_no_host_is_refused(untouched: dict[str, str], playbook: str) -> None:
    none = play(playbook, variables={"ssh_hook_hosts": "compute_nodes:login_nodes"})
    refused(untouched, none, "No host of the inventory matches 'compute_nodes:login_nodes', so there is nothing to do")
    assert "--extra-vars ssh_hook_hosts=all" in " ".join(none.said.split())


@pytest.mark.parametrize("serial", ["ten", "0", "10 %"])
def test_a_number_of_nodes_at_a_time_that_is_none_is_refused(untouched: dict[str, str], serial: str) -> None:
    done = play("deploy", variables={"ssh_hook_serial": serial})
    refused(untouched, done, f"ssh_hook_serial is '{serial}': give a number of nodes, or a percentage such as 10%.")


def test_a_limit_that_leaves_no_host_is_refused(untouched: dict[str, str], tmp_path: Path) -> None:
    hosts = inventory(tmp_path / "hosts.json", compute_nodes=["node"], others=["storage"])
    none = play("deploy", "--limit=storage", inventory=hosts, variables=BY_GROUPS)
    refused(untouched, none, "matches both 'compute_nodes:login_nodes' (ssh_hook_hosts) and 'storage' (--limit)")


FACTS = {"dropbear_source_urls": ["http://other/"], "dropbear_build_host": "other"}
LYING: dict[str, tuple[dict[str, object], str]] = {
    "node_facts": (
        {"client_only": False, "missing_packages": [], "versions": {"dropbear_version": "1"}},
        "Unexpected response from node_facts.",
    ),
    "passwd_file": (
        {"users": 3, "unknown": ["root"], "without_home": []},
        "Unexpected response from passwd_file.",
    ),
}


@pytest.mark.parametrize("module", LYING)
def test_a_node_sets_no_variables_by_its_answer_to_the_preflight(
    untouched: dict[str, str], tmp_path: Path, module: str
) -> None:
    """Its interpreter is as it should be, but for one of the modules that the preflight asks it by."""
    answer, sentence = LYING[module]
    interpreter = tmp_path / "python3"
    interpreter.write_text(
        '#!/bin/sh\ntext=$(cat "${1:--}")\n'
        f"case $text in *modules.{module}*) echo '{json.dumps({**answer, 'ansible_facts': FACTS})}'; exit ;; esac\n"
        "printf '%s\\n' \"$text\" | exec /usr/bin/python3 -\n"
    )
    interpreter.chmod(0o755)
    site: dict[str, object] = {"ansible_python_interpreter": str(interpreter), "ssh_hook_users": ["daemon"]}
    done = play("deploy", "--tags=keys", variables=site)
    refused(untouched, done, sentence)
    assert "http://other/" not in done.said
    assert "set variables of this collection" not in done.said


def test_an_interpreter_of_ansible_that_is_too_old_is_named(untouched: dict[str, str], tmp_path: Path) -> None:
    """An imitation of Python 3.6, which says its version, and fails at the first line of the module node_facts."""
    interpreter = tmp_path / "python3.6"
    interpreter.write_text(
        '#!/bin/sh\n[ "$1" = -c ] && { echo Python 3.6; exit; }\n'
        'text=$(cat "${1:--}")\n'
        "case $text in *modules.node_facts*) echo 'SyntaxError: future feature annotations' >&2; exit 1 ;; esac\n"
        "printf '%s\\n' \"$text\" | exec /usr/bin/python3 -\n"
    )
    interpreter.chmod(0o755)
    refused(
        untouched,
        play("deploy", variables={"ansible_python_interpreter": str(interpreter)}),
        f"with {interpreter}, which is Python 3.6, and this collection needs 3.9 or newer there: install a newer one, "
        "and set ansible_python_interpreter to its path.",
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["image1", "node1", "image2"], "as node1 sees them: no keys: nobody-of-that-name"),
        (
            ["image1"],
            "keys of ssh_hook_users: an image has no homes, and no running node is known to be secure",
        ),
    ],
)
def test_an_audit_asks_no_image_who_has_keys(tmp_path: Path, names: list[str], said: str) -> None:
    known = dict.fromkeys(("problem", "hook", "dropbear", "openssh", "kernel", "port"))
    found: dict[str, list[str]] = {key: [] for key in ("engines", "differences", "tamper", "remarks", "daemons")}
    hosts = {
        name: {
            "ssh_hook__audited": {"row": {**known, **found, "name": name, "state": "ok"}},
            "ssh_hook__preflight": {"node": {"image": name.startswith("image")}},
        }
        for name in names
    }
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
    site = {"ssh_hook_users": ["nobody-of-that-name"], "ssh_hook_passwd_file": "/etc/passwd"}
    done = play("report_only", inventory=str(path), variables=site)
    assert done.status == 0, done.said
    assert said in " ".join(done.said.split())


def test_wrong_names_and_strings_for_lists_are_refused(untouched: dict[str, str]) -> None:
    wrong: dict[str, object] = {
        "ssh_hook_server_prot": 15264,
        "dropbear_versoin": "2026.95",
        "dropbear_initramfs_port": 22,  # another role's
        "dropbear_users": ["alice"],  # another role's
        "ssh_hook_hooks_dirs": "/etc/hooks.d",
        "ssh_hook_listen_addresses": "127.0.0.1",
        "ssh_hook_users": "alice",
        "ssh_hook_stages": "createRuntime",
    }
    done = play("deploy", variables=wrong)
    refused(
        untouched,
        done,
        "ssh_hook_server_prot is not a variable of this collection: did you mean ssh_hook_server_port?",
        "dropbear_versoin is not a variable of this collection: did you mean dropbear_version?",
        "ssh_hook_hooks_dirs is '/etc/hooks.d', but must be a list: write [/etc/hooks.d].",
        "ssh_hook_listen_addresses is '127.0.0.1', but must be a list: write [127.0.0.1].",
        "ssh_hook_users is 'alice', but must be a list: write [alice].",
        "ssh_hook_stages is 'createRuntime', but must be a list: write [createRuntime].",
    )
    assert "dropbear_initramfs_port" not in done.said
    assert "dropbear_users" not in done.said


@pytest.mark.parametrize("playbook", ["deploy", "audit", "remove"])
def test_a_wrong_variable_is_reported_before_the_first_connection(
    untouched: dict[str, str], tmp_path: Path, playbook: str
) -> None:
    hosts = tmp_path / "hosts.json"
    down = {"ansible_connection": "ssh", "ansible_host": "127.0.0.9", "ansible_port": 1}
    hosts.write_text(json.dumps({"all": {"hosts": {"down": down}}}), encoding="utf-8")
    wrong: dict[str, object] = {"ansible_connection": None, "ssh_hook_server_port": 70000}
    refused(untouched, play(playbook, inventory=str(hosts), variables=wrong), "ssh_hook_server_port is 70000")
    wrong = {"ansible_connection": None, "ssh_hook_server_prot": 15263}
    sentence = "ssh_hook_server_prot is not a variable of this collection: did you mean ssh_hook_server_port?"
    done = play(playbook, inventory=str(hosts), variables=wrong)
    refused(untouched, done, sentence)
    assert re.search(r"^down +: .* unreachable=0 +failed=[12] ", done.said, re.MULTILINE), done.said


def test_a_template_with_an_error_is_named(untouched: dict[str, str]) -> None:
    wrong: dict[str, object] = {"ssh_hook_base_dir": "{{ '/home' ", "ssh_hook_key_type": "{{ no_such_variable }}"}
    sentences = [f"{name} has a value that Ansible cannot evaluate: " for name in wrong]
    refused(untouched, play("deploy", variables=wrong), *sentences)


def test_a_batch_that_is_down_does_not_end_a_rollout_silently(untouched: dict[str, str], tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.json"
    down = {"ansible_connection": "ssh", "ansible_host": "127.0.0.9", "ansible_port": 1}
    nodes = {"down": down, "node": {"ansible_connection": "local"}}
    hosts.write_text(json.dumps({"all": {"hosts": nodes}}), encoding="utf-8")
    site: dict[str, object] = {"ansible_connection": None, "ssh_hook_serial": 1}
    done = play("deploy", "--tags=preflight", inventory=str(hosts), variables=site)
    refused(
        untouched, done, "Nodes in this batch: 1, after it: 1. If all of this batch fail or are down, the run ends here"
    )


@pytest.mark.parametrize("playbook", ["deploy", "audit", "remove"])
def test_the_plays_header_is_not_set_in_the_inventory(untouched: dict[str, str], tmp_path: Path, playbook: str) -> None:
    hosts = tmp_path / "hosts.json"
    nodes = {"hosts": {"node": None}, "vars": {"ssh_hook_serial": 1, "ssh_hook_hosts": "nodes"}}
    hosts.write_text(json.dumps({"compute_nodes": nodes}), encoding="utf-8")
    done = play(playbook, inventory=str(hosts), variables={"ssh_hook_hosts": None})
    refused(
        untouched,
        done,
        "ssh_hook_hosts has no effect in the inventory, because it applies to the whole play: set it on the command",
        "ssh_hook_serial has no effect in the inventory, because it applies to the whole play: set it on the command "
        "line (--extra-vars ssh_hook_serial=...), and remove it from the inventory.",
    )


USERS: list[tuple[dict[str, object], str]] = [
    (
        {"ssh_hook_users": ["daemno", 4294967294]},
        "No keys are created for daemno and 4294967294 (ssh_hook_users), who are not in /opt/oci-hooks/etc/passwd",
    ),
    (
        {"ssh_hook_users": ["daemno"], "ssh_hook_passwd_source": "file", "ssh_hook_passwd_file": "/etc/passwd"},
        "No keys are created for daemno (ssh_hook_users), who are not in /etc/passwd: remove users who have left",
    ),
    (
        {"ssh_hook_users": ["daemon"], "ssh_hook_base_dir": "/srv"},
        "No keys are created for daemon (ssh_hook_users), who have no directory in /srv: make it",
    ),
]


def test_a_list_of_users_that_is_no_list_of_users_is_refused(untouched: dict[str, str]) -> None:
    done = play("deploy", "--tags=preflight", variables={"ssh_hook_users": [{"name": "daemon"}]})
    refused(untouched, done, "ssh_hook_users has '{'name': 'daemon'}': give names or uids of users")


@pytest.mark.parametrize(("variables", "sentence"), USERS)
def test_users_who_are_gone_or_have_no_home_are_a_warning(
    untouched: dict[str, str], variables: dict[str, object], sentence: str
) -> None:
    """By the preflight alone, which says what a deployment would do."""
    done = play("deploy", "--tags=preflight", variables=variables)
    assert (done.status, done.changed) == (0, 0), done.said
    assert sentence in done.words
    assert listing() == untouched


def test_warnings_stand_at_the_end_whatever_a_site_displays(untouched: dict[str, str], tmp_path: Path) -> None:
    """Once, for nodes that differ only in their name."""
    hosts = inventory(tmp_path / "hosts.json", compute_nodes=["node1", "node2", "node3"])
    quiet = ("env", "ANSIBLE_DISPLAY_OK_HOSTS=false", "setarch", "--uname-2.6")
    done = play("deploy", "--tags=preflight", inventory=hosts, before=quiet, variables={"ssh_hook_users": ["who"]})
    assert done.status == 0, done.said
    end = done.words.partition(" WARNINGS ")[2]
    assert re.search(r"Kernel \S+ of node1 is older than 5.13 .* set to false. \(2 more \(node2, node3\)\)", end), end
    assert end.count("No keys are created for who (ssh_hook_users)") == 1
    assert done.words.count("older than 5.13") == 1
    assert listing() == untouched


def test_the_preflight_alone_notices_versions_that_a_deployment_refuses(
    untouched: dict[str, str], tmp_path: Path
) -> None:
    unknown = play("deploy", "--tags=preflight", variables={"dropbear_version": "2026.99"})
    refused(
        untouched, unknown, "dropbear_version 2026.99 is not known to this role", "set dropbear_sha256 to the SHA-256"
    )
    wrong = play("deploy", "--tags=preflight", variables={"dropbear_sha256": "0123"})
    refused(
        untouched,
        wrong,
        "dropbear_sha256 is '0123', but a SHA-256 has 64 lower case hexadecimal digits: remove it, since this role has "
        "the digest of dropbear-2026.94.tar.bz2.",
    )
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps({"all": {"hosts": {"node": {}, "other": {"dropbear_openssh_version": "10.4p1"}}}}))
    several = play("deploy", "--tags=preflight", inventory=str(hosts))
    refused(untouched, several, "dropbear_openssh_version is 10.3p1 on some hosts of this play, and 10.4p1 on others")


def test_directories_that_do_not_exist_are_refused(untouched: dict[str, str]) -> None:
    """Of homes, of engines, of Slurm, and of metrics."""
    of_engines = ("ssh_hook_enroot_hooks_dir", "ssh_hook_podman_hpc_modules_dir")
    of_slurm = ("ssh_hook_slurm_prolog_dir", "ssh_hook_slurm_epilog_dir")
    names = ("ssh_hook_base_dir", *of_engines, *of_slurm, "ssh_hook_metrics_dir")
    done = play("deploy", variables={name: f"/no/{name}" for name in names})
    refused(untouched, done, *(f"There is no directory /no/{name} ({name}) on node: " for name in names))
    assert "on node: name the parent directory" in done.words


@pytest.mark.parametrize("playbook", ["deploy", "audit", "remove"])
def test_another_prefix_of_dropbear_is_refused_and_not_ignored(
    untouched: dict[str, str], tmp_path: Path, playbook: str
) -> None:
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps({"all": {"hosts": {"node": {}}, "vars": {"dropbear_prefix": "/srv/tools"}}}))
    done = play(playbook, inventory=str(hosts))
    refused(
        untouched,
        done,
        "dropbear_prefix is '/srv/tools', and this playbook installs Dropbear where the hook looks for it",
        "set ssh_hook_dropbear_dir to /srv/tools/dropbear, and remove dropbear_prefix.",
    )


AS_DAEMON = ("setpriv", "--reuid=1", "--regid=1", "--clear-groups")


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ssh_hook as the user daemon on a node without an engine."""
    command = [*WITHOUT_ENGINES, *AS_DAEMON, LAUNCHER, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def serve(home: Path, program: Path) -> subprocess.Popen[bytes]:
    """Start a server with a login shell and copies of the user daemon's keys, which stay when the user has new ones."""
    for name in ("dropbear_ed25519_host_key", "authorized_keys"):
        shutil.copy2(home / ".oci-hooks/ssh/keys" / name, home / name)
        os.chown(home / name, 1, 1)
    (home / "passwd").write_text(f"daemon:x:1:1::{home}:/bin/sh\n", encoding="ascii")
    mounted = f'mount --bind {home}/passwd /etc/passwd && exec "$@"'
    options = ["-F", "-E", "-r", f"{home}/dropbear_ed25519_host_key", "-D", home, "-p", f"127.0.0.1:{PORT}"]
    command = ["unshare", "--mount", "sh", "-c", mounted, "sh", *AS_DAEMON, program, "dropbear", *options]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def use_as_login_node() -> None:
    """Have the user daemon make keys, call the doctor, and wait for a server with the host key of these and without."""
    built = Path(str(SETTINGS["dropbear_build_dir"])).glob(f"artefacts/*-{os.uname().machine}-*/dropbearmulti")
    program = max(built, key=lambda path: path.stat().st_mtime)
    home = Path("/home/daemon")
    home.mkdir()
    os.chown(home, 1, 1)
    server = None
    try:
        assert launch("keygen").returncode == 0
        doctor = launch("doctor")
        assert doctor.returncode == 0, doctor.stdout
        lines = {line.split()[1]: line.split(maxsplit=2) for line in doctor.stdout.splitlines()}
        assert lines["programs"][::2] == [
            "ok",
            "'ssh_hook wait' uses /usr/bin/ssh; this node is set up without a container engine",
        ]
        assert lines["engine"][0] == "ok"
        server = serve(home, program)
        waited = launch("wait", "--timeout=120", "127.0.0.1")
        assert (waited.returncode, waited.stderr) == (0, "")
        assert launch("keygen", "--overwrite").returncode == 0
        waited = launch("wait", f"--timeout={math.ceil(within(10))}", "127.0.0.1")
        assert (waited.returncode, "127.0.0.1 (not your container, or" in waited.stderr) == (1, True), waited.stderr
    finally:
        if server is not None:
            server.kill()
            server.wait()
        shutil.rmtree(home)


def watcher(directory: Path) -> tuple[str, Path]:
    """Write an interpreter that looks, before each module, for a JSON whose container could not start.

    Return it, and where it notes what the JSON needs and is not there.
    """
    python, broken = directory / "python3", directory / "broken"
    needed = (LAUNCHER, PASSWD, PREFIX / "dropbear/bin/dropbear")
    python.write_text(
        f"#!/bin/sh\n[ ! -e {HOOK_JSON} ] || ls -d {' '.join(map(str, needed))} >/dev/null 2>>{broken}\n"
        'exec /usr/bin/python3 "$@"\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    broken.touch()
    return str(python), broken


def test_a_login_node_that_loses_its_engine_keeps_the_users_side_alone(
    untouched: dict[str, str], tmp_path: Path
) -> None:
    """At no moment does an engine find a JSON whose container could not start."""
    hosts = inventory(tmp_path / "hosts.json", login_nodes=["node"])
    python, broken = watcher(tmp_path)
    watched = {**BY_GROUPS, "ansible_python_interpreter": python}
    with_engine = play("deploy", inventory=hosts, variables=watched)
    assert (with_engine.status, HOOK_JSON.exists()) == (0, True), with_engine.said
    audited = play("audit", before=WITHOUT_ENGINES, inventory=hosts, variables=BY_GROUPS)
    left = (
        f"{HOOK_JSON}, and no container engine reads it; Dropbear is installed, but there is no container engine to "
        "use it. Run"
    )
    assert (audited.status, audited.changed, left in audited.words) == (2, 0, True), audited.said
    assert play("deploy", "--tags=install", before=WITHOUT_ENGINES, inventory=hosts, variables=watched).status == 0
    assert HOOK_JSON.exists()
    deployed = play("deploy", before=WITHOUT_ENGINES, inventory=hosts, variables=watched)
    assert deployed.status == 0, deployed.said
    assert "node has no container engine, and gets only the users' commands of ssh_hook: keygen" in deployed.words
    assert broken.read_text(encoding="utf-8") == ""
    assert (LAUNCHER.exists(), PASSWD.exists()) == (True, True)
    assert [path for path in (HOOK_JSON, CDI_SPEC, PREFIX / "dropbear") if os.path.lexists(path)] == []
    for playbook in ("deploy", "audit"):
        again = play(playbook, before=WITHOUT_ENGINES, inventory=hosts, variables=BY_GROUPS)
        assert (again.status, again.changed) == (0, 0), again.said
    use_as_login_node()
    removed = play("remove", before=WITHOUT_ENGINES, inventory=hosts, variables=BY_GROUPS)
    assert removed.status == 0, removed.said
    assert listing() == untouched


@pytest.fixture(scope="module")
def deployed(untouched: dict[str, str]) -> Iterator[dict[str, str]]:
    """A node with the hook, and a home of the user daemon; what is on it."""
    home = Path("/home/daemon")
    home.mkdir()
    os.chown(home, 1, 1)
    done = play("deploy")
    assert done.status == 0, done.said
    yield listing()
    shutil.rmtree(home)
    removed = play("remove")
    assert removed.status == 0, removed.said
    assert listing() == untouched


def harm() -> None:
    """Change what is installed, and what is configured."""
    LAUNCHER.write_text("#!/bin/sh\n", encoding="utf-8")
    text = HOOK_JSON.read_text(encoding="utf-8")
    HOOK_JSON.write_text(text.replace('"poststop"', '"prestart"'), encoding="utf-8")


STRANGE = "unfit<script>"
LINES = (("-", PORT), ("+", PORT + 1))  # of a port that differs


def test_an_audit_reports_on_nodes_that_fail_and_on_those_that_are_not_there(
    deployed: dict[str, str], tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts.json"
    here = {"ansible_connection": "local"}
    nodes: dict[str, dict[str, object]] = {
        "gone": {"ansible_host": "127.0.0.9", "ansible_port": 1},
        "node1": {**here},
        "node2": {**here, "ssh_hook_server_port": PORT + 1},
        STRANGE: {**here, "ssh_hook_base_dir": "/no/homes"},
    }
    hosts.write_text(json.dumps({"all": {"hosts": nodes}}), encoding="utf-8")
    reports = tmp_path / "reports"
    site: dict[str, object] = {
        "ansible_connection": None,
        "ssh_hook_report_dir": str(reports),
        "ssh_hook_users": ["daemon"],
    }
    audited = play("audit", inventory=str(hosts), variables=site)
    assert (audited.status, audited.changed) == (4, 0), audited.said
    recap = dict(re.findall(r"^(\S+) +: .* (unreachable=\d+ +failed=\d+) ", audited.said, re.MULTILINE))
    assert {host: counts.split() for host, counts in recap.items()} == {
        "gone": ["unreachable=1", "failed=0"],
        "node1": ["unreachable=0", "failed=0"],
        "node2": ["unreachable=0", "failed=1"],
        STRANGE: ["unreachable=0", "failed=1"],
    }
    files = [reports / name for name in ("audit.json", "audit.html")]
    assert [oct(path.stat().st_mode & 0o7777) for path in files] == ["0o640", "0o640"]
    report = json.loads(files[0].read_text(encoding="utf-8"))
    assert {node["name"]: node["state"] for node in report["nodes"]} == {
        "gone": "unreachable",
        "node1": "ok",
        "node2": "differs",
        STRANGE: "failed",
    }
    assert {node["name"]: node["port"] for node in report["nodes"]} == {
        "gone": None,
        "node1": PORT,
        "node2": PORT,  # as its JSON says
        STRANGE: None,
    }
    (differs,) = [node["changes"] for node in report["nodes"] if node["state"] == "differs"]
    lines = [f'{sign}      "SERVER_PORT_DEFAULT={port}",' for sign, port in LINES]
    assert {"path": str(HOOK_JSON), "lines": lines} in differs
    assert report["keys"]["node"] == "node1"
    table = audited.said[audited.said.index("\nNODES ") : audited.said.index("\nPLAY RECAP")]
    assert [line.split()[:2] for line in table.splitlines() if line and line[0] in "gnu"][:3] == [
        *(["gone", "unreachable"], [STRANGE, "failed"], ["node2", "differs"]),
    ]
    assert "\n    There is no directory /no/homes (ssh_hook_base_dir) on unfit<script>" in table
    assert "<script>" not in files[1].read_text(encoding="utf-8").replace("<script>\n// Sorts", "")
    for path in files:
        os.utime(path, (0, 0))
    again = play("audit", inventory=str(hosts), variables=site)
    assert (again.status, again.changed) == (4, 0), again.said
    assert [path.stat().st_mtime > 0 for path in files] == [True, True]
    alone = play("audit", "--limit=gone", "--check", inventory=str(hosts), variables=site)
    assert (alone.status, "1 node: 1 unreachable" in alone.said) == (4, True), alone.said
    assert json.loads(files[0].read_text(encoding="utf-8")) == report
    alone = play("audit", "--limit=gone", inventory=str(hosts), variables=site)
    report = json.loads(files[0].read_text(encoding="utf-8"))
    assert (alone.status, report["limit"], len(report["nodes"])) == (4, "gone", 1), alone.said
    assert listing() == deployed


def test_a_report_that_cannot_be_written_is_one_sentence(deployed: dict[str, str]) -> None:
    refused_to = play("audit", variables={"ssh_hook_report_dir": "/proc/reports"})
    refused(deployed, refused_to, "/proc/reports on the controller cannot be written (ssh_hook_report_dir): ")


VERIFICATION = "Verify that only root can change these files"


def test_the_version_that_is_there_is_verified_where_the_new_one_is_not_installed(deployed: dict[str, str]) -> None:
    new = package()
    old = new.with_name("ssh_hook-0123456789ab")
    new.rename(old)
    LAUNCHER.write_text(LAUNCHER.read_text(encoding="utf-8").replace(str(new), str(old)), encoding="utf-8")
    try:
        configured = play("deploy", "--tags=configure")
        assert (configured.status, configured.changed) == (0, 0), configured.said
        assert VERIFICATION in configured.said
        assert play("deploy").status == 0
    finally:
        shutil.rmtree(old)
    assert listing() == deployed


def test_tags_choose_parts_of_a_deployment(deployed: dict[str, str]) -> None:
    harm()
    harmed = listing()
    users: dict[str, object] = {"ssh_hook_users": ["daemon"]}
    checked = play("deploy", "--tags=preflight", variables=users)
    assert (checked.status, checked.changed) == (0, 0), checked.said
    assert listing() == harmed
    installed = play("deploy", "--tags=install", variables=users)
    assert installed.status == 0, installed.said
    assert VERIFICATION in installed.said
    changed = listing()
    assert {path for path, seen in changed.items() if seen != harmed[path]} == {str(LAUNCHER)}
    configured = play("deploy", "--tags=configure", variables=users)
    assert configured.status == 0, configured.said
    assert VERIFICATION in configured.said
    assert listing() == deployed
    assert not Path("/home/daemon/.oci-hooks").exists()
    made = play("deploy", "--tags=keys", variables={"ssh_hook_users": ["gone", "daemon"]})
    assert (made.status, made.changed) == (0, 1), made.said
    assert "No keys are created for gone (ssh_hook_users), who are not in /opt/oci-hooks/etc/passwd" in made.words
    assert Path("/home/daemon/.oci-hooks/ssh/keys/id_dropbear").is_file()
    assert listing() == deployed


GUIDES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("day-2.md", "security-overview.md")}
REVOCATIONS = re.findall(
    r"^ *\$ (ansible-playbook (?:.*\\\n)*.* ocihooks\.ssh\.revoke)$", "\n".join(GUIDES.values()), re.MULTILINE
)


@pytest.fixture
def keys_of_daemon(deployed: dict[str, str]) -> Iterator[Path]:
    """The key set of the user daemon."""
    own = Path("/home/daemon/.oci-hooks")
    as_daemon(LAUNCHER, "keygen")
    yield own / "ssh/keys"
    shutil.rmtree(own, ignore_errors=True)


def site_of_the_guides(directory: Path) -> str:
    """Write the inventory that the guides' commands name; return its path. All nodes are this one."""
    own = {name: value for name, value in SETTINGS.items() if name != "ssh_hook_hosts"}
    nodes = dict.fromkeys(("node001", "node020", "node021", "node022", "node071"))
    path = directory / "inventory.yml"
    path.write_text(json.dumps({"compute_nodes": {"hosts": nodes, "vars": own}}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("command", REVOCATIONS)
def test_the_guides_commands_that_revoke(keys_of_daemon: Path, tmp_path: Path, command: str) -> None:
    """As printed, but for the users: daemon stands for the first, games for another."""
    site_of_the_guides(tmp_path)
    users = {"alice": "daemon", "1002": "1", "bob": "games" if "alice" in command else "daemon"}
    before = (keys_of_daemon / "id_dropbear").read_bytes()
    with daemon(user=1) as pid:
        done = subprocess.run(
            ["bash", "-c", re.sub("|".join(users), lambda name: users[name[0]], command)],
            cwd=tmp_path,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not Path(f"/proc/{pid}/exe").exists()
    (nodes,) = re.findall(r"--limit (\S+)", command) or ["node001,node020,node021,node022,node071"]
    recap = re.findall(r"^(\w+) +: ok=", done.stdout, re.MULTILINE)
    assert recap == nodes.split(","), done.stdout
    after = (keys_of_daemon / "id_dropbear").read_bytes() if keys_of_daemon.exists() else None
    (state,) = re.findall(r"revoke_state=(\w+)", command) or ["present"]
    assert {"present": after not in (before, None), "absent": after is None, "unchanged": after == before}[state]


def test_the_guides_play_that_replaces_all_host_keys(keys_of_daemon: Path, tmp_path: Path) -> None:
    (text,) = re.findall(
        r"^## Replace the host keys.*?^```yaml\n(.*?)^```$", GUIDES["day-2.md"], re.MULTILINE | re.DOTALL
    )
    (tmp_path / "keys.yml").write_text(
        f"{text}        uid_min: 1\n        uid_max: 1\n", encoding="utf-8"
    )  # daemon alone
    before = {path.name: path.read_bytes() for path in keys_of_daemon.iterdir()}
    done = play(str(tmp_path / "keys"), inventory=site_of_the_guides(tmp_path))
    assert (done.status, done.changed) == (0, 1), done.said
    after = {path.name: path.read_bytes() for path in keys_of_daemon.iterdir()}
    assert before.keys() == after.keys()
    assert [name for name, content in after.items() if before[name] == content] == []


def test_the_guides_command_that_switches_it_off_without_ansible(deployed: dict[str, str]) -> None:
    (command,) = re.findall(r"^# (rm -f (?:.*\\\n)*.*)$", GUIDES["security-overview.md"], re.MULTILINE)
    subprocess.run(["sh", "-c", command], check=True)
    left = listing()
    changed = {path for path, seen in deployed.items() if left.get(path) != seen}
    assert changed == {str(HOOK_JSON)}
    assert play("deploy", "--tags=configure").status == 0
    assert listing() == deployed


def test_a_removal_while_daemons_run_switches_off_and_fails(deployed: dict[str, str]) -> None:
    """As Security in one page says, by the number of failed tasks too."""
    with daemon() as pid:
        done = play("remove")
        assert re.search(r"^node +: .* failed=1 ", done.said, re.MULTILINE), done.said
        assert f"(pids {pid}), and need the hook to end" in done.words
        assert (HOOK_JSON.exists(), LAUNCHER.exists()) == (False, True)
    assert play("deploy").status == 0
    assert listing() == deployed


def test_tags_do_not_go_around_the_preflight(deployed: dict[str, str]) -> None:
    for tag in ("install", "configure", "keys"):
        done = play("deploy", f"--tags={tag}", variables={"ssh_hook_base_dir": "/no/homes"})
        refused(deployed, done, "There is no directory /no/homes (ssh_hook_base_dir) on node")


def test_nodes_may_be_deployed_one_after_another(deployed: dict[str, str], tmp_path: Path) -> None:
    """A user whose keys cannot be made does not end a rollout, and each batch says so."""
    hosts = inventory(tmp_path / "hosts.json", compute_nodes=["node", "omitted", "third"])
    site: dict[str, object] = {**BY_GROUPS, "ssh_hook_serial": 1, "ssh_hook_users": ["daemon"]}
    Path("/home/daemon").chmod(0o775)
    done = play("deploy", "--limit=node:third", inventory=hosts, variables=site)
    Path("/home/daemon").chmod(0o755)
    assert (done.status, done.changed) == (2, 0), done.said
    recap = re.findall(r"^(node|third) +: .* failed=(\d) ", done.said, re.MULTILINE)
    assert recap == [("node", "0"), ("third", "1")], done.said
    batches = done.words.split("PLAY [Deploy SSH into containers]")[1:]
    assert len(batches) == 2
    assert all("/home/daemon is writable by other users" in said for said in batches)
    assert "omitted" not in done.said
    assert listing() == deployed


def test_a_rollout_ends_when_too_many_nodes_fail(deployed: dict[str, str], tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.json"
    nodes = {"bad": {"ssh_hook_base_dir": "/no/homes"}, "good": {}, "next": {}}
    hosts.write_text(json.dumps({"all": {"hosts": nodes}}), encoding="utf-8")
    batches: dict[str, object] = {"ssh_hook_serial": 2}
    for most, plays in ((None, 2), (40, 1)):
        site = {**batches, "ssh_hook_max_fail_percentage": most}
        done = play("deploy", "--tags=preflight", inventory=str(hosts), variables=site)
        begun = done.said.count("PLAY [Deploy SSH into containers]")
        assert (done.status, begun) == (2, plays), done.said
    assert listing() == deployed


def test_engine_nodes_and_a_login_node_without_an_engine_in_one_play(deployed: dict[str, str], tmp_path: Path) -> None:
    """As the README's inventory has them. The login node has an /opt and files of engines of its own."""
    own, home = tmp_path / "opt", Path("/home/daemon")
    own.mkdir(mode=0o755)
    home.mkdir(exist_ok=True)
    os.chown(home, 1, 1)
    hidden = ["podman", "crun", "runc"]
    binds = [f"mount --bind {own} /opt", *(f'mount --bind /dev/null "$(command -v {name})"' for name in hidden)]
    binds += [f"if [ -d {path.parent} ]; then mount -t tmpfs none {path.parent}; fi" for path in (HOOK_JSON, CDI_SPEC)]
    inner = " && ".join([*binds, 'exec /usr/bin/python3 "$@"'])
    login = tmp_path / "python3"
    login.write_text(f'#!/bin/sh\nexec unshare --mount sh -c {shlex.quote(inner)} - "$@"\n', encoding="utf-8")
    login.chmod(0o755)
    pythons = {"compute_nodes": ("node", "/usr/bin/python3"), "login_nodes": ("login", str(login))}
    groups: dict[str, dict[str, object]] = {
        group: {"hosts": {name: {"ansible_python_interpreter": python}}} for group, (name, python) in pythons.items()
    }
    groups["login_nodes"]["vars"] = {"ssh_hook_dev_template": "/srv/dev.sh"}
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps({"all": {"children": groups}}), encoding="utf-8")
    site = {**BY_GROUPS, "ansible_python_interpreter": None, "ssh_hook_users": ["daemon"]}
    for pattern in ("compute_nodes:login_nodes", "login_nodes:compute_nodes"):
        done = play("deploy", inventory=str(hosts), variables={**site, "ssh_hook_hosts": pattern})
        assert done.status == 0, done.said
        assert "login has no container engine, and gets only the users' commands of ssh_hook" in done.words
        assert "node has no container engine" not in done.words
    assert done.changed == 0, done.said
    assert sorted(path.name for path in (own / "oci-hooks").iterdir()) == [
        *("bin", "etc", "lib", "share", "ssh"),
    ]
    launcher = (own / "oci-hooks/bin/ssh_hook").read_text(encoding="utf-8")
    assert "CLIENT_ONLY" in launcher and '"DEV_TEMPLATE": "/srv/dev.sh"' in launcher
    assert listing() == deployed


def test_a_site_whose_nodes_do_not_wait_for_one_another(deployed: dict[str, str], tmp_path: Path) -> None:
    """The strategy "free" of its ansible.cfg, with a slow node that the tasks for all nodes have to wait for."""
    slow = tmp_path / "python3"
    slow.write_text('#!/bin/sh\nsleep 2\nexec /usr/bin/python3 "$@"\n', encoding="utf-8")
    slow.chmod(0o755)
    hosts = tmp_path / "hosts.json"
    described = {
        "node": {"ansible_python_interpreter": "/usr/bin/python3"},
        "slow": {"ansible_python_interpreter": str(slow)},
    }
    hosts.write_text(json.dumps({"all": {"hosts": described}}), encoding="utf-8")
    site: dict[str, object] = {"ansible_python_interpreter": None, "ssh_hook_users": ["daemon"]}
    free = ("env", "ANSIBLE_STRATEGY=free")
    done = play("deploy", before=free, inventory=str(hosts), variables=site)
    assert done.status == 0, done.said
    assert listing() == deployed
    site["ssh_hook_remove_keys_of"] = ["daemon"]
    for playbook, arguments in (("audit", ()), ("remove", ("--check",))):
        done = play(playbook, *arguments, before=free, inventory=str(hosts), variables=site)
        assert done.status == 0, done.said
    assert listing() == deployed


def test_a_node_of_another_architecture_does_not_keep_the_others_from_it(
    deployed: dict[str, str], tmp_path: Path
) -> None:
    interpreter = tmp_path / "python3"
    interpreter.write_text('#!/bin/sh\nexec setarch i686 /usr/bin/python3 "$@"\n', encoding="utf-8")
    interpreter.chmod(0o755)
    hosts = tmp_path / "hosts.json"
    nodes = {"node": "/usr/bin/python3", "old": str(interpreter)}
    described = {name: {"ansible_python_interpreter": python} for name, python in nodes.items()}
    hosts.write_text(json.dumps({"all": {"hosts": described}}), encoding="utf-8")
    harm()
    done = play("deploy", inventory=str(hosts), variables={"ansible_python_interpreter": None})
    assert done.status == 2, done.said
    assert "old is i686, and the role dropbear builds programs only for aarch64, ppc64le, riscv64, x86_64: leave" in (
        done.words
    )
    assert re.search(r"^node +: .* failed=0 ", done.said, re.MULTILINE), done.said
    assert listing() == deployed


def test_a_user_without_root_becomes_root(deployed: dict[str, str], tmp_path: Path) -> None:
    rule = Path("/etc/sudoers.d/role-test")
    rule.write_text("daemon ALL=(root) NOPASSWD: ALL\n", encoding="utf-8")
    home = Path("/run/role-test-controller")
    home.mkdir()
    os.chown(home, 1, 1)
    as_daemon = (
        *("setpriv", "--reuid=1", "--regid=1", "--init-groups", "env", f"HOME={home}", f"ANSIBLE_HOME={home}/ansible"),
        *(f"ANSIBLE_REMOTE_TMP={home}/tmp", f"ANSIBLE_LOCAL_TEMP={home}/local"),
    )
    # What root has built; this user may not write there.
    programs = home / "build"
    shutil.copytree(str(SETTINGS["dropbear_build_dir"]), programs)
    for path in (programs, *programs.rglob("*")):
        os.chown(path, 1, 1, follow_symlinks=False)
    variables: dict[str, object] = {"ansible_become_flags": "-H -S -n", "dropbear_build_dir": str(programs)}
    harm()
    try:
        done = play("deploy", before=as_daemon, variables=variables)
        assert done.status == 0, done.said
        again = play("deploy", before=as_daemon, variables=variables)
    finally:
        rule.unlink()
        shutil.rmtree(home)
    assert (again.status, again.changed) == (0, 0), again.said
    assert listing() == deployed


@pytest.mark.parametrize("age", ["oldest", "newest"])
def test_another_ansible_core_does_the_same(deployed: dict[str, str], age: str) -> None:
    core = ROOT / ".cache" / f"core-{age}"
    assert Path(core, "bin/ansible-playbook").exists(), sys.path
    site: dict[str, object] = {"ssh_hook_users": ["daemon"]}
    harm()
    checked = play("deploy", "--check", "--diff", core=core, variables=site)
    assert checked.status == 0, checked.said
    assert checked.changed > 0
    for playbook in ("deploy", "audit"):
        done = play(playbook, core=core, variables=site)
        assert done.status == 0, done.said
        assert "DEPRECATION" not in done.said
    assert done.changed == 0
    again = play("deploy", core=core, variables=site)
    assert (again.status, again.changed) == (0, 0), again.said
    assert listing() == deployed
    wrong = play("deploy", core=core, variables={"ssh_hook_server_prot": 1})
    refused(deployed, wrong, "did you mean ssh_hook_server_port?")
    none = play("audit", core=core, variables={"ssh_hook_hosts": "nobody"})
    refused(deployed, none, "No host of the inventory matches 'nobody'")
