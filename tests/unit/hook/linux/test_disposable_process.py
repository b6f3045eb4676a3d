"""The disposable process ends, whatever becomes of its caller."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ssh_hook.linux import disposable_process


def test_child_never_runs_the_code_of_a_caller_that_went_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "ran in the child"
    caller = os.getpid()

    def fail(_reader: int, _deadline: float, _limit: int) -> bytes:
        raise InterruptedError

    def sleep() -> bytes:
        time.sleep(0.1)  # until nobody reads the answer
        return b""

    monkeypatch.setattr(disposable_process, "_read", fail)
    try:
        disposable_process.run(sleep, "cannot sleep", None)
    except OSError:
        if os.getpid() != caller:
            marker.touch()
            os._exit(1)
    _pid, status = os.waitpid(-1, 0)
    assert status == 0
    assert not marker.exists()
