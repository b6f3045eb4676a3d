"""Directories of users with jobs. What is mounted on them, test_job.py of the hook's tests shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ssh_hook.errors import HookError
from ssh_hook.node import job_place

OTHER = os.geteuid() + 1


@pytest.fixture(name="users")
def fixture_users(node: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of directories; the caller makes it as root does."""
    monkeypatch.setattr(job_place, "JOBS_PLACE", str(node / "users"))
    return node / "users"


def test_a_bounded_file_system_is_mounted_on_a_directory_of_roots(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted: list[tuple[str, int, int, int]] = []

    def mount(target: int, *limits: int) -> None:
        mounted.append((os.readlink(f"/proc/self/fd/{target}"), *limits))

    monkeypatch.setattr(job_place, "mount_users_tmpfs", mount)
    before = os.umask(0o077)
    try:
        job_place.make(OTHER)
    finally:
        os.umask(before)
    assert mounted == [(str(users / str(OTHER)), 1048576, 1024, OTHER)]
    assert (users / str(OTHER)).stat().st_mode & 0o777 == 0o711
    assert users.stat().st_mode & 0o777 == 0o711


def test_what_is_the_users_already_stays(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a directory that the site has made, or the mount of an earlier job."""
    monkeypatch.delattr(job_place, "mount_users_tmpfs")
    (users / str(os.geteuid())).mkdir(parents=True)
    job_place.make(os.geteuid())
    (users / str(OTHER)).mkdir()
    monkeypatch.setattr(job_place, "users", lambda: {OTHER})
    job_place.make(OTHER)


def test_whose_directories_are_mounted_the_kernel_tells(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of what is mounted there, which may never answer."""
    lines = [
        f"30 1 0:5 / {users} rw - tmpfs none rw",
        f"31 30 0:6 / {users}/2001 rw - tmpfs none rw",
        f"32 31 0:7 / {users}/2001 rw - fuse none rw",
        f"33 31 0:8 / {users}/2001/sub rw - fuse none rw",
        f"34 1 0:5 {users}/2003 /elsewhere rw - tmpfs none rw",
        f"35 1 0:9 / {users}/x rw - tmpfs none rw",
    ]
    monkeypatch.setattr(job_place, "read_file", lambda _path: "\n".join([*lines, ""]).encode())
    assert job_place.users() == {2001}


def test_all_that_is_mounted_on_it_goes(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (users / str(OTHER)).mkdir(parents=True)
    left = [OTHER, OTHER]

    def umount(path: bytes, flags: int) -> None:
        assert (path, flags) == (f"{users}/{OTHER}".encode(), 2 | 8)  # MNT_DETACH, UMOUNT_NOFOLLOW
        left.pop()

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(job_place, "users", lambda: set(left))
    monkeypatch.setattr(job_place.syscalls, "umount", umount)
    job_place.remove(OTHER)
    assert not left
    assert os.listdir("/proc/self/fd") == before  # whoever ends with one open hangs without its lock
    assert (users / str(OTHER)).exists()  # whoever removes it may wait for any user


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_link_is_not_followed(users: Path, tmp_path: Path, kind: str) -> None:
    users.mkdir(parents=True)
    path = users / str(OTHER)
    path.symlink_to(tmp_path) if kind == "link" else path.touch()
    with pytest.raises(HookError, match=f"cannot mount a tmpfs for the doors of its user on .*/{OTHER}: Not a dir"):
        job_place.make(OTHER)


def test_a_failed_mount_is_told(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mount(*_arguments: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(job_place, "mount_users_tmpfs", mount)
    with pytest.raises(HookError, match="Operation not permitted"):
        job_place.make(OTHER)
