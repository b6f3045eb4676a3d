"""Mounts that a container gets, in a namespace of the test's, and the ids of mounts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

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


InNamespaces = Callable[[Callable[[], object]], Any]


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path) -> Path:
    for name in ("volume", "target"):
        (tmp_path / name).mkdir()
    return tmp_path


def mount_volume(place: Path, flags: int = 0) -> int:
    """Mount a file system on the directory `volume`, and return the root of that mount."""
    syscalls.mount(b"none", os.fsencode(place / "volume"), b"tmpfs", flags)
    return os.open(place / "volume", os.O_PATH)


def test_a_read_only_bind_keeps_the_flags_of_its_volume(place: Path, in_namespaces: InNamespaces) -> None:
    kept = syscalls.MS_NODEV | syscalls.MS_NOEXEC | syscalls.MS_NOATIME

    def work() -> list[bool]:
        volume = mount_volume(place, kept)
        mounts.mount_bind(volume, os.open(place / "target", os.O_PATH))
        mounted = os.open(place / "target", os.O_PATH)
        mounts.make_read_only(mounted, syscalls.MS_NOSUID)
        shown = [os.fstatvfs(descriptor).f_flag for descriptor in (mounted, volume)]
        flags = (os.ST_RDONLY, os.ST_NOSUID, os.ST_NODEV, os.ST_NOEXEC, os.ST_NOATIME)
        return [[bool(found & flag) for flag in flags] for found in shown]

    assert in_namespaces(work) == [[True] * 5, [False, False, True, True, True]]


def test_a_mount_that_would_come_to_the_node_is_refused(place: Path, in_namespaces: InNamespaces) -> None:
    ms_shared = 1 << 20

    def work() -> list[str]:
        volume = mount_volume(place)
        found = []
        for flags in (0, ms_shared):
            if flags:
                syscalls.mount(b"", os.fsencode(place / "volume"), b"", flags)
            for target in (volume, os.open(place / "target", os.O_PATH)):
                try:
                    mounts.MountTable().refuse_shared(target, "/data")
                    found.append("")
                except HookError as error:
                    found.append(str(error))
        mounts.make_private(volume)
        mounts.MountTable().refuse_shared(volume, "/data")
        mounts.unmount(volume)
        return [*found, str(os.path.ismount(place / "volume"))]

    refused = (
        "/data in the container is on a shared mount, so mounts there would appear on the host: mount that volume "
    )
    assert in_namespaces(work) == ["", "", f"{refused}private or slave", "", "False"]


def test_file_systems_of_a_start_are_bounded(place: Path, in_namespaces: InNamespaces) -> None:
    def work() -> list[object]:
        mounts.mount_tmpfs(os.open(place / "volume", os.O_PATH), 1 << 16, 10, "")
        mounts.mount_users_tmpfs(os.open(place / "target", os.O_PATH), 1 << 16, 10, 0)
        found: list[object] = []
        for name in ("volume", "target"):
            shown, status = os.statvfs(place / name), os.stat(place / name)
            flags = shown.f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
            found.append((oct(status.st_mode), shown.f_blocks * shown.f_frsize, shown.f_files, flags))
        return found

    two = os.ST_NOSUID | os.ST_NODEV
    assert in_namespaces(work) == [("0o40755", 1 << 16, 10, two), ("0o40700", 1 << 16, 10, two | os.ST_NOEXEC)]
