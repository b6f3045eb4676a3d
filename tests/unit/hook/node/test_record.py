"""The record of a daemon, as the second hook of a start reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.process import Process
from ssh_hook.node import record


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def init() -> Iterator[Process]:
    process = Process(os.getpid())
    yield process
    process.close()


def written(bundle: int, init: Process, tmp_path: Path) -> Path:
    """The record of a daemon that was started for `init`."""
    known = record.record_of((init.pid, 1, 2, 3), init, Identity(0, 0), "", bundle, str(tmp_path / "copies"), "")
    record.write(known, bundle)
    return tmp_path / record.NAME


def test_a_record_of_this_start_counts(bundle: int, init: Process, tmp_path: Path) -> None:
    assert not record.is_started(bundle, init)
    written(bundle, init, tmp_path)
    assert record.is_started(bundle, init)


@pytest.mark.parametrize("name", ["init_pid", "init_start_time", "boot_id"])
def test_no_other_record_does(bundle: int, init: Process, tmp_path: Path, name: str) -> None:
    path = written(bundle, init, tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = [f"{name}=7" if line.startswith(f"{name}=") else line for line in lines]
    path.write_text("\n".join([*changed, ""]), encoding="utf-8")
    assert not record.is_started(bundle, init)


def test_a_record_that_another_could_have_written_does_not(bundle: int, init: Process, tmp_path: Path) -> None:
    written(bundle, init, tmp_path).chmod(0o666)
    assert not record.is_started(bundle, init)
