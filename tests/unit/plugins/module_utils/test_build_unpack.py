"""A release archive is verified, unpacked and patched."""

from __future__ import annotations

import dataclasses
import tarfile
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import errors
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import unpack as unpacking
from ansible_collections.ocihooks.ssh.plugins.module_utils._build.files import sha256
from ansible_collections.ocihooks.ssh.plugins.module_utils._build.job import Source
from build_jobs import release, source


def test_a_source_with_another_digest_is_not_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(b"other")
    with pytest.raises(errors.BuildError, match=f"has sha256 {sha256(archive)}, but dropbear-2026.94 has {'0' * 64}"):
        unpacking.unpack(archive, Source(**source()), tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "dropbear-2026.94.tar.bz2"
    with pytest.raises(errors.BuildError) as refusal:
        unpacking.unpack(archive, Source(**source()), tmp_path / "unpacked")
    assert str(refusal.value) == f"there is no {archive}: download dropbear-2026.94.tar.bz2 to that place"


def test_files_are_added_to_the_unpacked_source(tmp_path: Path) -> None:
    (tmp_path / "release-1").mkdir()
    (tmp_path / "release-1" / "configure").write_text("#!/bin/sh\n")
    archive = tmp_path / "release-1.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(tmp_path / "release-1", "release-1")
    changed = source(archive=archive.name, sha256=sha256(archive), files={"options.h": "text"})
    top = unpacking.unpack(archive, Source(**changed), tmp_path / "unpacked")
    assert {path.name: path.read_text() for path in top.iterdir()} == {"configure": "#!/bin/sh\n", "options.h": "text"}


def test_a_file_of_the_source_is_not_replaced(tmp_path: Path) -> None:
    archive, wanted = release(tmp_path, "release-1/src/a.c")
    with pytest.raises(errors.BuildError) as refusal:
        unpacking.unpack(archive, dataclasses.replace(wanted, files={"src/a.c": "text"}), tmp_path / "unpacked")
    assert str(refusal.value) == "release-1 has a file src/a.c of its own: set a version without it"


def test_directories_that_the_build_does_not_need_are_left_out(tmp_path: Path) -> None:
    archive, wanted = release(tmp_path, "top/test/a/b.c", "top/test/build.info", "top/crypto/test/c.c", "top/test.c")
    top = unpacking.unpack(archive, wanted, tmp_path / "unpacked", ["test"])
    files = sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())
    assert files == ["crypto/test/c.c", "test.c", "test/build.info"]


def test_the_directory_in_an_archive_may_have_any_name_but_must_be_one(tmp_path: Path) -> None:
    archive, wanted = release(tmp_path, "release-1-RELEASE/configure")
    assert unpacking.unpack(archive, wanted, tmp_path / "one").name == "release-1-RELEASE"
    archive, wanted = release(tmp_path, "a/configure", "b/configure")
    with pytest.raises(errors.BuildError, match="has 2 files at its top instead of one directory"):
        unpacking.unpack(archive, wanted, tmp_path / "two")


def change(old: str, new: str) -> str:
    """Return a patch with a reason at its head."""
    return f"Why\n\n--- a/src/file\n+++ b/src/file\n@@ -1,3 +1,3 @@\n first\n-{old}\n+{new}\n last\n"


def patched(directory: Path, patches: dict[str, str]) -> str:
    (directory / "src").mkdir()
    (directory / "src" / "file").write_text("first\none\nlast\n")
    unpacking.apply_patches(Source(**source(patches=patches)), directory)
    return (directory / "src" / "file").read_text()


def test_patches_are_applied_in_the_order_of_their_names(tmp_path: Path) -> None:
    patches = {"02-b.patch": change("two", "three"), "01-a.patch": change("one", "two")}
    assert patched(tmp_path, patches) == "first\nthree\nlast\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (change("other", "two"), "1 out of 1 hunk FAILED -- saving rejects to file src/file.rej"),
        (
            change("one", "two").replace(" last", " almost"),
            "1 out of 1 hunk FAILED -- saving rejects to file src/file.rej",
        ),
        ("no patch\n", "patch: **** Only garbage was found in the patch input."),
    ],
    ids=["another line", "another neighbour", "no patch"],
)
def test_a_patch_that_does_not_fit_is_named_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(errors.BuildError) as failure:
        patched(tmp_path, {"01-a.patch": text})
    assert str(failure.value) == (f"01-a.patch does not fit dropbear-2026.94 ({reason}): set a version that it fits")
