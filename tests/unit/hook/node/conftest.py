"""Counts what the hook asks of the kernel: each system call of a start is one in the start of every container."""

from __future__ import annotations

import inspect
import posix
from collections.abc import Callable
from typing import Any

import pytest
from ssh_hook.linux import syscalls

NO_SYSTEM_CALLS = {"fspath", "strerror"}


@pytest.fixture(name="system_calls")
def fixture_system_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the hook's system calls from now on, in their order."""
    made: list[str] = []

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            return function(*arguments, **options)

        return call

    for name, function in vars(posix).copy().items():
        if inspect.isbuiltin(function) and name.islower() and name not in NO_SYSTEM_CALLS:
            monkeypatch.setattr(posix, name, noting(name, function))
    call = syscalls._call

    def note_and_call(name: str, *arguments: int | bytes) -> int:
        made.append(name)
        return call(name, *arguments)

    monkeypatch.setattr(syscalls, "_call", note_and_call)
    return made
