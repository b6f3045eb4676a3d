"""Facts, which outrank a site's variables: those that others have set are noticed (test_shadows.py: a node sets none).

The node is as it was before anything was deployed, and so it is afterwards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from node import HOOK_JSON, listing, play

THEIRS = "what the node wants"
SITE = {"site_python": "/usr/bin/python3", "site_reports": "", "site_hooks": str(HOOK_JSON.parent)}
# Runs a module, adds to its answer what would set variables, and tells which module it was.
LIAR = """#!/usr/bin/python3
import json, re, subprocess, sys
module = sys.stdin.buffer.read()
done = subprocess.run(["/usr/bin/python3", *sys.argv[1:]], input=module, stdout=subprocess.PIPE)
try:
    answer = json.loads(done.stdout)
except ValueError:
    sys.stdout.buffer.write(done.stdout)
    sys.exit(done.returncode)
lie = json.loads({lie!r})
answer["ansible_facts"] = {{**answer.get("ansible_facts", {{}}), **lie.pop("ansible_facts")}}
with open({log!r}, "a") as log:
    names = re.findall(rb"modules[.](\\w+)", module) + re.findall(rb"modules/(\\w+)[.]py", module)
    log.write("".join(name.decode() + "\\n" for name in names))
print(json.dumps({{**answer, **lie}}))
sys.exit(done.returncode)
"""


def liar(directory: Path, facts: dict[str, object]) -> tuple[Path, Path]:
    """Write an interpreter of a node that adds facts to the answer of each module; return it, and its log."""
    log = directory / "asked"
    lie = {
        "ansible_facts": facts,
        "ansible_stats": {"data": facts, "per_host": False, "aggregate": False},
        "add_host": {"host_name": "added", "groups": ["compute_nodes"]},  # which ansible-core drops, with a warning
        "add_group": "added",
    }
    python = directory / "python3"
    python.write_text(LIAR.format(lie=json.dumps(lie), log=str(log)), encoding="utf-8")
    python.chmod(0o755)
    return python, log


def site(directory: Path, hosts: dict[str, str], *plays: object) -> tuple[str, str]:
    """Write a site's inventory with hosts and their interpreters, and its plays; return their paths."""
    described = {name: {"ansible_python_interpreter": python} for name, python in hosts.items()}
    inventory, playbook = directory / "hosts.json", directory / "site.yml"
    variables = {**SITE, "site_reports": str(directory / "reports"), "ssh_hook_python": "{{ site_python }}"}
    inventory.write_text(json.dumps({"all": {"hosts": described, "vars": variables}}), encoding="utf-8")
    playbook.write_text(json.dumps(plays), encoding="utf-8")
    return str(inventory), str(playbook.with_suffix(""))


def imported(name: str) -> dict[str, str]:
    """A playbook of the collection, in a site's."""
    return {"ansible.builtin.import_playbook": f"ocihooks.ssh.{name}"}


@pytest.fixture(scope="module")
def deployed() -> Iterator[dict[str, str]]:
    """What the node has after a deployment. It has a home of the user daemon."""
    before, home = listing(), Path("/home/daemon")
    home.mkdir()
    os.chown(home, 1, 1)
    done = play("deploy")
    assert done.status == 0, done.said
    yield listing()
    shutil.rmtree(home)
    removed = play("remove")
    assert removed.status == 0, removed.said
    assert listing() == before


GATHER: dict[str, object] = {"name": "The site's play before", "hosts": "all", "gather_facts": True}


def test_facts_that_stand_in_for_variables_of_the_site_end_that_hosts_part(
    deployed: dict[str, str], tmp_path: Path
) -> None:
    """An earlier play has gathered them, from the first host: it runs nothing on another, and writes no report."""
    python, _log = liar(tmp_path, {"site_python": "/tmp/python3", "site_reports": str(tmp_path / "theirs")})
    hosts, playbook = site(
        tmp_path, {"evil": str(python), "node": "/usr/bin/python3"}, GATHER, imported("deploy"), imported("audit")
    )
    variables: dict[str, object] = {
        "ansible_python_interpreter": None,
        "ssh_hook_users": ["daemon"],
        "ssh_hook_report_dir": "{{ site_reports }}/ssh",
    }
    done = play(playbook, inventory=hosts, variables=variables)
    assert done.status == 2, done.said
    assert (
        "Facts of evil, which an earlier play gathered, replace variables of the inventory ('site_python', "
        "'site_reports'): find out" in done.words
    )
    assert re.search(r"^node +: .* failed=0 ", done.said, re.MULTILINE), done.said
    assert not (tmp_path / "theirs").exists()
    assert listing() == deployed


def test_a_template_of_facts_does_not_count_for_all_hosts(deployed: dict[str, str], tmp_path: Path) -> None:
    hosts, playbook = site(tmp_path, {"node": "/usr/bin/python3"}, GATHER, imported("deploy"))
    variables: dict[str, object] = {
        "dropbear_version": "{{ ansible_facts.distribution_version }}",
        "dropbear_build_host": "{{ ansible_facts.nodename | default('localhost') }}",
        "ssh_hook_listen_addresses": ["{{ ansible_facts.lo.ipv4.address }}"],  # each host's own
    }
    done = play(playbook, inventory=hosts, variables=variables)
    assert done.status == 2, done.said
    for name in ("dropbear_version", "dropbear_build_host"):
        assert f"{name} is a template of facts, and the value of one host (node) would apply to all" in done.words
    assert "ssh_hook_listen_addresses is a template" not in done.words
    assert listing() == deployed


@pytest.mark.parametrize("cache", ["memory", "jsonfile"])
def test_the_sites_next_play_gathers_facts_itself(deployed: dict[str, str], tmp_path: Path, cache: str) -> None:
    """Where it gathers only from hosts whose facts it has not."""
    needs = {"name": "Read facts", "ansible.builtin.assert": {"that": "ansible_facts.memtotal_mb > 0"}}
    after: dict[str, object] = {"name": "The site's next play", "hosts": "all", "tasks": [needs]}
    hosts, playbook = site(tmp_path, {"node": "/usr/bin/python3"}, imported("deploy"), after)
    smart = (
        *("env", "ANSIBLE_GATHERING=smart", f"ANSIBLE_CACHE_PLUGIN={cache}"),
        f"ANSIBLE_CACHE_PLUGIN_CONNECTION={tmp_path / 'cache'}",
    )
    for _run in range(2 if cache == "jsonfile" else 1):  # the second with what the first has cached
        done = play(playbook, before=smart, inventory=hosts)
        assert (done.status, done.changed) == (0, 0), done.said
    assert listing() == deployed
