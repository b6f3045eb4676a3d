"""Bind mounts over files of an image, for real in a namespace of the test's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ssh_hook.errors import HookError
from ssh_hook.linux import syscalls
from ssh_hook.linux.identity import Identity
from ssh_hook.linux.mounts import mount_bind
from ssh_hook.linux.rootfs import Rootfs
from ssh_hook.provision import covers
from ssh_hook.provision.covers import Covers

InNamespaces = Callable[[Callable[[], object]], Any]


@pytest.fixture(name="image")
def fixture_image(tmp_path: Path) -> Path:
    """The root directory of an image, beside the directory `ours` with our file `ssh`."""
    for name in ("image/etc", "ours"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ours/ssh").write_bytes(b"ours")
    (tmp_path / "image/etc/own").write_bytes(b"the image's")
    (tmp_path / "image/etc/empty").touch()
    (tmp_path / "image/etc/directory").mkdir()
    return tmp_path / "image"


def rootfs(image: Path) -> Rootfs:
    return Rootfs(os.open(image, os.O_PATH), Identity(0, 0), Identity(0, 0))


def test_what_the_image_has_is_not_covered_where_only_missing_files_are(
    image: Path, in_namespaces: InNamespaces
) -> None:
    names = ("own", "empty", "new", "directory", "directory/new")

    def work() -> list[object]:
        root, ours = rootfs(image), os.open(image.parent / "ours", os.O_PATH)
        noted: list[tuple[str, str]] = []
        root.note = lambda kind, path, _detail: noted.append((kind, path))
        for name in names:
            Covers(root).cover_missing(f"/etc/{name}", "ssh", ours)
        Covers(root).cover_missing("/etc/another", "of no file of ours", ours)
        return [noted, *((image / "etc" / name).is_file() and (image / "etc" / name).read_text() for name in names)]

    noted, *content = in_namespaces(work)
    assert content == ["the image's", "ours", "ours", False, "ours"]
    assert [path for kind, path in noted if kind == "mount"] == ["/etc/empty", "/etc/new", "/etc/directory/new"]
    assert (image / "etc/own").read_bytes() == b"the image's"


def test_a_file_is_covered_with_new_content(image: Path, in_namespaces: InNamespaces) -> None:
    def work() -> list[object]:
        directory = os.open(image.parent / "ours", os.O_PATH)
        Covers(rootfs(image)).cover_with("/etc/own", directory, "copy", b"new")
        status = os.stat(image / "etc/own")
        return [(image / "etc/own").read_bytes(), oct(status.st_mode), status.st_uid]

    assert in_namespaces(work) == [b"new", "0o100644", 0]
    assert (image / "etc/own").read_bytes() == b"the image's"


@pytest.mark.parametrize("is_mount", [True, False])
def test_a_deleted_file_is_rewritten_where_it_is_a_mount(
    image: Path, is_mount: bool, in_namespaces: InNamespaces
) -> None:
    """As charliecloud mounts one: nothing can be mounted over it."""

    def work() -> list[object]:
        (image.parent / "source").write_bytes(b"old")
        source = os.open(image.parent / "source", os.O_PATH)
        target = os.open(image / "etc/own", os.O_PATH)
        if is_mount:
            mount_bind(source, target)
            os.unlink(image.parent / "source")
        root = rootfs(image)
        noted: list[str] = []
        root.note = lambda _kind, _path, detail: noted.append(detail.partition(":")[2])
        if not is_mount:
            os.unlink(image / "etc/own")
            root.file = lambda _path: os.dup(target)
        try:
            Covers(root).cover_with("/etc/own", os.open(image.parent / "ours", os.O_PATH), "copy", b"new")
        except HookError as error:
            return [str(error).partition(":")[0]]
        return [(image / "etc/own").read_bytes(), noted]

    refusal = "/etc/own in the container is a deleted file that is not a mount or belongs to another user"
    assert in_namespaces(work) == ([b"new", ["old"]] if is_mount else [refusal])


def test_a_protected_mount_cannot_be_written_and_gives_no_rights(image: Path, in_namespaces: InNamespaces) -> None:
    def work() -> list[bool]:
        mount_bind(os.open(image.parent / "ours", os.O_PATH), os.open(image / "etc/directory", os.O_PATH))
        parent = os.open(image / "etc", os.O_PATH)
        syscalls.mount(b"", os.fsencode(image / "etc/directory"), b"", 1 << 20)  # MS_SHARED
        flags = os.fstatvfs(covers.protect_mount("directory", parent)).f_flag
        table = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        (line,) = [line for line in table if line.split()[4] == str(image / "etc/directory")]
        return [*(bool(flags & flag) for flag in (os.ST_RDONLY, os.ST_NOSUID, os.ST_NODEV)), "shared:" in line]

    assert in_namespaces(work) == [True, True, True, False]


def test_files_of_ours_belong_to_whom_they_are_for(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(covers.os, "fchown", lambda file, uid, gid: given.append((os.fstat(file).st_mode, uid, gid)))
    directory = os.open(image, os.O_PATH)
    os.close(covers.write_file(directory, "new", b"", 0o640, Identity(2001, 2002)))
    os.close(directory)
    assert given == [(0o100640, 2001, 2002)]
