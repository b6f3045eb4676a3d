"""What tests of several commands have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from ssh_hook.linux import disposable_process


@pytest.fixture(name="hold_up")
def fixture_hold_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], None]:
    """Has the files that a command replaces hang, in a process of its own, once they are replaced.

    As where a user has mounted a file system of hers on the file. The command waits for a second.
    """

    def hold_up(command: Any) -> None:
        real, caller, run = command.replace_files, os.getpid(), disposable_process.run

        def replace(*arguments: Any) -> None:
            real(*arguments)
            assert os.getpid() != caller
            time.sleep(1000)

        monkeypatch.setattr(command, "replace_files", replace)
        monkeypatch.setattr(command.disposable_process, "run", lambda *arguments: run(*arguments, timeout=1.0))

    return hold_up
