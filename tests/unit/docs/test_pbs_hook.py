"""The hook of PBS in docs/schedulers.md: what it calls, and that it keeps no job from starting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ssh_hook.schedulers.jobs import name_of, record_of, user_of

GUIDE = Path(__file__).parents[3] / "docs" / "schedulers.md"
LAUNCHER = "/opt/oci-hooks/bin/ssh_hook"
BEGIN, END = object(), object()
JOB = SimpleNamespace(
    id="1234[5].server",
    euser="root",
    exec_host2="node1:15002/0*8+node2:15002/0*8",
    schedselect="2:ncpus=8:mpiprocs=2",
)


def hook() -> str:
    """The text that a site imports."""
    found = [text.partition("```")[0] for text in GUIDE.read_text(encoding="utf-8").split("```python\n")[1:]]
    (text,) = [text for text in found if "import pbs" in text]
    return text


def run(monkeypatch: pytest.MonkeyPatch, kind: object, job: Any, launcher: str = LAUNCHER) -> list[str]:
    """Run it as PBS's mom does at an event; return what it has written to mom's log."""
    said: list[str] = []
    pbs = SimpleNamespace(
        event=lambda: SimpleNamespace(type=kind, job=job),
        EXECJOB_BEGIN=BEGIN,
        EVENT_ERROR=1,
        logmsg=lambda _level, text: said.append(text),
    )
    monkeypatch.setitem(sys.modules, "pbs", pbs)
    text = hook()
    assert LAUNCHER in text
    exec(compile(text.replace(LAUNCHER, launcher), "ssh_hook.py", "exec"), {})
    return said


@pytest.fixture(name="calls")
def fixture_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """The commands that it starts, with their environment."""
    calls: list[tuple[list[str], dict[str, str]]] = []

    class Started:
        def __init__(self, command: list[str], env: dict[str, str], **_streams: int) -> None:
            calls.append((command, env))

        def wait(self, timeout: float) -> int:
            if len(calls) > 1:
                raise subprocess.TimeoutExpired("ssh_hook", timeout)
            return 0

    monkeypatch.setattr(subprocess, "Popen", Started)
    return calls


def test_the_hook_of_pbs(monkeypatch: pytest.MonkeyPatch, calls: list[tuple[list[str], dict[str, str]]]) -> None:
    assert run(monkeypatch, BEGIN, JOB) == []
    ((command, variables),) = calls
    assert command == [LAUNCHER, "prolog"]
    record = record_of(variables)
    assert name_of(variables) == "1234[5].server"
    assert (record.uid, record.cluster, record.leader) == (0, "server", 1239)
    assert record.hosts == {"node1": 2, "node2": 2}
    (late,) = run(monkeypatch, END, JOB)
    assert late.startswith("ssh_hook: TimeoutExpired")
    assert calls[1][0] == [LAUNCHER, "epilog"]
    assert user_of(calls[1][1]) == 0


def test_a_node_without_the_command_runs_jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (said,) = run(monkeypatch, BEGIN, JOB, launcher=str(tmp_path / "ssh_hook"))
    assert said.startswith("ssh_hook: FileNotFoundError")


def test_a_user_whom_nobody_knows_has_no_record(
    monkeypatch: pytest.MonkeyPatch, calls: list[tuple[list[str], dict[str, str]]]
) -> None:
    (said,) = run(monkeypatch, BEGIN, SimpleNamespace(**{**vars(JOB), "euser": "no-such-user"}))
    assert said.startswith("ssh_hook: KeyError")
    assert calls == []


def test_the_record_of_a_user_whom_nobody_knows_any_more_is_removed(
    monkeypatch: pytest.MonkeyPatch, calls: list[tuple[list[str], dict[str, str]]]
) -> None:
    assert run(monkeypatch, END, SimpleNamespace(**{**vars(JOB), "euser": "no-such-user"})) == []
    ((command, variables),) = calls
    assert command == [LAUNCHER, "epilog"]
    assert name_of(variables) == JOB.id
    assert "PBS_JOB_UID" not in variables
