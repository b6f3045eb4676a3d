"""No module's answer sets a variable."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _node
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _answers

ROOT = Path(__file__).resolve().parents[4]
FACTS: dict[str, Any] = {
    "ansible_architecture": "x86_64",
    "ansible_os_family": "Debian",
    "ansible_pkg_mgr": "apt",
    "ansible_selinux": {"status": "disabled"},
    "ansible_user_dir": "/root",
    "ansible_user_uid": 0,
}


def test_what_sets_variables_is_dropped() -> None:
    lie: dict[str, Any] = {"ansible_facts": {"a": 1}, "ansible_stats": {}, "add_host": {}, "add_group": "b"}
    assert _answers.harmless({"changed": True, **lie}) == {"changed": True}
    failure = _answers.unexpected({"msg": "no\x1b", **lie}, "setup")
    assert failure == {"msg": "no\\x1b", "failed": True}


def test_what_a_node_has_shown_is_escaped() -> None:
    answer = {"warnings": ["a\x1b[2Jb\tc\n"], "diff": [{"prepared": "\x9bx\n"}], "msg": "\u202e", "path": "/\x1b"}
    assert _answers.harmless(answer) == {
        "warnings": ["a\\x1b[2Jb\tc\n"],
        "diff": [{"prepared": "\\x9bx\n"}],
        "msg": "\\u202e",
        "path": "/\x1b",  # a task may name it
    }


def test_every_module_has_an_action_plugin_that_drops_it() -> None:
    text = (ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8")
    routing = set(re.findall(r"^    (\w+):\n      action_plugin: ocihooks.ssh.without_facts$", text, re.MULTILINE))
    own = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "plugins" / "action").glob("*.py")}
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")}
    assert modules == {*routing, *own}
    asking = {name for name, text in own.items() if "_execute_module(" in text}
    assert asking == {name for name, text in own.items() if "class ActionModule(NodeAction)" in text}


def test_no_task_runs_a_module_of_another_collection_by_itself() -> None:
    """Those that run on the controller, and set what their own arguments say, are all that a task names."""
    harmless = {"assert", "debug", "fail", "import_role", "import_tasks", "include_role", "include_tasks", "set_fact"}
    for path in [*(ROOT / "playbooks").glob("*.yml"), *(ROOT / "roles").glob("*/tasks/*.yml")]:
        lines = [line.strip().split(":")[0] for line in path.read_text(encoding="utf-8").splitlines()]
        named = {line for line in lines if line.startswith(("ansible.", "community."))}
        assert named <= {f"ansible.builtin.{name}" for name in harmless}, path


SAMPLES: dict[str, Any] = {"bool": True, "dict": {}, "int": 7, "list": [], "str": ""}


def test_a_node_has_all_that_the_module_documents_with_its_types() -> None:
    """One that left something out would end tasks that run once, for all hosts, which read it."""
    returned = str(inspect.getdoc(_node.report)).partition("Returns:\n")[2]
    documented = re.findall(r"^    (\w+) \((\w+)\): ", returned, re.MULTILINE)
    assert dict(documented).keys() == _answers.NODE.keys()
    node = {name: SAMPLES[kind] for name, kind in documented}
    assert _answers.is_node(node)
    assert _answers.is_node({**node, **dict.fromkeys(("docker", "hook_settings", "port", "hook_version"))})
    assert _answers.is_node({**node, "port": "auto"})
    assert not _answers.is_node({**node, "port": "15263"})
    for name in node:
        assert not _answers.is_node({key: value for key, value in node.items() if key != name})
        assert not _answers.is_node({**node, name: b"other"})
    assert not _answers.is_node([])


def test_the_facts_that_the_roles_read_have_their_types() -> None:
    assert _answers.system_facts({**FACTS, "ansible_other": "x"}) == {
        "architecture": "x86_64",
        "os_family": "Debian",
        "pkg_mgr": "apt",
        "selinux": False,
        "user_dir": "/root",
        "user_uid": 0,
    }
    assert _answers.system_facts({**FACTS, "ansible_selinux": {"status": "enabled"}})["selinux"] is True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ansible_architecture", "x\n"),
        ("ansible_architecture", ["x86_64"]),
        ("ansible_os_family", "{{ 1 }}"),
        ("ansible_pkg_mgr", ""),
        ("ansible_selinux", "enabled"),
        ("ansible_user_dir", "root"),
        ("ansible_user_dir", "/root\n"),
        ("ansible_user_uid", True),
        ("ansible_user_uid", "0"),
    ],
)
def test_a_fact_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        _answers.system_facts({**FACTS, name: value})
    with pytest.raises(KeyError):
        _answers.system_facts({key: fact for key, fact in FACTS.items() if key != name})
