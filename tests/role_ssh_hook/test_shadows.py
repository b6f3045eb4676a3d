"""Neither files of a site's own, with the names of the roles' files, nor the answers of a node steer a play.

The node is as it was before anything was deployed, and so it is afterwards.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from node import CDI_SPEC, HOOK_JSON, LAUNCHER, ROOT, listing, play
from test_facts import SITE, THEIRS, imported, liar, site

ROLES = ("dropbear", "ssh_hook")
FOLDERS = ("defaults", "files", "handlers", "meta", "tasks", "templates", "vars")
ENGINES = {
    "ssh_hook_enroot_hooks_dir": Path("/etc/enroot/hooks.d"),
    "ssh_hook_podman_hpc_modules_dir": Path("/etc/podman_hpc/modules.d"),
    "ssh_hook_slurm_prolog_dir": Path("/etc/slurm/prolog.d"),
    "ssh_hook_slurm_epilog_dir": Path("/etc/slurm/epilog.d"),
}
# With what they name, the roles read all of their templates.
EVERYTHING: dict[str, object] = {"ssh_hook_cdi": True, **{name: str(path) for name, path in ENGINES.items()}}
WRONG_TASK = "- name: A task of the site\n  ansible.builtin.fail:\n    msg: a file of the site ran\n"
WRONG_TEXT = "{{ of_the_site_and_undefined }}\n"


def files_of_roles() -> list[Path]:
    """The files of both roles, relative to the role."""
    trees = [ROOT / "roles" / role for role in ROLES]
    return sorted({path.relative_to(tree) for tree in trees for path in tree.rglob("*") if path.is_file()})


def shadow(site: Path) -> int:
    """Write a file of each name that the roles load wherever Ansible might look for it; return how many."""
    written = set()
    for path in files_of_roles():
        inside = Path(*path.parts[1:]) if path.parts[0] in FOLDERS else path
        for folder in ("", *FOLDERS, *(f"roles/{role}/{folder}" for role in ROLES for folder in FOLDERS)):
            for name in (inside, Path(inside.name)):
                wrong = site / folder / name
                wrong.parent.mkdir(parents=True, exist_ok=True)
                wrong.write_text(WRONG_TASK if wrong.suffix == ".yml" else WRONG_TEXT, encoding="utf-8")
                written.add(wrong)
    for plugin in (ROOT / "plugins").glob("*/*.py"):
        for folder in ("library", f"{plugin.parent.name}_plugins", plugin.parent.name):
            wrong = site / folder / plugin.name
            wrong.parent.mkdir(exist_ok=True)
            wrong.write_text("raise SystemExit('a plugin of the site ran')\n", encoding="utf-8")
            written.add(wrong)
    return len(written)


@pytest.fixture
def engines() -> Iterator[None]:
    """Directories of the engines whose files the roles write, and of the CDI spec."""
    for path in (*ENGINES.values(), CDI_SPEC.parent):
        path.mkdir(parents=True)
    yield
    for path in (*(path.parent for path in ENGINES.values()), CDI_SPEC.parent):
        shutil.rmtree(path, ignore_errors=True)


def known_names() -> set[str]:
    """Every name of a variable that the inventory, the playbooks and the roles have."""
    names = set(SITE)
    for path in [*(ROOT / "playbooks").glob("*.yml"), *(ROOT / "roles").rglob("*.yml")]:
        names |= set(re.findall(r"\b(?:ssh_hook|dropbear|ansible)_\w+", path.read_text(encoding="utf-8")))
    for role in ROLES:
        for folder in ("defaults", "vars"):
            names |= set(yaml.safe_load((ROOT / "roles" / role / folder / "main.yml").read_text(encoding="utf-8")))
    return names | {"inventory_hostname", "groups", "hostvars", "role_path", "item"}


NOTHING_IS_SET: dict[str, object] = {
    "name": "The site's next play",
    "hosts": "all",
    "gather_facts": False,
    "tasks": [
        {
            "name": "Have no facts, and no other hosts",
            "ansible.builtin.assert": {
                "that": [
                    "ansible_facts | length == 0",
                    "groups.all == ['node']",
                    "'added' not in groups",
                    *(f"{name} == {value!r}" for name, value in SITE.items() if value),
                ]
            },
        }
    ],
}


@pytest.fixture
def home() -> Iterator[None]:
    """A home of the user daemon."""
    path = Path("/home/daemon")
    path.mkdir()
    os.chown(path, 1, 1)
    yield
    shutil.rmtree(path)


@pytest.mark.parametrize("age", ["oldest", "newest"])
def test_neither_files_of_a_site_nor_a_nodes_answers_steer_a_play(
    tmp_path: Path, age: str, as_on_systemd: tuple[str, ...], engines: None, home: None
) -> None:
    """Of a site with a file of every name that the roles load, wherever Ansible might look for it, and of a node that
    answers each name that anybody knows, whatever it is asked: by imported playbooks, and by a play with the roles.

    Then, by the playbook's name, an honest node of that site gets the very same.
    """
    assert shadow(tmp_path) > 1000
    before, core = listing(), ROOT / ".cache" / f"core-{age}"
    there = (*as_on_systemd, "env", f"--chdir={tmp_path}")
    python, log = liar(tmp_path, dict.fromkeys(known_names(), THEIRS))
    roles = {"hosts": "all", "gather_facts": False, "roles": [f"ocihooks.ssh.{role}" for role in ROLES]}
    plays = [imported("deploy"), NOTHING_IS_SET, imported("audit"), imported("remove"), NOTHING_IS_SET]
    plays.append({**roles, "vars": {"dropbear_prefix": "/opt/oci-hooks"}})
    hosts, playbook = site(tmp_path, {"node": str(python)}, *plays)
    own = {**EVERYTHING, "ansible_python_interpreter": None, "ssh_hook_users": ["daemon"]}
    done = play(playbook, before=there, core=core, inventory=hosts, variables=own)
    assert done.status == 0, done.said
    assert THEIRS not in done.said
    asked = set(log.read_text(encoding="utf-8").split())
    modules = {"setup", "node_facts", "dropbear_programs", "hook_package", "passwd_file", "engine_files", "secure_path"}
    assert modules | {"systemd_timers", "empty_directories"} <= asked
    by_roles = listing()
    assert {str(path) for path in (HOOK_JSON, CDI_SPEC, LAUNCHER)} <= set(by_roles)
    HOOK_JSON.write_text(HOOK_JSON.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    repaired = play("deploy", before=there, core=core, variables=EVERYTHING)
    assert repaired.status == 0, repaired.said
    assert listing() == by_roles
    removed = play("remove", before=there, core=core, variables=EVERYTHING)
    assert removed.status == 0, removed.said
    for path in (*ENGINES.values(), CDI_SPEC.parent):
        path.mkdir(parents=True, exist_ok=True)
    assert listing() == before


def test_the_last_task_of_a_deployment_notices_a_hook_that_is_not_there(tmp_path: Path) -> None:
    """Where a deployment's tasks are others, which do nothing."""
    subprocess.run([ROOT / "tests/snapshot", tmp_path], check=True)
    tasks = tmp_path / "ansible_collections/ocihooks/ssh/roles/ssh_hook/tasks"
    before = listing()
    for name in ("install", "configure", "verify"):
        nothing = "- name: Do nothing\n  ansible.builtin.debug:\n"
        (tasks / f"{name}.yml").write_text(nothing, encoding="utf-8")
    done = play("deploy", collections=str(tmp_path))
    assert done.status == 2, done.said
    assert "The hook on node was not verified" in done.words
    removed = play("remove")
    assert removed.status == 0, removed.said
    assert listing() == before


def test_a_skipped_tag_is_noticed_where_there_is_no_hook() -> None:
    before = listing()
    for tag in ("install", "configure"):
        done = play("deploy", f"--skip-tags={tag}")
        assert done.status == 2, done.said
        assert "The hook on node was not verified" in done.words
        removed = play("remove")
        assert removed.status == 0, removed.said
        assert listing() == before
    assert play("deploy", "--tags=keys").status == 0
    assert listing() == before
