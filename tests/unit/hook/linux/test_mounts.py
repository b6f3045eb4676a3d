"""The id of a descriptor's mount, where the kernel does not show it in fdinfo."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest
from ssh_hook.errors import HookError
from ssh_hook.linux import mounts, syscalls


def refuse(_path: str, _proc: int | None) -> NoReturn:
    raise PermissionError


@pytest.mark.parametrize("path", ["/", "/proc", "/dev/null"])
def test_the_id_is_the_same_without_fdinfo(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    descriptor = os.open(path, os.O_PATH)
    try:
        number = mounts.mount_id(descriptor)
        assert number in mounts.reachable_mounts()
        monkeypatch.setattr(mounts, "read_file", refuse)
        assert mounts.mount_id(descriptor) == number
    finally:
        os.close(descriptor)


def test_a_kernel_that_tells_it_in_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "read_file", refuse)
    monkeypatch.setattr(syscalls, "mount_id", lambda _descriptor: None)
    with pytest.raises(HookError, match=r"needs Linux 5\.8"):
        mounts.mount_id(0)
