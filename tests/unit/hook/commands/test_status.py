"""What `ssh_hook status --hosts` makes of the answers of other nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ssh_hook.commands import status

ANSWER = {"node": "n", "keys": "k", "keys_problem": "", "containers": []}


def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, err: str) -> tuple[list[dict[str, object]], object]:
    """Ask one host by an `ssh` that prints this."""
    (tmp_path / "out").write_text(out, encoding="utf-8")
    (tmp_path / "err").write_text(err, encoding="utf-8")
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ncat {tmp_path}/out\ncat {tmp_path}/err >&2\n", encoding="utf-8")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return status.status_of_hosts(["gpu1"], "/opt/oci-hooks/bin/ssh_hook")


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
