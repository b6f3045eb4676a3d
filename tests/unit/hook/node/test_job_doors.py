"""Directories for the doors of users with jobs. What is mounted on them, test_job.py of the hook's tests shows."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from ssh_hook.errors import HookError
from ssh_hook.linux.fast_stdlib import closing
from ssh_hook.node import job_doors

OTHER = os.geteuid() + 1


@pytest.fixture(name="users")
def fixture_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(job_doors, "PLACE", str(tmp_path / "place"))
    return tmp_path / "place" / "users"


def test_a_bounded_file_system_is_mounted_on_a_directory_of_roots(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted: list[tuple[str, int, int, int]] = []

    def mount(target: int, size: int, inodes: int, uid: int) -> None:
        mounted.append((os.readlink(f"/proc/self/fd/{target}"), size, inodes, uid))

    monkeypatch.setattr(job_doors, "mount_users_tmpfs", mount)
    with closing(job_doors.open_locked()) as directory:
        job_doors.make(directory, OTHER)
    assert mounted == [(str(users / str(OTHER)), 16384, 1024, OTHER)]
    assert (users / str(OTHER)).stat().st_mode & 0o777 == 0o700
    assert users.stat().st_mode & 0o777 == 0o711


def test_what_is_the_users_already_stays(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a directory that the site has made, or the mount of an earlier job."""
    monkeypatch.delattr(job_doors, "mount_users_tmpfs")
    with closing(job_doors.open_locked()) as directory:
        (users / str(os.geteuid())).mkdir()
        job_doors.make(directory, os.geteuid())
        job_doors.remove(directory, os.geteuid())
        job_doors.remove(directory, OTHER)  # of which there is none
    assert [path.name for path in users.iterdir()] == [str(os.geteuid())]


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_link_is_not_followed(users: Path, tmp_path: Path, kind: str) -> None:
    with closing(job_doors.open_locked()) as directory:
        path = users / str(OTHER)
        path.symlink_to(tmp_path) if kind == "link" else path.touch()
        with pytest.raises(HookError, match=f"cannot mount a tmpfs for the doors of its user on .*/{OTHER}: Not a dir"):
            job_doors.make(directory, OTHER)


def test_a_failed_mount_is_told(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mount(*_arguments: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(job_doors, "mount_users_tmpfs", mount)
    with closing(job_doors.open_locked()) as directory, pytest.raises(HookError, match="Operation not permitted"):
        job_doors.make(directory, OTHER)


def test_one_at_a_time(users: Path) -> None:
    with closing(job_doors.open_locked()):
        other = os.open(users, os.O_RDONLY | os.O_DIRECTORY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
