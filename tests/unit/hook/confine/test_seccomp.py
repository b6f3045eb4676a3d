"""Programs that are kept: only whole ones, only in directories of one's own, and only so many."""

from __future__ import annotations

import errno
import os
import posix
from pathlib import Path

import pytest
from ssh_hook.confine import seccomp
from ssh_hook.oci.json_reader import Node

PROFILE = Node(
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}, "it"
)


@pytest.fixture(name="kept")
def fixture_kept(tmp_path: Path) -> Path:
    return tmp_path / "ocihooks-ssh" / "seccomp"


def make(kept: Path) -> bytes:
    return seccomp.make_filter(PROFILE, str(kept.parent)).program


def test_kept_program_is_taken(kept: Path) -> None:
    program = make(kept)
    (file,) = kept.iterdir()
    assert file.read_bytes() == program
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(b"12345678")
    assert make(kept) == b"12345678"


@pytest.mark.parametrize("damage", [b"", b"1234567", b"12345678" * 5000])
def test_damaged_program_is_made_anew(kept: Path, damage: bytes) -> None:
    program = make(kept)
    (file,) = kept.iterdir()
    file.write_bytes(damage)
    assert make(kept) == program == file.read_bytes()


def test_what_others_can_write_is_not_taken(kept: Path) -> None:
    program = make(kept)
    (file,) = kept.iterdir()
    for path in (file, kept, kept.parent):
        file.write_bytes(b"12345678")
        assert make(kept) != program
        mode = path.stat().st_mode & 0o777
        path.chmod(mode | 0o020)
        assert make(kept) == program
        path.chmod(mode)


def test_full_disk_keeps_nothing(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def write_to_a_full_disk(descriptor: int, data: bytes) -> int:
        if os.fstat(descriptor).st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:8])

    with monkeypatch.context() as patched:
        patched.setattr(posix, "write", write_to_a_full_disk)
        program = make(kept)
    assert list(kept.iterdir()) == []
    assert make(kept) == program


def test_number_of_kept_programs_is_bounded(kept: Path) -> None:
    make(kept)
    for number in range(100):
        (kept / str(number)).write_bytes(b"12345678")
    (next(path for path in kept.iterdir() if len(path.name) == 64)).unlink()
    make(kept)
    assert len(list(kept.iterdir())) == 1
