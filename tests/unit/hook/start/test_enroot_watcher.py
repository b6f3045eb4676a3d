"""When the watcher of an enroot container takes its first process for the container's program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
from ssh_hook.linux.process import Process
from ssh_hook.node import last_messages
from ssh_hook.start import enroot_watcher as module
from ssh_hook.start.enroot_watcher import Watcher

MANY, NONE = "000001ffffffffff", "0000000000000000"


class FirstProcess:
    """A process whose exe the watcher may not open, and which then drops its capabilities."""

    def __init__(self, status: Path, capabilities: str) -> None:
        self._status = status
        self._say(capabilities)

    def _say(self, capabilities: str) -> None:
        self._status.write_text(f"NoNewPrivs:\t1\nCapPrm:\t{capabilities}\n", encoding="ascii")

    def open(self, name: str, flags: int) -> int:
        if name == "status":
            return os.open(self._status, flags)
        assert name == "exe"
        self._say(NONE)
        raise PermissionError


def test_an_error_of_its_own_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no sign of a hidden program, at which the gate would open."""

    def refuse(_descriptor: int, _proc: int) -> bytes:
        raise PermissionError

    monkeypatch.setattr(last_messages, "open_ended", lambda: -1)
    monkeypatch.setattr(module, "mount_id", refuse)
    first = FirstProcess(tmp_path / "status", NONE)
    monkeypatch.setattr(first, "open", lambda name, flags: os.open(tmp_path / "status", flags))
    watcher = Watcher(cast(Process, first))
    with pytest.raises(PermissionError):
        watcher._runs_program()


@pytest.mark.parametrize(("capabilities", "runs"), [(MANY, False), (NONE, True)])
def test_a_hidden_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capabilities: str, runs: bool) -> None:
    """What hides the program is that process's capabilities, or the program's mode.

    It may drop them when the watcher has just looked, and still runs the program that switched the root.
    """
    monkeypatch.setattr(last_messages, "open_ended", lambda: -1)
    monkeypatch.setattr(module, "_own_status", lambda _proc: {"CapPrm": NONE})
    watcher = Watcher(cast(Process, FirstProcess(tmp_path / "status", capabilities)))
    assert watcher._runs_program() == runs
