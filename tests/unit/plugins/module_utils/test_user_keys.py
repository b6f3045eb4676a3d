from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _user_keys as user_keys
from ansible_collections.ocihooks.ssh.plugins.module_utils._as_user import AsUserError
from ansible_collections.ocihooks.ssh.plugins.module_utils._keys import store
from ansible_collections.ocihooks.ssh.plugins.module_utils._keys.passwd import Entry

PASSWD = b"""\
alice:x:1001:100::/home/alice:/bin/sh
1002:x:1003:100::/home/1002:/bin/sh
bob:x:1002:100::/home/bob:/bin/sh
twin:x:1002:100::/home/twin:/bin/sh
alice:x:2000:100::/home/second:/bin/sh
nobody:x:65534:65534::/:/bin/sh
"""


def chosen(entries: list[Entry]) -> list[tuple[str, int]]:
    return [(entry.name, entry.uid) for entry in entries]


def test_names_and_uids_are_found_once_each_in_the_order_asked_for() -> None:
    users, unknown = user_keys.select_users(PASSWD, ["bob", "1001", "alice", "65534"])
    assert chosen(users) == [("bob", 1002), ("alice", 1001), ("nobody", 65534)]
    assert unknown == []


def test_a_name_that_looks_like_a_uid_is_a_name() -> None:
    assert chosen(user_keys.select_users(PASSWD, ["1002"])[0]) == [("1002", 1003)]


def test_who_is_not_there_is_told() -> None:
    users, unknown = user_keys.select_users(PASSWD, ["zoe", "alice", "999", "", "01001", "zoe"])
    assert chosen(users) == [("alice", 1001)]
    assert unknown == ["", "01001", "999", "zoe"]


def test_a_range_of_uids_includes_its_ends() -> None:
    assert chosen(user_keys.users_in_range(PASSWD, 1001, 1002)) == [("alice", 1001), ("bob", 1002), ("twin", 1002)]
    assert user_keys.users_in_range(PASSWD, 3000, 1000) == []


def test_the_message_says_who_failed_and_why_and_who_was_served() -> None:
    results: list[dict[str, Any]] = [
        {"name": "alice", "error": None},
        {"name": "bob", "error": "no home"},
        {"name": "carol", "error": "no luck"},
    ]
    assert user_keys.failure_message(results, 0) == "2 of 3 users failed: bob: no home; carol: no luck. Done: alice."
    assert user_keys.failure_message(results[:1], 0) is None
    assert user_keys.failure_message(results[1:2], 0) == "1 of 1 users failed: bob: no home. Done: nobody."


def test_the_message_stays_readable_with_thousands_of_users() -> None:
    results = [{"name": f"user{number}", "error": "no home" if number % 2 else None} for number in range(10000)]
    message = user_keys.failure_message(results, 5000)
    assert message is not None
    assert len(message) < 1000
    assert "and 4980 more" in message
    assert message.endswith("set missing_homes to skip.")


def test_a_range_that_fails_returns_a_few_results_those_with_an_error_first() -> None:
    results = [{"name": f"user{number}", "error": "no home" if number % 7 == 6 else None} for number in range(100)]
    shown = [result["name"] for result in user_keys.bounded(results)]
    assert len(shown) == user_keys.NAMES_SHOWN
    failed = [f"user{number}" for number in range(6, 100, 7)]
    assert set(failed) < set(shown)
    assert shown == sorted(shown, key=lambda name: int(name[4:]))
    assert user_keys.bounded(results[:3]) == results[:3]


def test_the_homes_of_removed_users_are_found_by_name_uid_and_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bob", "carol", "roots"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    owners = {"bob": 1002, "carol": 1003, "roots": 0}
    real = os.stat

    def stat(path: Any, *args: Any, **kwargs: Any) -> Any:
        values = list(real(path, *args, **kwargs))
        values[4:6] = [owners.get(Path(path).name, 77)] * 2
        return os.stat_result(values)

    class Found:
        """An entry of a directory, with the owner that the test says."""

        def __init__(self, path: Path) -> None:
            self.name, self._path = path.name, path

        def is_dir(self) -> bool:
            return self._path.is_dir()

        def stat(self) -> Any:
            return stat(self._path)

    entries = [Found(tmp_path / name) for name in ("bob", "carol", "roots", "file", "dangling")]
    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "scandir", lambda _path: entries)
    base = str(tmp_path)
    for item in ("bob", "1002", f"{base}/bob", f"{base}//bob/"):
        homes, others = user_keys.homes_of_removed_users(f"{base}/", [item])
        assert [(home.name, home.uid, home.gid) for home in homes] == [("bob", 1002, 1002)]
        assert others == {}
    homes, others = user_keys.homes_of_removed_users(base, ["carol", "1003", "zoe", "1009", f"{base}/zoe"])
    assert chosen(homes) == [("carol", 1003)]
    assert others == {"zoe": None, "1009": None, f"{base}/zoe": None}
    homes, others = user_keys.homes_of_removed_users(base, ["roots", "0", "..", "a/b", "/elsewhere/bob", "/"])
    assert homes == []
    assert others.keys() == {"roots", "0", "..", "a/b", "/elsewhere/bob", "/"}
    for item, reason in (
        ("roots", "belongs to root"),
        ("0", "belongs to root"),
        ("..", "cannot be the name of a user"),
        ("a/b", "cannot be the name of a user"),
        ("/elsewhere/bob", f"is not in {base}: set base_dir"),
        ("/", f"is not in {base}: set base_dir"),
    ):
        assert reason in str(others[item])


def test_a_uid_may_have_a_home_that_autofs_has_not_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(user_keys, "MOUNTS", str(mounts))
    base = tmp_path / "homes"
    base.mkdir()
    for kind, path, hidden in (("autofs", base, True), ("nfs4", base, False), ("autofs", tmp_path / "other", False)):
        mounts.write_text(
            f"30 22 0:28 / {path} rw,relatime shared:9 - {kind} /etc/auto.home rw,fd=6\n", encoding="utf-8"
        )
        homes, others = user_keys.homes_of_removed_users(str(base), ["1002", "zoe"])
        assert (homes, others["zoe"]) == ([], None)
        assert (others["1002"] is not None) == hidden
    mounts.write_text(f"30 22 0:28 / {base} rw - autofs /etc/auto.home rw\n", encoding="utf-8")
    _homes, others = user_keys.homes_of_removed_users(str(base), ["1002"])
    assert f"of uid 1002 that is not mounted, since autofs manages {base}: name the home" in str(others["1002"])


@pytest.fixture
def alice(tmp_path: Path) -> Entry:
    """Return the user who runs the tests, with a home below tmp_path."""
    (tmp_path / "alice").mkdir(mode=0o755)
    return Entry("alice", os.geteuid(), os.getegid(), "", "/", "/bin/sh")


def task(base: Path, check_mode: bool = False, **params: Any) -> user_keys.KeyTask:
    defaults = {"base_dir": str(base), "key_type": "ed25519", "overwrite": False, "state": "present"}
    return user_keys.KeyTask({**defaults, **params}, check_mode)


def look(base: Path, user: Entry, **params: Any) -> dict[str, Any] | None:
    """What a look finds that is to stay; None where there is work, or something wrong."""
    try:
        return task(base, **params).look(user)
    except store.KeyStoreError:
        return None


def tree(base: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.lstat().st_mtime_ns) for path in base.rglob("*"))


@pytest.mark.parametrize(
    ("params", "first", "again"),
    [
        ({"state": "present"}, True, False),
        ({"state": "present", "key_type": "ecdsa"}, True, False),
        ({"state": "present", "overwrite": True}, True, True),
        ({"state": "absent"}, False, False),
    ],
)
def test_check_run_check_run(tmp_path: Path, alice: Entry, params: dict[str, Any], first: bool, again: bool) -> None:
    for expected in (first, again):
        before = tree(tmp_path)
        foretold = task(tmp_path, True, **params)(alice)
        seen = look(tmp_path, alice, **params)
        assert tree(tmp_path) == before
        assert seen == (None if expected else foretold)
        done = task(tmp_path, **params)(alice)
        assert foretold["changed"] is done["changed"] is expected
        assert foretold["before"] == done["before"]
        assert foretold["host_key_names"] == done["host_key_names"]
        assert (done["before"] != done["after"]) is expected
        assert (foretold["before"] != foretold["after"]) is expected


def test_absent_removes_what_present_made(tmp_path: Path, alice: Entry) -> None:
    made = task(tmp_path)(alice)
    assert task(tmp_path, True, state="absent")(alice)["changed"]
    removed = task(tmp_path, state="absent")(alice)
    assert (removed["changed"], removed["before"], removed["after"]) == (True, made["after"], "")
    assert not task(tmp_path, state="absent")(alice)["changed"]
    assert list((tmp_path / "alice").iterdir()) == []


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_broken_set_is_an_error_unless_it_is_to_be_replaced_or_removed(
    tmp_path: Path, alice: Entry, check_mode: bool
) -> None:
    task(tmp_path)(alice)
    Path(store.key_directory(str(tmp_path), "alice"), "id_dropbear").unlink()
    with pytest.raises(store.KeyStoreError, match="id_dropbear is missing"):
        task(tmp_path, check_mode)(alice)
    assert look(tmp_path, alice) is None
    outcome = task(tmp_path, check_mode, overwrite=True)(alice)
    assert outcome["changed"]
    assert outcome["before"] == "(not a valid key set)\n"
    Path(store.key_directory(str(tmp_path), "alice"), "id_dropbear").write_bytes(b"")
    assert task(tmp_path, check_mode, state="absent")(alice)["changed"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_missing_home_is_told_apart_from_other_errors(tmp_path: Path, alice: Entry, check_mode: bool) -> None:
    (tmp_path / "alice").rmdir()
    for state in ("present", "absent"):
        work = task(tmp_path, check_mode, state=state)
        outcome = work(alice)
        assert outcome == work.look(alice)
        assert user_keys.has_no_home(outcome)
        result = work.result(alice, outcome)
        assert not result["changed"]
        assert result["error"] == (
            f"cannot open the user's directory {tmp_path}/alice: No such file or directory"
            if state == "present"
            else None
        )
    (tmp_path / "alice").write_text("", encoding="utf-8")
    with pytest.raises(store.KeyStoreError, match="Not a directory"):
        task(tmp_path, check_mode)(alice)
    assert not user_keys.has_no_home(AsUserError("no luck"))
    assert not user_keys.has_no_home({"changed": True})


def test_what_a_killed_writer_left_is_work(tmp_path: Path, alice: Entry) -> None:
    made = task(tmp_path)(alice)
    left = Path(store.key_directory(str(tmp_path), "alice")).parent / "keys.tmp.0123"
    left.mkdir()
    assert look(tmp_path, alice) is None
    assert not task(tmp_path)(alice)["changed"]
    assert not left.exists()
    assert look(tmp_path, alice) == {**made, "changed": False, "before": made["after"]}


def test_a_set_of_the_other_type_is_kept(tmp_path: Path, alice: Entry) -> None:
    made = task(tmp_path, key_type="ecdsa")(alice)
    before = tree(tmp_path)
    outcome = task(tmp_path)(alice)
    assert outcome == look(tmp_path, alice) == {**made, "changed": False, "before": made["after"]}
    assert outcome["host_key_names"] == ["dropbear_ecdsa_host_key"]
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("key_type", "kind", "names"),
    [
        ("ed25519", "ssh-ed25519", ["dropbear_ed25519_host_key", "dropbear_ecdsa_host_key"]),
        ("ecdsa", "ecdsa-sha2-nistp256", ["dropbear_ecdsa_host_key"]),
    ],
)
def test_results_hold_public_things_only(
    tmp_path: Path, alice: Entry, key_type: str, kind: str, names: list[str]
) -> None:
    work = task(tmp_path, key_type=key_type)
    outcome = work(alice)
    result = work.result(alice, outcome)
    assert result["error"] is None
    assert result["public_key"].startswith(f"{kind} AAAA")
    assert result["fingerprint"].startswith("SHA256:")
    paths = result["paths"]
    assert paths["host_keys"] == [f"{paths['directory']}/{name}" for name in names]
    assert paths["host_key"] == paths["host_keys"][0]
    assert all(map(os.path.isfile, [paths["private_key"], paths["authorized_keys"], *paths["host_keys"]]))
    keys = store.load(result["paths"]["directory"], "alice")
    for text in (repr(result), repr(outcome), repr(user_keys.difference(result, outcome))):
        for private in (keys.id_dropbear, *keys.host_keys.values()):
            secret = private[-64:-32] if b"ed25519" in private else private[-32:]  # then the public key follows
            assert secret.hex() not in text
            assert repr(secret[-8:])[2:-1] not in text


def test_an_error_is_a_result(tmp_path: Path, alice: Entry) -> None:
    result = task(tmp_path).result(alice, AsUserError("no luck"))
    assert (result["changed"], result["error"], result["public_key"]) == (False, "no luck", None)
    assert user_keys.unknown_user("zoe", "no such user").keys() == result.keys()
