"""The hook's daemons on a node, and who else has their port."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _daemons as daemons


@pytest.mark.parametrize(
    ("mode", "uid", "device", "ours"),
    [
        (0o100111, 0, 64, True),
        (0o100111, 2001, 64, False),
        (0o100111, 0, 65, False),  # a file of an image
        (0o100755, 0, 64, False),
        (0o104111, 0, 64, False),
        (0o040111, 0, 64, False),
    ],
)
def test_a_removed_program_is_ours_only_as_the_role_installs_it(mode: int, uid: int, device: int, ours: bool) -> None:
    assert daemons.was_ours(os.stat_result((mode, 1, device, 0, uid, 0, 0, 0, 0, 0)), {63, 64}) is ours


def test_a_process_of_a_users_that_is_named_like_a_removed_daemon_is_none(tmp_path: Path) -> None:
    program = tmp_path / "dropbearmulti"
    shutil.copyfile("/bin/sleep", program)
    program.chmod(0o755)
    with subprocess.Popen(["sleep", "1000"], executable=program) as process:
        program.unlink()
        assert os.readlink(f"/proc/{process.pid}/exe") == f"{program} (deleted)"
        assert process.pid not in daemons.running_daemons(str(tmp_path / "dropbear"))
        process.kill()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_holder_of_a_port_is_named_unless_it_is_ours(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        port = taken.getsockname()[1]
        assert daemons.port_holders(port, []) == []  # not listening yet
        taken.listen()
        holders = daemons.port_holders(port, [])
        assert [holder.rpartition(" (")[2] for holder in holders] == [f"pid {os.getpid()})"]
        assert daemons.port_holders(port, [os.getpid()]) == []
    assert daemons.port_holders(port, []) == []


ANSWER = {"pid": 7, "uid": 2**31, "port": 15263, "sessions": 2, "name": "solver"}


def answers(tmp_path: Path, said: str, status: int = 0) -> str:
    """The path of a hook with this answer to `status --json`."""
    launcher = tmp_path / "ssh_hook"
    launcher.write_text(
        f'#!/bin/sh\n[ "$*" = "status --json" ] || exit 3\ncat <<"END"\n{said}\nEND\nexit {status}\n', encoding="utf-8"
    )
    launcher.chmod(0o755)
    return str(launcher)


def test_the_hook_lists_its_daemons(tmp_path: Path) -> None:
    said = json.dumps({"containers": [ANSWER, {**ANSWER, "uid": os.getuid(), "port": 0, "sessions": 0}]})
    assert daemons.servers(answers(tmp_path, said)) == [
        {"pid": 7, "user": str(2**31), "ports": [15263], "sessions": 2},
        {"pid": 7, "user": daemons.user_name(os.getuid()), "ports": [], "sessions": 0},
    ]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (json.dumps({"containers": [ANSWER]}), 1),
        ("", 0),
        ("[]", 0),
        ('{"containers": [{"pid": 7}]}', 0),
        ('{"containers": [7]}', 0),
        (json.dumps({"containers": [{**ANSWER, "uid": "x"}]}), 0),
    ],
)
def test_a_hook_that_does_not_answer(tmp_path: Path, said: str, status: int) -> None:
    assert daemons.servers(answers(tmp_path, said, status)) is None


def test_a_hook_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons, "SECONDS", 0.2)
    launcher = tmp_path / "ssh_hook"
    launcher.write_text("#!/bin/sh\nexec sleep 60\n", encoding="ascii")
    launcher.chmod(0o755)
    assert daemons.servers(str(launcher)) is None
