"""What tests of modules have in common: a machine that is busy changes no result."""

from __future__ import annotations

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._linux import process_questions

AMPLE = 60.0  # seconds


@pytest.fixture(autouse=True)
def ample_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no process that waits for a processor for one that never answers."""
    monkeypatch.setattr(process_questions, "_PATIENCE", AMPLE)
