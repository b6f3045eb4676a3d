"""What `ssh_hook logins` makes of the journal."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest
from ssh_hook.commands import logins
from ssh_hook.errors import HookError

SECOND = 1_700_000_000
COMMON = {
    "SESSION": "1a",
    "KIND": "command",
    "FROM": "10.0.0.1:4000",
    "KEY": "SHA256:abc",
    "USER": "alice",
    "UID": "1000",
    "JOB": "7",
}


def entry(event: str, after: int = 0, writer: str = "1000", **fields: object) -> str:
    """Return an entry as journalctl prints it, `writer` being the uid of the process that has sent it."""
    ours = {f"SSH_HOOK_{name}": value for name, value in {"EVENT": event, **COMMON, **fields}.items()}
    kernels = {"__REALTIME_TIMESTAMP": str((SECOND + after) * 1_000_000), "_UID": writer, "_BOOT_ID": "b"}
    return json.dumps({**kernels, **ours}, ensure_ascii=False)


@pytest.fixture(autouse=True)
def users(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's: alice and bob."""
    monkeypatch.setattr(logins, "_name_of", {"1000": "alice", "1001": "bob"}.get)


def sessions(*lines: str) -> list[dict[str, str]]:
    return logins.sessions([line.encode() + b"\n" for line in lines])


def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], err: str = "", status: int = 0) -> None:
    """Make a `journalctl` that prints these lines, the newest first, and notes its arguments."""
    (tmp_path / "out").write_text("".join(f"{line}\n" for line in reversed(lines)), encoding="utf-8")
    (tmp_path / "err").write_text(err, encoding="utf-8")
    program = tmp_path / "journalctl"
    script = (f'echo "$*" >{tmp_path}/arguments', f"cat {tmp_path}/out", f"cat {tmp_path}/err >&2", f"exit {status}")
    program.write_text("\n".join(["#!/bin/sh", *script, ""]), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def run(since: str = "-7d", is_json: bool = False) -> int:
    return logins.run(Namespace(since=since, json=is_json), {})


def test_a_session_has_a_beginning_and_an_end() -> None:
    lines = [
        entry("begins"),
        entry("begins", 1, SESSION="2b", COMMAND="true", CONTAINER="it"),
        entry("ends", 2, STATUS="3", SECONDS="2.000"),
        entry("ends", 3, SESSION="3c", SIGNAL="9", SECONDS="9.5"),
        entry("refused", 4),
    ]
    first, second, third = sessions(*lines)
    assert (first["begun"], first["ended"]) == (f"{SECOND}.000", f"{SECOND + 2}.000")
    assert (first["status"], first["seconds"], first["from"]) == ("3", "2.000", "10.0.0.1:4000")
    assert ("ended" in second, second["command"], second["container"]) == (False, "true", "it")
    assert (third["begun"], third["signal"], third["kind"]) == ("", "9", "command")


@pytest.mark.parametrize("line", ["x", "[]", "{}", entry("begins", SESSION=[1, 2]), entry("begins").replace("17", "a")])
def test_what_others_write_is_left_out(line: str) -> None:
    assert sessions(line) == []


@pytest.mark.parametrize("uid", ["1000", "1001"])
@pytest.mark.parametrize(("writer", "shown"), [("1000", ""), ("0", ""), ("1001", "1001"), ("100999", "100999")])
def test_who_has_written_a_line_is_the_kernels_word(writer: str, shown: str, uid: str) -> None:
    """Root writes where the container's user is root. The uid in the line is the writer's word, as the name is."""
    (session,) = sessions(entry("begins", writer=writer, UID=uid))
    assert session["writer"] == shown
    assert (f"alice (claimed by uid {shown})" in logins._row(session)) == bool(shown)


@pytest.mark.parametrize(
    ("uid", "user"), [("0", "root"), ("4242424242", None), ("?", None), ("", None), ("9" * 30, None)]
)
def test_the_name_of_a_uid(monkeypatch: pytest.MonkeyPatch, uid: str, user: str | None) -> None:
    monkeypatch.undo()
    assert logins._name_of(uid) == user


def test_the_name_service_is_asked_once_for_each_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """And for no name that anybody has made up, of which there may be thousands."""
    monkeypatch.undo()
    asked: list[object] = []

    def ask(who: object) -> None:
        asked.append(who)
        raise KeyError

    for name in ("getpwuid", "getpwnam"):
        monkeypatch.setattr(logins.pwd, name, ask)
    found = sessions(*(entry("begins", writer="4242", USER=f"user{number}") for number in range(1000)))
    assert {session["writer"] for session in found} == {"4242"}
    assert asked == [4242]


def test_nobody_replaces_what_a_session_has_left() -> None:
    """Neither another user nor a later line."""
    forged = {"FROM": "10.0.0.1:4000", "KEY": "SHA256:forged", "KIND": "none"}
    lines = [entry("begins"), entry("ends", 1, STATUS="3"), entry("begins", 2, **forged)]
    lines += [entry("begins", 3, writer="1001", **forged), entry("ends", 4, writer="1001", STATUS="9", **forged)]
    lines += [entry("ends", 5, STATUS="8", **forged)]
    first, second = sessions(*lines)
    assert (first["key"], first["kind"], first["status"], first["writer"]) == ("SHA256:abc", "command", "3", "")
    assert (second["writer"], second["status"]) == ("1001", "9")


def test_a_line_may_have_what_others_take_for_its_end() -> None:
    (session,) = sessions(entry("begins", CONTAINER="a\u2028b\x85"))
    assert session["container"] == "a\u2028b\x85"


def test_not_more_is_read_than_fits_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of a journal without end the newest lines are."""
    lines = [entry("begins", SESSION=name) for name in ("1a", "2b", "3c")]
    journal(tmp_path, monkeypatch, [*lines, entry("begins", COMMAND="x" * (8 << 10))])
    text = (tmp_path / "journalctl").read_text(encoding="utf-8").replace("exit 0", "while :; do echo; done")
    (tmp_path / "journalctl").write_text(text, encoding="utf-8")
    monkeypatch.setattr(logins, "_MOST", 3)
    assert run(is_json=True) == 0
    captured = capfd.readouterr()
    assert [session["begun"] != "" for session in json.loads(captured.out)] == [True, True]
    assert "the newest 3 lines" in captured.err


def test_a_journal_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(tmp_path, monkeypatch, [])
    (tmp_path / "journalctl").write_text("#!/bin/sh\nexec sleep 1000\n", encoding="utf-8")
    monkeypatch.setattr(logins, "_TIMEOUT", 0.1)
    with pytest.raises(HookError, match="has not ended within"):
        run()


def test_a_user_asks_for_her_own_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [entry("begins"), entry("ends", STATUS="0", SECONDS="1.000"), entry("begins", SESSION="2b", FROM="a\x1b")]
    lines += [entry("ends", SESSION="3c"), entry("ends", SESSION="4d", STARTED="no", SECONDS="0.000")]
    journal(tmp_path, monkeypatch, lines)
    monkeypatch.setattr(logins.os, "getuid", lambda: 1000)
    assert run("today") == 0
    header, first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert header.split() == list(logins._COLUMNS)
    assert first.split()[2:] == ["1.000", "0", "command", "alice", "-", "7", "10.0.0.1:4000", "SHA256:abc"]
    assert second.split()[2:5] == ["-", "-", "command"]
    assert "a\\x1b" in second
    assert third.split()[:3] == ["-", "-", "disconnected"]
    assert fourth.split()[:4] == ["-", "0.000", "not", "started"]
    arguments = (tmp_path / "arguments").read_text(encoding="utf-8").split()
    assert {"--since=today", "--reverse"} <= set(arguments)
    (fields,) = (word for word in arguments if word.startswith("--output-fields="))
    assert {"_UID", "SSH_HOOK_EVENT", "SSH_HOOK_SESSION", "SSH_HOOK_STATUS"} <= set(fields.partition("=")[2].split(","))
    assert arguments[-3:] == ["SSH_HOOK_EVENT=begins", "SSH_HOOK_EVENT=ends", "SSH_HOOK_UID=1000"]


def test_root_asks_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    journal(tmp_path, monkeypatch, [entry("begins")])
    monkeypatch.setattr(logins.os, "getuid", lambda: 0)
    assert run(is_json=True) == 0
    (session,) = json.loads(capsys.readouterr().out)
    assert (session["user"], session["kind"]) == ("alice", "command")
    assert "SSH_HOOK_UID=" not in (tmp_path / "arguments").read_text(encoding="utf-8")


def test_a_journal_without_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal(tmp_path, monkeypatch, [], status=1)
    assert run() == 0
    assert "no session" in capsys.readouterr().out


def test_journalctl_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(tmp_path, monkeypatch, [], "hint\nFailed to parse timestamp: x\n", status=1)
    with pytest.raises(HookError, match="journalctl: Failed to parse timestamp: x"):
        run("x")


def test_a_node_without_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HookError, match="no journal"):
        run()
