"""`client-config --install`: one line at the top of ~/.ssh/config, and everything else as it was."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ssh_hook.commands import ssh_config
from ssh_hook.commands.ssh_config import put_on_top, take_out
from ssh_hook.errors import HookError

LINE = "Include ~/.oci-hooks/ssh/client/config"
FIRST = LINE.encode() + b"\n"
COPY = "config.before-ocihooks"


@pytest.fixture(name="home")
def fixture_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home of the caller, which is not $HOME and has nothing in it."""
    entry = pwd.struct_passwd(("alice", "x", os.getuid(), os.getgid(), "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: entry)
    monkeypatch.setenv("HOME", "/nonexistent")
    return tmp_path


@pytest.fixture(name="config")
def fixture_config(home: Path) -> Path:
    """Return the path of the caller's configuration; its directory exists."""
    (home / ".ssh").mkdir(mode=0o700)
    return home / ".ssh/config"


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.lstat().st_mode) for path in directory.iterdir()}


def test_new_file(home: Path) -> None:
    old_mask = os.umask(0)
    try:
        assert put_on_top(LINE) == f"{home}/.ssh/config"
    finally:
        os.umask(old_mask)
    assert (home / ".ssh/config").read_bytes() == FIRST
    assert modes(home) == {".ssh": 0o700} and modes(home / ".ssh") == {"config": 0o600}


@pytest.mark.parametrize(
    ("old", "others"),
    [
        (b"Host a\n    User b\n", b"Host a\n    User b\n"),
        (b"Host a\n    User b", b"Host a\n    User b"),
        (b"Host a\r\n\tUser \xff\x0c\n\n\n", b"Host a\r\n\tUser \xff\x0c\n\n\n"),
        (b"Host a\n    " + FIRST + b"Host b\n", b"Host a\nHost b\n"),  # below Host, the line was for one host only
        (FIRST + b"Host a\n" + FIRST, b"Host a\n"),
    ],
)
def test_all_else_stays(config: Path, old: bytes, others: bytes) -> None:
    config.write_bytes(old)
    config.chmod(0o640)
    assert put_on_top(LINE) == str(config)
    assert config.read_bytes() == FIRST + others
    assert (config.parent / COPY).read_bytes() == old
    assert modes(config.parent) == {"config": 0o640, COPY: 0o640}
    assert take_out(LINE) == str(config)
    assert config.read_bytes() == others


def test_second_run_changes_nothing(config: Path) -> None:
    config.write_bytes(b"Host a\n")
    put_on_top(LINE)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in config.parent.iterdir()}
    assert put_on_top(LINE) is None
    assert {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in config.parent.iterdir()} == before


def test_take_out_of_no_file(home: Path) -> None:
    assert take_out(LINE) is None
    assert not list(home.iterdir())


def test_link_stays(config: Path, home: Path) -> None:
    (home / "dotfiles").mkdir()
    target = home / "dotfiles/ssh"
    target.write_bytes(b"Host a\n")
    config.symlink_to("../dotfiles/ssh")
    assert put_on_top(LINE) == str(target)
    assert os.readlink(config) == "../dotfiles/ssh"
    assert target.read_bytes() == FIRST + b"Host a\n"
    assert modes(config.parent) == {"config": 0o777}


def refused(config: Path) -> None:
    before = modes(config.parent)
    with pytest.raises(HookError, match=f"cannot change {config}: "):
        put_on_top(LINE)
    assert modes(config.parent) == before


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.write_bytes(bytes(1 + (1 << 20)))])
def test_refused(config: Path, make: Callable[[Path], object]) -> None:
    make(config)
    refused(config)


def test_file_of_another(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_bytes(b"Host a\n")
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    refused(config)
    assert config.read_bytes() == b"Host a\n"


def test_full_disk_changes_nothing(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_bytes(b"Host a\n")

    def fail(_file: int, _mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ssh_config.os, "fchmod", fail)
    refused(config)
    assert config.read_bytes() == b"Host a\n"
