"""The file with what the hook said last, and whose it is."""

from __future__ import annotations

import json
import os
import posix
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.errors import DAEMON_FAILED, NO_SHELL, PORT_TAKEN, SYSTEM, HookError
from ssh_hook.log import ERROR, WARNING
from ssh_hook.node import last_messages


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the calling user's files, who is not root."""
    monkeypatch.setattr(last_messages, "Engine", lambda: SimpleNamespace(host_uid=7, is_rootless=True))
    places = [str(tmp_path / "none/at/all"), str(tmp_path / "place")]
    monkeypatch.setattr(last_messages, "user_directories", lambda uid: places)
    monkeypatch.setattr(last_messages, "_user_of", lambda bundle: 0)
    return tmp_path / "place"


def only(place: Path) -> Path:
    (path,) = (place / "last").iterdir()
    return path


def test_what_is_written_is_read(place: Path) -> None:
    last_messages.write("id", "/bundle", "7", [(WARNING, NO_SHELL, "be=ware"), (ERROR, PORT_TAKEN, "it failed: é")])
    assert not only(place).name.endswith(last_messages.WARNINGS)
    found = last_messages.read(str(only(place)))
    assert found is not None
    assert (found.container, found.bundle, found.job) == ("id", "/bundle", "7")
    assert found.messages == [("warning", NO_SHELL, "be=ware"), ("error", PORT_TAKEN, "it failed: é")]
    assert only(place).stat().st_mode & 0o777 == 0o600


def test_warnings_have_a_file_of_their_own(place: Path) -> None:
    last_messages.write("id", "/bundle", "", [(WARNING, NO_SHELL, "x")])
    assert only(place).name.endswith(last_messages.WARNINGS)


def test_a_watcher_writes_where_it_cannot_open(place: Path) -> None:
    """Its file is empty until then, and nothing of a longer text is left."""
    descriptor = last_messages.open_ended()
    assert only(place).name.endswith(last_messages.ENDED)
    assert last_messages.read(str(only(place))) is None
    for text in ("a longer text", "a text\nof two lines"):
        last_messages.write_ended(descriptor, "id", DAEMON_FAILED, text)
    os.close(descriptor)
    found = last_messages.read(str(only(place)))
    assert found is not None
    assert (found.container, found.messages) == ("id", [("error", DAEMON_FAILED, "a text\\nof two lines")])


def test_a_later_one_replaces_it(place: Path) -> None:
    for text in ("first", "second"):
        last_messages.write("id", "/bundle", "", [(ERROR, SYSTEM, text)])
    found = last_messages.read(str(only(place)))
    assert found is not None
    assert found.messages == [("error", SYSTEM, "second")]


def test_names_cannot_add_lines(place: Path) -> None:
    last_messages.write("a\nerror=x", "/b\nerror=y", "7\nerror=v", [(ERROR, SYSTEM, "z")])
    found = last_messages.read(str(only(place)))
    assert found is not None
    assert found.messages == [("error", SYSTEM, "z")]
    assert found.bundle == "/b\\nerror=y"


def test_roots_files_are_overwritten_and_read_by_their_user(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replacing them would wait for a user who has mounted FUSE on them."""
    monkeypatch.setattr(last_messages, "_user_of", lambda _bundle: 2001)
    monkeypatch.delattr(posix, "rename")
    monkeypatch.delattr(posix, "unlink")
    for text in ("a longer text", "a text"):
        last_messages.write("id", "/bundle", "", [(ERROR, SYSTEM, text)])
    last_messages.write("id", "/bundle", "", [(WARNING, NO_SHELL, "x")])
    error, warning = map(Path, last_messages.roots_paths(2001))
    assert sorted((node / "entries/2001").iterdir()) == [error, warning]
    assert last_messages.paths(2001)[:2] == [str(error), str(warning)]
    found = last_messages.read(str(error))
    assert found is not None and found.messages == [("error", SYSTEM, "a text")]
    error.write_bytes(b"\0" + error.read_bytes()[1:])
    assert last_messages.read(str(error)) is None  # being written


def test_a_place_that_others_can_write_to_is_not_used(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(OSError):
        last_messages.write("id", "/bundle", "", [(ERROR, SYSTEM, "x")])
    assert not (place / "last").exists() or not list((place / "last").iterdir())


def test_a_file_of_an_earlier_version_has_no_kinds(tmp_path: Path) -> None:
    """And a kind that is none, as of a later version, is left out."""
    lines = "warning=a\nerror=b\nkind=port-taken\nerror=c\nkind=of-later\nkind=port-taken"
    (tmp_path / "it").write_text(f"ssh_hook 1\ntime=1\ncontainer=x\n{lines}\n", encoding="ascii")
    found = last_messages.read(str(tmp_path / "it"))
    assert found is not None
    assert found.messages == [("warning", "", "a"), ("error", PORT_TAKEN, "b"), ("error", "", "c")]
    assert found.job == ""


@pytest.mark.parametrize("data", [b"ssh_hook 2\ntime=1\n", b"ssh_hook 1\ntime=x\n", b"ssh_hook 1\n", b"\xff" * 99])
def test_another_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "it").write_bytes(data)
    with pytest.raises(HookError, match="is not a file of this version of the hook: remove it"):
        last_messages.read(str(tmp_path / "it"))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "it")
    with pytest.raises(HookError, match="is not one of the hook's files: remove it"):
        last_messages.read(str(tmp_path / "it"))
    assert last_messages.read(str(tmp_path / "nothing")) is None


def user(uid: object, **linux: Any) -> dict[str, Any]:
    return {"process": {"user": {"uid": uid}}, "linux": linux}


MAPPED = {"namespaces": [{"type": "user"}], "uidMappings": [{"containerID": 0, "hostID": 5000, "size": 10}]}


@pytest.mark.parametrize(
    ("config", "uid"),
    [
        (user(2001), 2001),
        (user(3, **MAPPED), 5003),
        (user(11, **MAPPED), 0),
        (user(3, namespaces=[{"type": "user"}]), 0),
        (user(2**40), 0),
        (user(-1), 0),
        (user("2001"), 0),
        ({}, 0),
        ([], 0),
    ],
)
def test_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: object, uid: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(last_messages, "login_uid", lambda: 2**32 - 1)
    assert last_messages._user_of(str(tmp_path)) == uid
    monkeypatch.setattr(last_messages, "login_uid", lambda: 1000)
    assert last_messages._user_of(str(tmp_path)) == 1000, "the login that started the engine"


def test_no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_messages, "login_uid", lambda: 0)
    assert last_messages._user_of("") == 0
    assert last_messages._user_of("/no/such") == 0
