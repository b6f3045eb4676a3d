"""What tests of several commands have in common."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from ssh_hook.commands import public_file
from ssh_hook.linux import disposable_process


@pytest.fixture(name="impatient")
def fixture_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has whoever waits for a disposable process wait for a second."""
    run = disposable_process.run
    monkeypatch.setattr(disposable_process, "run", lambda *arguments: run(*arguments, timeout=1.0))


@pytest.fixture(name="held_up")
def fixture_held_up(monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    """Has the process that replaces a file of root's hang once it is replaced; whoever waits for it does for a second.

    As where a user has mounted a file system on the file.
    """
    real, caller = public_file.replace_files, os.getpid()

    def replace(*arguments: Any) -> None:
        real(*arguments)
        assert os.getpid() != caller
        time.sleep(1000)

    monkeypatch.setattr(public_file, "replace_files", replace)
