"""The bundle of a running container, by what crun and runc keep."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ssh_hook.node.bundle import find_bundle

STATES = {
    "crun": ("status", {"pid": os.getpid(), "bundle": "/a bundle"}),
    "runc": (
        "state.json",
        {"init_process_pid": os.getpid(), "config": {"labels": ["org=x", "bundle=/a bundle"]}},
    ),
}


def namespace() -> tuple[int, int]:
    status = Path("/proc/self/ns/mnt").stat()
    return status.st_dev, status.st_ino


@pytest.mark.parametrize("runtime", STATES)
def test_it_is_found_by_the_mount_namespace(tmp_path: Path, runtime: str) -> None:
    name, state = STATES[runtime]
    for container in ("other", "this"):
        (tmp_path / runtime / container).mkdir(parents=True)
    (tmp_path / runtime / "other" / name).write_text("no JSON", encoding="ascii")
    (tmp_path / runtime / "this" / name).write_text(json.dumps(state), encoding="ascii")
    assert find_bundle(namespace(), str(tmp_path)) == "/a bundle"
    assert find_bundle((0, 0), str(tmp_path)) is None


def test_no_runtime(tmp_path: Path) -> None:
    assert find_bundle(namespace(), str(tmp_path)) is None


def test_state_that_is_a_fifo(tmp_path: Path) -> None:
    (tmp_path / "crun" / "this").mkdir(parents=True)
    os.mkfifo(tmp_path / "crun" / "this" / "status")
    assert find_bundle(namespace(), str(tmp_path)) is None
