"""Pidfiles whose names come from an annotation, which may be an image's: nothing else is truncated."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from ssh_hook.linux import syscalls
from ssh_hook.linux.pidfile import open_pidfile


@pytest.mark.parametrize("before", [None, b"", b"4711\n", b"1" * 31 + b"\n"])
def test_a_new_file_or_one_with_a_pid_is_opened_empty(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "sshd.pid"
    if before is not None:
        path.write_bytes(before)
    opened = open_pidfile(str(path))
    os.write(opened, b"12\n")
    os.close(opened)
    assert path.read_bytes() == b"12\n"
    assert path.stat().st_mode & 0o022 == 0


@pytest.mark.parametrize(
    "content", [b"4711", b"\n", b"47 11\n", b"-1\n", b"notes\n", b"4711\n4712\n", b"1" * 32 + b"\n"]
)
def test_a_file_with_anything_else_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="it contains something that is not a pid") as refused:
        open_pidfile(str(path))
    assert refused.value.errno == errno.EEXIST
    assert path.read_bytes() == content
    assert os.listdir("/proc/self/fd") == before


def test_what_is_no_file_is_not_waited_for_or_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"4711\n")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("missing")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    directory = os.open(tmp_path, os.O_PATH)
    for name in ("link", "dangling", "fifo", "socket", "."):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            os.close(open_pidfile(name, directory))
    os.close(directory)
    assert sorted(os.listdir(tmp_path)) == ["dangling", "fifo", "link", "socket", "target"]


def test_a_file_of_the_kernels_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a cgroup holds pids, and moves the process that is written to it."""
    (tmp_path / "cgroup.procs").write_bytes(b"4711\n")
    monkeypatch.setattr(syscalls, "filesystem_type", lambda _file: syscalls.PROC_SUPER_MAGIC)
    with pytest.raises(OSError, match="not a regular file"):
        open_pidfile(str(tmp_path / "cgroup.procs"))
    assert (tmp_path / "cgroup.procs").read_bytes() == b"4711\n"
