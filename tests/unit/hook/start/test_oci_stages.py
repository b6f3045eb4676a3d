"""The container's first process is one that has yet to execute its program."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from ssh_hook.errors import HookError
from ssh_hook.start import oci_stages


@pytest.fixture
def forked() -> Iterator[int]:
    """A process that was forked and waits, as a container's first process at createRuntime."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writer)
            os.read(reader, 1)
        finally:
            os._exit(0)
    os.close(reader)
    yield pid
    os.close(writer)
    os.waitpid(pid, 0)


def test_process_that_has_yet_to_run_its_program(forked: int) -> None:
    assert oci_stages._started_by_runtime(forked).pid == forked


def test_process_that_runs_its_program_already() -> None:
    with pytest.raises(HookError, match=rf"first process \(pid {os.getpid()}\) already runs a program: call the hook"):
        oci_stages._started_by_runtime(os.getpid())


def test_no_process_that_has_yet_to_run_its_program_called_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        oci_stages.Process, "parent", lambda _self: 0
    )  # a shell that only forked may have called pytest
    with pytest.raises(
        HookError, match="JOIN_NAMESPACES is false, but the hook was not called by a container's first process"
    ):
        oci_stages._above_hook()
