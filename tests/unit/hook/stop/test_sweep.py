"""A sweep ends in time, whatever users hold up."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from ssh_hook.errors import DAEMON_FAILED, HookError
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.process import Process
from ssh_hook.node import record
from ssh_hook.node.record import Record
from ssh_hook.stop import rules
from ssh_hook.stop import sweep as module

TEMPLATES = Path(__file__).resolve().parents[4] / "roles/ssh_hook/templates"


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Records of five containers that are gone, two of uid 1 and three of uid 2."""
    directory = tmp_path / "copies"
    directory.mkdir(mode=0o700)
    init = Process(os.getpid())
    bundle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for number, uid in enumerate((1, 1, 2, 2, 2)):
        known = record.record_of((init.pid, number, 2, 3), init, Identity(uid, uid), "", bundle, "", "")
        known.numbers["init_start_time"] = 1
        path = directory / str(number)
        path.write_bytes(known.data())
        path.chmod(0o600)
        os.utime(path, (0, 0))
    os.close(bundle)
    init.close()
    return directory


def test_a_daemon_that_does_not_end_costs_one_wait_for_each_user(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def end(known: Record) -> None:
        tried.append(known.numbers["uid"])
        raise HookError(DAEMON_FAILED, "the SSH daemon does not end")

    monkeypatch.setattr(module, "end_recorded", end)
    assert module.sweep(str(copies)) == (0, 2)
    assert sorted(tried) == [1, 2]
    assert len(list(copies.iterdir())) == 5


def test_what_is_not_swept_in_time_waits(
    copies: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def end(_known: Record) -> None:
        now[0] += 100

    monkeypatch.setattr(module, "end_recorded", end)
    monkeypatch.setattr(module.disposable_process, "run", lambda *_arguments: b"")
    assert module.sweep(str(copies)) == (2, 1)
    assert len(list(copies.iterdir())) == 3
    assert f"{copies}: what is not swept after 180 s waits for the next sweep" in capfd.readouterr().err


@pytest.mark.parametrize("unit", ["ssh-hook-sweep.service", "ssh-hook-sweep@.service"])
def test_that_is_before_systemd_ends_it(unit: str) -> None:
    """A minute is left for what it does besides, on a busy node."""
    text = (TEMPLATES / f"{unit}.j2").read_text(encoding="utf-8")
    found = re.search(r"^TimeoutStartSec=(\d+)min$", text, re.MULTILINE)
    assert found is not None
    assert 60 * int(found[1]) >= module._TIMEOUT + 2 * module.disposable_process.TIMEOUT + rules._TIMEOUT + 60
