"""What `ssh_hook status --hosts` makes of the answers of other nodes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from patience import within
from ssh_hook.commands import status
from ssh_hook.node.inventory import Daemon
from ssh_hook.schedulers import nodes

KEYS: Any = None  # what a login takes, and these tests try none
ANSWER = {"node": "n", "keys": "k", "keys_problem": "", "containers": []}


def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, err: str) -> tuple[list[dict[str, object]], object]:
    """Ask one host by an `ssh` that prints this."""
    (tmp_path / "out").write_text(out, encoding="utf-8")
    (tmp_path / "err").write_text(err, encoding="utf-8")
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ncat {tmp_path}/out\ncat {tmp_path}/err >&2\n", encoding="utf-8")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return status.status_of_hosts(["gpu1"])


def test_warnings_of_a_host_are_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    said = ["banner", *(f"ssh_hook: warning: silent\x1b {number}" for number in range(20)), "ssh_hook: error: no"]
    answers, failing = ask(tmp_path, monkeypatch, json.dumps(ANSWER), "\n".join(said))
    assert ([answer["node"] for answer in answers], failing) == (["gpu1"], {})
    assert capfd.readouterr().err.splitlines() == [
        f"ssh_hook: warning: gpu1: silent\\x1b {number}" for number in range(8)
    ]


@pytest.mark.parametrize("out", ["", "[]", "{}", json.dumps({**ANSWER, "containers": [{}]}), "[" * 100000])
def test_a_host_without_an_answer_is_named_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], out: str
) -> None:
    answers, failing = ask(tmp_path, monkeypatch, out, "ssh_hook: warning: first\nlast\x1b\n")
    assert (answers, failing) == ([], {"gpu1": "last\\x1b"})
    assert capfd.readouterr().err == ""


def daemon(pid: int, **attributes: object) -> Daemon:
    found = Daemon(pid, 1000, [("", 10000 + pid)], 0)
    vars(found).update(attributes)
    return found


def test_each_container_in_reach_is_logged_in_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """On both loopback addresses, or where it listens; not where its network is its own, or it is another user's."""
    tried = []

    def attempt(host: str, port: int, deadline: float, check: object) -> str:
        tried.append((host, port))
        if port == 10004:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return "" if (host, port) in (("::1", 10001), ("10.0.0.1", 10002)) else "no answer"

    monkeypatch.setattr(status, "attempt", attempt)
    monkeypatch.setattr(status, "Login", lambda *arguments: arguments)
    daemons = [
        daemon(1),
        daemon(2, places=[("10.0.0.1", 10002)]),
        daemon(3),
        daemon(4),
        daemon(5, has_own_network=True),
        daemon(6, uid=0),
        daemon(7, places=[]),  # with a door alone
    ]
    monkeypatch.setattr(status.os, "getuid", lambda: 1000)
    client = {"DROPBEAR_DIR": "/none"}
    monkeypatch.setattr(status, "find_client", lambda settings: "/bin/ssh" if settings is client else "")
    expected = {1: "", 2: "", 3: "no answer", 4: "cannot be checked: Resource temporarily unavailable", 6: "no answer"}
    assert status._try_logins(daemons, KEYS, "alice", client) == expected
    assert {("127.0.0.1", 10001), ("::1", 10001), ("10.0.0.1", 10002)} < {*tried}
    monkeypatch.setattr(status.os, "getuid", lambda: 0)
    assert status._try_logins(daemons, KEYS, "root", client) == {6: "no answer"}


def test_its_own_logins_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = 0

    def try_logins(*_: object) -> dict[int, str]:
        nonlocal sessions
        sessions += 1
        return {1: "no answer"}

    found = daemon(1, has_own_network=False, label="")
    vars(found)["sessions"] = lambda: sessions
    monkeypatch.setattr(status, "caller", lambda _settings: ("/home/alice", "alice"))
    monkeypatch.setattr(status, "is_root_without_keys", lambda _directory: False)
    monkeypatch.setattr(status.store, "fingerprint", lambda _keys: "SHA256:")
    monkeypatch.setattr(status, "find_all_daemons", lambda: [found])
    monkeypatch.setattr(status, "find_running", list)
    monkeypatch.setattr(status, "_try_logins", try_logins)
    monkeypatch.setattr(status.store, "load", lambda *_: SimpleNamespace())
    (entry,) = status.status({})["containers"]
    assert (entry["sessions"], entry["login_problem"], sessions) == (0, "no answer", 1)


def test_without_a_client_no_login_is_tried(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/none")
    assert status._try_logins([daemon(1, uid=0)], KEYS, "alice", {"DROPBEAR_DIR": "/none"}) == {}
    assert "this node has no SSH client, neither /none/bin/ssh nor ssh in PATH" in capfd.readouterr().err


def test_a_host_that_prints_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that another user has broken into must not fill the memory of a login node."""
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\nexec yes\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setattr(nodes, "SSH", (str(program),))
    monkeypatch.setattr(status, "DEADLINE", within(10))
    assert status.status_of_hosts(["node1"]) == ([], {"node1": "its output is longer than 1048576 bytes"})
