"""Finding a container's user in PASSWD_FILE, which is read in parts."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import cast

import pytest
from ssh_hook.errors import HookError
from ssh_hook.keys import passwd
from ssh_hook.linux.identity import Identity
from ssh_hook.node import owner
from ssh_hook.node.engine import NOBODY, Engine
from ssh_hook.oci.settings import Settings


def lines(numbers: random.Random, count: int) -> bytes:
    """Entries of all lengths, with uids of which some are there twice; and lines that are none."""
    text = ""
    for index in range(count):
        uid = numbers.randrange(1000, 1000 + count)
        text += f"user{index}:x:{uid}:{uid}:{'x' * numbers.randrange(40)}:/home/user{index}:/bin/bash\n"
        text += numbers.choice(["", "", "\n", "# a comment\n", f"half:x:{uid}\n"])
    return text.encode()


@pytest.mark.parametrize("end", [b"", b"last:x:999:999::/:/bin/sh", b"last:x:999:999::/:/bin/sh\n"])
@pytest.mark.parametrize("size", [128, 129, 200, 1000, 1 << 20])
def test_parts_hold_what_the_whole_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, end: bytes
) -> None:
    monkeypatch.setattr(owner, "_CHUNK", size)
    path = tmp_path / "passwd"
    data = lines(random.Random(size), 60) + end
    path.write_bytes(data)
    for uid in (0, 999, *range(1000, 1062)):
        found, expected = owner._find_by_uid(str(path), uid), passwd.find_by_uid(data, uid)
        assert (found and (found.name, found.shell)) == (expected and (expected.name, expected.shell))


def test_a_line_that_is_longer_than_a_part_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_bytes(b"a:x:1:1::/:\n" + b"x" * (1 << 20) + b"\nb:x:2:2::/:\n")
    assert owner._find_by_uid(str(path), 1) is not None
    with pytest.raises(HookError, match=f"^PASSWD_FILE {path} has a line of more than 65536 bytes: refresh the file$"):
        owner._find_by_uid(str(path), 2)


@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_file_without_users(tmp_path: Path, size: int) -> None:
    path = tmp_path / "passwd"
    path.write_bytes(b"\n" * size)
    assert owner._find_by_uid(str(path), 1000) is None


def test_a_pipe_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(HookError, match=f"^cannot read {path}: Illegal seek$"):
            owner._find_by_uid(str(path), 1000)
    finally:
        os.close(descriptor)


class Runner(Engine):
    """An engine with `host_uid`; `is_rootless`, in a user namespace."""

    def __init__(self, host_uid: int, is_rootless: bool) -> None:
        self.host_uid = host_uid
        self.is_rootless = is_rootless


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\nalice:x:2001:2001::/:\nbob:x:2002:2002::/:\n")
    values = {"HOOK_BASE_DIR": "/home", "DROPBEAR_DIR": "/opt", "SERVER_PORT_DEFAULT": "1"}
    values.update(PASSWD_FILE=str(tmp_path / "passwd"), REQUIRE_USER_ANNOTATION="true")
    return Settings(values)


@pytest.mark.parametrize("login", [2**32 - 1, 0])
@pytest.mark.parametrize(
    "engine",
    [
        Runner(0, False),
        Runner(0, True),  # root of a system container, whose ids are the node's
        Runner(100000, True),  # root of a system container with ids of its own
        Runner(NOBODY, True),
    ],
    ids=["node", "same ids", "own ids", "unknown"],
)
def test_a_rootful_engine_vouches_for_nobody(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, engine: Engine, login: int
) -> None:
    """In a user namespace, as of a system container, it is rootful all the same."""
    monkeypatch.setattr(owner, "login_uid", lambda: login)
    with pytest.raises(HookError, match=r"name the user with the annotation com\.hooks\.ssh\.user=alice"):
        owner.find_owner(Identity(2001, 2001), engine, settings, "")
    found = owner.find_owner(Identity(2001, 2001), engine, settings, "alice")
    assert (found.name, found.file_owner.uid, found.user.uid, found.is_vouched) == ("alice", 2001, 2001, True)
    settings.require_user_annotation = False
    assert not owner.find_owner(Identity(2001, 2001), engine, settings, "").is_vouched
    assert not owner.find_owner(Identity(2001, 2001), engine, settings, "alice").is_vouched


def test_a_login_vouches_for_its_user(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(owner, "login_uid", lambda: 2001)
    engine = cast(Engine, Runner(0, False))
    assert owner.find_owner(Identity(2001, 2001), engine, settings, "").is_vouched


def test_a_rootless_engine_is_its_users_own(settings: Settings) -> None:
    engine = cast(Engine, Runner(2002, True))
    found = owner.find_owner(Identity(2001, 2001), engine, settings, "")
    assert (found.name, found.file_owner.uid, found.user.uid, found.is_vouched) == ("bob", 0, 2001, True)
