"""Finding a container's user in PASSWD_FILE, which is read in parts."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from ssh_hook import owner, passwd
from ssh_hook.errors import HookError


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
