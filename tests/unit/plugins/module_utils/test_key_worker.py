"""The work of the module user_keys, in the interpreter of its own that does it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _key_worker as key_worker
from ansible_collections.ocihooks.ssh.plugins.module_utils._as_user import AsUserError
from ansible_collections.ocihooks.ssh.plugins.module_utils._keys import store
from ansible_collections.ocihooks.ssh.plugins.module_utils._keys.passwd import Entry

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(autouse=True)
def collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkout where another interpreter finds it, as Ansible's own archive of a module would hold it."""
    place = tmp_path / "collections"
    (place / "ansible_collections/ocihooks").mkdir(parents=True)
    (place / "ansible_collections/ocihooks/ssh").symlink_to(ROOT)
    monkeypatch.syspath_prepend(str(place))
    return place


def users(base: Path, *names: str) -> list[Entry]:
    """Entries of the user who runs the tests, by these names, with a home each."""
    for name in names:
        (base / name).mkdir(parents=True, mode=0o755, exist_ok=True)
    return [Entry(name, os.geteuid(), os.getegid(), "", "/", "/bin/sh") for name in names]


def run(base: Path, *names: str, check_mode: bool = False) -> dict[str, Any]:
    params = {"base_dir": str(base), "key_type": "ed25519", "overwrite": False, "state": "present", "users": None}
    return {user.name: outcome for user, outcome in key_worker.run(users(base, *names), params, check_mode)}


def test_every_user_is_served(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(9)]
    outcomes = run(tmp_path / "homes", *names)
    assert sorted(outcomes) == names
    for name, outcome in outcomes.items():
        keys = store.load(str(tmp_path / "homes" / name / ".oci-hooks/ssh/keys"), name)
        assert (outcome["changed"], outcome["before"]) == (True, "")
        assert outcome["fingerprint"] == store.fingerprint(keys)


def test_who_has_keys_is_seen_without_what_makes_them(tmp_path: Path, collections: Path) -> None:
    names = [f"user{number}" for number in range(9)]
    made = run(tmp_path / "homes", *names)
    (collections / "cryptography").mkdir()
    (collections / "cryptography/__init__.py").write_text("raise ImportError('none here')\n", encoding="utf-8")
    for check_mode in (False, True):
        seen = run(tmp_path / "homes", *names, check_mode=check_mode)
        assert seen == {name: {**made[name], "changed": False, "before": made[name]["after"]} for name in names}


def test_in_check_mode_nothing_is_made(tmp_path: Path) -> None:
    outcomes = run(tmp_path / "homes", "alice", check_mode=True)
    assert outcomes["alice"]["after"] == "(new)\n"
    assert list((tmp_path / "homes/alice").iterdir()) == []


def test_what_one_user_lacks_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "homes").mkdir()
    alice, bob = users(tmp_path / "homes", "alice", "bob")
    (tmp_path / "homes/alice").rmdir()
    params = {"base_dir": str(tmp_path / "homes"), "key_type": "ed25519", "overwrite": False, "state": "present"}
    outcomes = dict(key_worker.run([alice, bob], params, False))
    assert f"{tmp_path}/homes/alice" in outcomes[alice]["missing_home"]
    assert outcomes[bob]["changed"]


def test_a_home_of_another_does_not_stop_the_others(tmp_path: Path) -> None:
    alice, bob = users(tmp_path / "homes", "alice", "bob")
    (tmp_path / "homes/alice").chmod(0o777)
    params = {"base_dir": str(tmp_path / "homes"), "key_type": "ed25519", "overwrite": False, "state": "present"}
    outcomes = dict(key_worker.run([alice, bob], params, False))
    assert isinstance(outcomes[alice], AsUserError)
    assert f"{tmp_path}/homes/alice" in str(outcomes[alice])
    assert outcomes[bob]["changed"]


def test_a_missing_library_is_told_before_anything_is_done(tmp_path: Path, collections: Path) -> None:
    (collections / "cryptography").mkdir()
    (collections / "cryptography/__init__.py").write_text("raise ImportError('none here')\n", encoding="utf-8")
    with pytest.raises(key_worker.WorkerImportError, match="ImportError: none here"):
        run(tmp_path / "homes", "alice")
    assert list((tmp_path / "homes/alice").iterdir()) == []


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "status -9"),
        ("import sys; sys.exit('no luck')", "no luck"),
        ("sys.stdin.close(); sys.exit('no luck')", "no luck"),
        ("import json; print(json.dumps([0, {}, None]), flush=True); import os; os.kill(os.getpid(), 9)", "status -9"),
    ],
)
def test_a_worker_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str) -> None:
    monkeypatch.setattr(key_worker, "_PROGRAM", f"import sys; sys.stdin.read(); {program}")
    outcomes = run(tmp_path / "homes", "alice", "bob")
    assert str(outcomes["bob"]) == f"the process that works for the users ended unexpectedly: {reason}"
    assert ("json" in program) == (outcomes["alice"] == {})
