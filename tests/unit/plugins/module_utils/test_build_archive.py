"""Programs for sites without a compiler."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import archive, errors
from ansible_collections.ocihooks.ssh.plugins.module_utils._build.files import sha256
from build_jobs import PACKED, elf

RELEASE = "dropbear-2026.94"


def built(directory: Path, program: bytes) -> list[dict[str, str]]:
    """Return programs with this content for x86_64 and riscv64, and their bills of materials."""
    directory.mkdir()
    described = []
    for architecture in ("x86_64", "riscv64"):
        for name in [*PACKED["dropbear"], *PACKED["openssh"], archive.SBOM]:
            path = directory / f"{architecture}-{name}"
            path.write_bytes(b"{}" if name == archive.SBOM else program)
            file = {"architecture": architecture, "path": str(path), "sha256": sha256(path)}
            described.append(file if name == archive.SBOM else {**file, "program": name})
    return described


def packed(directory: Path, program: bytes) -> Path:
    path = directory / "programs.tar.gz"
    path.write_bytes(archive.packed(built(directory / "built", program), RELEASE))
    return path


def request(path: Path, directory: Path, **changes: Any) -> archive.Request:
    return dataclasses.replace(archive.Request(path, sha256(path), RELEASE, ["x86_64"], directory), **changes)


def test_equal_programs_make_an_equal_archive(tmp_path: Path) -> None:
    one, two = built(tmp_path / "one", elf()), built(tmp_path / "two", elf())
    assert archive.packed(one, RELEASE) == archive.packed(two[::-1], RELEASE)


def test_a_file_that_was_changed_since_is_not_packed(tmp_path: Path) -> None:
    files = built(tmp_path / "built", elf())
    Path(files[0]["path"]).write_text("changed")
    with pytest.raises(errors.BuildError, match=r"dropbearmulti was changed since it was built: run the play again"):
        archive.packed(files, RELEASE)


def test_programs_that_were_packed_are_unpacked(tmp_path: Path) -> None:
    wanted = request(packed(tmp_path, elf()), tmp_path / "programs")
    checked = archive.unpack(wanted, check=True)
    assert not wanted.directory.exists()
    files, bills, written = archive.unpack(wanted, check=False)
    assert checked == (files, bills, written)
    assert sorted(file["program"] for file in files) == ["dropbearmulti", "scp", "sftp", "sftp-server", "ssh"]
    for file in files:
        assert file["architecture"] == "x86_64"
        path = Path(file["path"])
        assert (path.read_bytes(), path.name, path.stat().st_mode & 0o777) == (elf(), file["sha256"], 0o755)
    (bill,) = bills
    assert (bill["architecture"], Path(bill["path"]).read_bytes()) == ("x86_64", b"{}")
    assert set(written) == {file["path"] for file in [*files, bill]}
    assert archive.unpack(wanted, check=False) == (files, bills, [])
    Path(bill["path"]).write_text("damaged")
    assert archive.unpack(wanted, check=False) == (files, bills, [bill["path"]])


@pytest.mark.parametrize(
    ("program", "changes", "sentence"),
    [
        (elf(), {"sha256": "0" * 64}, "but dropbear_programs_sha256 is 000"),
        (elf(), {"archive": Path("/no/such")}, "dropbear_programs_archive /no/such is not a file on the controller"),
        (
            elf(),
            {"architectures": ["aarch64"]},
            "does not contain dropbear-2026.94/aarch64/dropbearmulti: create one for",
        ),
        (
            elf(),
            {"release": "dropbear-1"},
            "does not contain dropbear-1/x86_64/dropbearmulti: create one for this version",
        ),
        (elf(kind=2), {}, "dropbearmulti for x86_64 is not position-independent: refused"),
        (elf(), {"architectures": ["riscv64"]}, "dropbearmulti for riscv64 is for another machine"),
    ],
)
def test_an_archive_of_programs_is_refused_in_a_sentence(
    tmp_path: Path, program: bytes, changes: dict[str, Any], sentence: str
) -> None:
    wanted = request(packed(tmp_path, program), tmp_path / "programs", **changes)
    with pytest.raises(errors.BuildError) as refusal:
        archive.unpack(wanted, check=False)
    assert sentence in str(refusal.value)
    assert not wanted.directory.exists()


def test_what_is_no_archive_of_programs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_text("junk")
    with pytest.raises(errors.BuildError) as refusal:
        archive.unpack(request(path, tmp_path / "programs"), check=False)
    assert str(refusal.value) == f"{path} is not an archive of programs: not a gzip file"
