"""Files that are replaced: all of them or none, each whole, and nothing is left beside them."""

from __future__ import annotations

import errno
import os
import posix
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_hook.linux.files import close_all_but, names, read_own, remove_leftovers, replace_files, rewrite

OLD = {"a": b"old", "b": b"old too"}


@pytest.fixture(name="directory")
def fixture_directory(tmp_path: Path) -> Iterator[int]:
    for name, data in OLD.items():
        (tmp_path / name).write_bytes(data)
    directory = os.open(tmp_path, os.O_RDONLY)
    yield directory
    os.close(directory)


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_replaced(directory: int, tmp_path: Path) -> None:
    new = {"a": b"new", "b": b"", "c": b"more"}
    replace_files(directory, new)
    assert content(tmp_path) == new
    assert {file.stat().st_mode & 0o7777 for file in tmp_path.iterdir()} == {0o600}


def test_a_link_is_replaced_and_not_followed(directory: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a")
    replace_files(directory, {"link": b"new"})
    assert content(tmp_path) == {**OLD, "link": b"new"}
    assert not (tmp_path / "link").is_symlink()


def test_full_disk_replaces_none(directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def write_to_a_full_disk(descriptor: int, data: bytes) -> int:
        if data == b"second":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(posix, "write", write_to_a_full_disk)
        with pytest.raises(OSError, match="No space left"):
            replace_files(directory, {"a": b"first", "b": b"second"})
    assert content(tmp_path) == OLD


def test_nothing_is_left_where_one_cannot_be_replaced(directory: int, tmp_path: Path) -> None:
    (tmp_path / "b").unlink()
    (tmp_path / "b").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_files(directory, {"a": b"new", "b": b"new", "c": b"new"})
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_a_file_is_prepared_before_it_has_its_name(directory: int, tmp_path: Path) -> None:
    seen = []

    def prepare(file: int) -> None:
        (temporary,) = {path.name for path in tmp_path.iterdir()} - set(OLD)
        seen.append((temporary, os.pread(file, 9, 0), (tmp_path / "a").read_bytes()))
        os.fchmod(file, 0o640)

    replace_files(directory, {"a": b"new"}, prepare)
    ((temporary, data, before),) = seen
    assert re.fullmatch(r"\.a\.[0-9a-f]{16}", temporary)
    assert (data, before) == (b"new", b"old")
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o640


def test_nothing_is_left_where_one_cannot_be_prepared(directory: int, tmp_path: Path) -> None:
    def refuse(_file: int) -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        replace_files(directory, {"a": b"new"}, refuse)
    assert content(tmp_path) == OLD


def test_what_a_killed_writer_left_is_removed(directory: int, tmp_path: Path) -> None:
    left: list[str] = []

    def note(_file: int) -> None:
        left.extend({path.name for path in tmp_path.iterdir()} - set(OLD))

    replace_files(directory, {"a": b"new"}, note)
    others = {f".b.{'0' * 16}", ".a.short", ".a", ".a.before-migration"}  # of another file, or no temporary file at all
    for name in (*left, *others):
        (tmp_path / name).touch()
    remove_leftovers(directory, "a")
    assert set(left) <= set(content(tmp_path))  # a writer may be at work
    for name in (*left, *others):
        os.utime(tmp_path / name, (0, 0))
    remove_leftovers(directory, "a")
    assert set(content(tmp_path)) == {*OLD, *others}


def test_only_what_nobody_else_can_write_is_read(directory: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "a").chmod(0o644)
    (tmp_path / "b").chmod(0o664)
    assert read_own("a", 2, directory) == b"old", "one byte more than the limit, to tell that there is more"
    assert read_own("b", 10, directory) is None
    assert read_own("fifo", 10, directory) is None
    with pytest.raises(OSError, match="symbolic links"):
        read_own("link", 10, directory)
    with pytest.raises(FileNotFoundError):
        read_own("missing", 10, directory)


def test_another_users_file_is_not_read(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.geteuid() + 1
    monkeypatch.setattr(posix, "geteuid", lambda: other)
    assert read_own("a", 10, directory) is None


def test_an_open_file_gets_another_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"longer than the new one")
    handle = os.open(tmp_path / "a", os.O_PATH)
    (tmp_path / "a").rename(tmp_path / "moved")
    rewrite(handle, b"new")
    os.close(handle)
    assert content(tmp_path) == {"moved": b"new"}


def test_names_of_what_is_missing_or_closed_are_none(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert names(str(tmp_path)) == ["a"]
    assert names(str(tmp_path / "missing")) == []
    with pytest.raises(NotADirectoryError):
        names(str(tmp_path / "a"))


def test_all_descriptors_but_those_that_are_kept_are_closed(tmp_path: Path) -> None:
    """In a child: 0 and 1 become what `null` is, 2 is kept, and a kept one stays what it was."""
    (tmp_path / "kept").write_bytes(b"kept")
    reader, writer = os.pipe()
    if os.fork() == 0:
        kept, null = os.open(tmp_path / "kept", os.O_RDONLY), os.open(os.devnull, os.O_RDWR)
        os.open(tmp_path / "kept", os.O_RDONLY)
        close_all_but({2, kept, writer}, null)
        devices = [os.fstat(number).st_rdev == Path(os.devnull).stat().st_rdev for number in (0, 1, 2)]
        number_of_open = len(os.listdir("/proc/self/fd")) - 1
        os.write(writer, repr((devices[:2], os.read(kept, 9), number_of_open)).encode())
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 1000) == repr(([True, True], b"kept", 5)).encode()
    os.close(reader)
