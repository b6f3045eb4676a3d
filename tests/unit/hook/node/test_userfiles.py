"""Files of users that annotations name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ssh_hook.errors import ANNOTATION_WRONG, HookError
from ssh_hook.linux.identity import Identity
from ssh_hook.log import LogTarget
from ssh_hook.node.userfiles import log_target, may_be_new, parse_public_keys, read_public_keys

DEFAULT = LogTarget(2)


@pytest.mark.parametrize(
    ("path", "home", "may"),
    [
        ("/home/alice/hook.log", "/home/alice", True),
        ("/home/alice/jobs/1234/hook.log", "/home/alice/", True),
        ("/home/alice/hook", "/home/alice", False),
        ("/home/alice/.bashrc", "/home/alice", False),
        ("/home/alice/.log", "/home/alice", False),
        ("/home/alice/.ssh/rc.log", "/home/alice", False),
        ("/home/alice/../bob/x.log", "/home/alice", False),
        ("/home/alice//x.log", "/home/alice", False),
        ("/home/alicex/x.log", "/home/alice", False),
        ("/home/x.log", "/home/alice", False),
        ("/x.log", "/", False),
        ("/x.log", "", False),
        ("x.log", "", False),
    ],
)
def test_what_may_be_new(path: str, home: str, may: bool) -> None:
    assert may_be_new(path, home) == may


def caller() -> Identity:
    return Identity(os.geteuid(), os.getegid())


def test_a_new_log_below_the_home(tmp_path: Path) -> None:
    path = tmp_path / "hook.log"
    for line in (b"ssh_hook: error: a\n", b"ssh_hook: error: b\n"):
        log_target(str(path), caller(), str(tmp_path), DEFAULT).write(line)
    assert path.read_bytes() == b"ssh_hook: error: a\nssh_hook: error: b\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["hook", ".profile", "no/hook.log", "link.log"])
def test_what_is_not_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "link.log").symlink_to(".profile")
    with pytest.raises(HookError, match="cannot log to") as failure:
        log_target(str(tmp_path / name), caller(), str(tmp_path), DEFAULT)
    assert failure.value.kind == ANNOTATION_WRONG
    assert [path.name for path in tmp_path.iterdir()] == ["link.log"]


def test_certificate_in_place_of_a_public_key() -> None:
    line = b"# by the CA\nssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t alice\n"
    words = r"line 2 of it-cert.pub is a certificate, .*: give the file with the public key itself, such as id_ed25519"
    with pytest.raises(HookError, match=words):
        parse_public_keys(line, "it-cert.pub")


@pytest.mark.parametrize("name", ["missing", "directory", "loop", "file/below"])
def test_public_keys_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    with pytest.raises(
        HookError, match=r"com\.hooks\.ssh\.authorize_ssh_key: .*/test_public_keys_that_cannot"
    ) as caught:
        read_public_keys(str(tmp_path / name))
    assert caught.value.kind == ANNOTATION_WRONG
