"""The hook's daemons among the processes of a node, and who else has their port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
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


def test_sessions_count_for_the_daemon_that_serves_them(monkeypatch: pytest.MonkeyPatch) -> None:
    people = {10: (1, os.getuid()), 11: (10, os.getuid()), 12: (10, os.getuid()), 20: (1, 2**31), 30: (None, None)}
    monkeypatch.setattr(daemons, "parent_and_owner", people.get)
    monkeypatch.setattr(daemons, "ports_of", lambda pids: [15000 + len(pids)])
    assert daemons.servers([10, 11, 12, 20, 30]) == [
        {"pid": 10, "user": daemons.user_name(os.getuid()), "ports": [15003], "sessions": 2},
        {"pid": 20, "user": str(2**31), "ports": [15001], "sessions": 0},
    ]


def test_the_ports_on_which_processes_listen() -> None:
    """Whatever their command lines say."""
    code = (
        "import socket, sys; held = [socket.create_server(('127.0.0.1', 0)), socket.create_server(('::1', 0), "
        "family=socket.AF_INET6)]; print(*(one.getsockname()[1] for one in held), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, "-p", "15263"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        ports = sorted(map(int, process.stdout.readline().split()))
        assert daemons.ports_of([process.pid]) == daemons.ports_of([os.getpid(), process.pid]) == ports
        assert daemons.ports_of([os.getpid()]) == []
        assert daemons.parent_and_owner(process.pid) == (os.getpid(), os.getuid())
        process.stdin.close()
    assert daemons.ports_of([process.pid]) == []
    assert daemons.parent_and_owner(process.pid) == (None, None)
