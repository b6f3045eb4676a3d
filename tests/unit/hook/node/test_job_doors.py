"""Directories for the doors of users with jobs. What is mounted on them, test_job.py of the hook's tests shows."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from patience import within
from ssh_hook.errors import HookError, LateError
from ssh_hook.linux import disposable_process
from ssh_hook.linux.fast_stdlib import closing
from ssh_hook.node import job_doors, job_record

OTHER = os.geteuid() + 1
LIMIT = job_doors._TIMEOUT


@pytest.fixture(name="users")
def fixture_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of directories; the caller makes it as root does."""
    monkeypatch.setattr(job_doors, "PLACE", str(tmp_path / "place"))
    monkeypatch.setattr(job_record, "PLACE", str(tmp_path / "place"))
    mask = os.umask(0o022)
    yield tmp_path / "place" / "users"
    os.umask(mask)


def test_a_bounded_file_system_is_mounted_on_a_directory_of_roots(
    users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mount(target: int, size: int, inodes: int, uid: int) -> None:  # in a child
        (tmp_path / "mounted").write_text(f"{os.readlink(f'/proc/self/fd/{target}')} {size} {inodes} {uid}")

    monkeypatch.setattr(job_doors, "mount_users_tmpfs", mount)
    job_doors.make(OTHER)
    assert (tmp_path / "mounted").read_text() == f"{users / str(OTHER)} 1048576 1024 {OTHER}"
    assert (users / str(OTHER)).stat().st_mode & 0o777 == 0o700
    assert users.stat().st_mode & 0o777 == 0o711
    assert job_doors.users() == [OTHER]


def test_what_is_the_users_already_stays(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a directory that the site has made, or the mount of an earlier job."""
    monkeypatch.delattr(job_doors, "mount_users_tmpfs")
    (users / str(os.geteuid())).mkdir(parents=True)
    job_doors.make(os.geteuid())
    job_doors.leave(os.geteuid())
    job_doors.leave(OTHER)  # of which there is none
    assert [path.name for path in users.iterdir()] == [str(os.geteuid())]


def test_what_is_left_of_a_mount_goes(users: Path) -> None:
    """As where the process that removed it hung, or the mount failed: it is the caller's, as root's, and empty."""
    (users / str(OTHER)).mkdir(parents=True)
    job_doors.leave(OTHER)
    assert job_doors.users() == []


def test_whoever_hangs_with_it_holds_no_lock(
    users: Path, monkeypatch: pytest.MonkeyPatch, hang: Callable[..., None]
) -> None:
    monkeypatch.setattr(job_doors, "_TIMEOUT", LIMIT)
    monkeypatch.setattr(job_doors, "_remove", hang)
    with pytest.raises(LateError, match=f"cannot make or remove .*/users/{OTHER}: no answer within 0.5 s"):
        job_doors.leave(OTHER)
    monkeypatch.setattr(job_doors, "_make", lambda _users, _uid: None)
    job_doors.make(OTHER)


def test_whose_directories_there_are(users: Path) -> None:
    assert job_doors.users() == []
    for name in ("0", "2001", "4294967295", "99999999999", "²", "a site's"):
        (users / name).mkdir(parents=True)
    assert sorted(job_doors.users()) == [0, 2001]


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_link_is_not_followed(users: Path, tmp_path: Path, kind: str) -> None:
    users.mkdir(parents=True)
    path = users / str(OTHER)
    path.symlink_to(tmp_path) if kind == "link" else path.touch()
    with pytest.raises(HookError, match=f"cannot mount a tmpfs for the doors of its user on .*/{OTHER}: Not a dir"):
        job_doors.make(OTHER)


def test_a_failed_mount_is_told(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mount(*_arguments: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(job_doors, "mount_users_tmpfs", mount)
    with pytest.raises(HookError, match="Operation not permitted"):
        job_doors.make(OTHER)


def test_one_at_a_time(users: Path) -> None:
    with closing(job_doors._lock()):
        other = os.open(users, os.O_RDONLY | os.O_DIRECTORY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_work_ends_with_who_has_the_lock(users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a Prolog's process that is killed after a second: the next one that has the lock must be alone."""
    reader, writer = os.pipe()

    def work(_users: int, _uid: int) -> None:
        (tmp_path / "begun").touch()
        time.sleep(100)

    pid = os.fork()
    if pid == 0:
        os.set_inheritable(writer, True)
        monkeypatch.setattr(disposable_process, "close_all_but", lambda *_words: None)  # the pipe tells of its end
        job_doors._change(OTHER, work)
    os.close(writer)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    begun = time.monotonic()
    assert os.read(reader, 1) == b""  # the end of the last process that has the pipe
    assert time.monotonic() - begun < within(15)
    os.close(reader)
