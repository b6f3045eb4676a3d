"""What tests of several commands have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from ssh_hook.node import public_file


@pytest.fixture(name="held_up")
def fixture_held_up(monkeypatch: pytest.MonkeyPatch, hang: Callable[..., None]) -> None:
    """Has the process that replaces a file of root's hang once it is replaced.

    As where a user has mounted a file system on the file.
    """
    real, caller = public_file.replace_files, os.getpid()

    def replace(*arguments: Any) -> None:
        real(*arguments)
        assert os.getpid() != caller
        hang()

    monkeypatch.setattr(public_file, "replace_files", replace)
