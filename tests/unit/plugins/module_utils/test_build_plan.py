"""What is missing is found, and made."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import errors, plan
from ansible_collections.ocihooks.ssh.plugins.module_utils._build.files import sha256
from build_jobs import LIBRARY, PACKED, job, kept, made, source, wish


def test_each_source_for_each_architecture_is_looked_for(tmp_path: Path) -> None:
    sources = {
        "openssh": source(archive="openssh-1.tar.gz"),
        "dropbear": source(),
        "libsodium": LIBRARY,
        "openssl": LIBRARY,
    }
    wanted = made(job(tmp_path, sources=sources, architectures=["riscv64", "aarch64"]))
    kept(tmp_path, plan.inspect(wanted).builds[0], "dropbearmulti")
    status = plan.inspect(wanted)
    assert plan.missing_architectures(wanted, status) == ["aarch64", "riscv64"]
    assert plan.missing_sources(wanted, status) == ["dropbear", "libsodium", "openssh", "openssl"]
    files = [file for build in status.builds for file in build.files()]
    assert [(file["architecture"], file["program"]) for file in files] == [("riscv64", "dropbearmulti")]
    assert plan.to_do(wanted, status) == [
        "build library-1 for riscv64",
        "build library-1 for aarch64",
        "build library-1 for aarch64",
        "build openssh-1 for riscv64",
        "build dropbear-2026.94 for aarch64",
        "build openssh-1 for aarch64",
    ]


def test_only_sources_of_what_is_missing_are_asked_for(tmp_path: Path) -> None:
    archive = tmp_path / "sources" / "dropbear-2026.94.tar.bz2"
    archive.parent.mkdir()
    archive.write_bytes(b"the release")
    wanted = made(fields := job(tmp_path, sha256=sha256(archive)))

    def asked_for() -> list[str]:
        return plan.missing_sources(wanted, plan.inspect(wanted))

    assert asked_for() == ["libsodium"]
    kept(tmp_path, wish(fields).libraries[0], "lib/libsodium.a")
    assert asked_for() == []
    archive.write_bytes(b"damaged")
    assert asked_for() == ["dropbear"]
    kept(tmp_path, wish(fields), "dropbearmulti")
    assert asked_for() == []


def test_looking_changes_nothing(tmp_path: Path) -> None:
    wanted = made(job(tmp_path / "not there"))
    assert plan.missing_architectures(wanted, plan.inspect(wanted)) == ["riscv64"]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_built_in_a_directory_that_others_can_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    with pytest.raises(errors.BuildError, match="is writable by others"):
        plan.make_all(made(job(tmp_path)))
    with pytest.raises(errors.BuildError, match="is writable by others"):
        plan.inspect(made(job(tmp_path)))  # nor is a build taken from there
    assert list(tmp_path.iterdir()) == []
    for act in (plan.make_all, plan.inspect):
        with pytest.raises(errors.BuildError, match=f"could be replaced, since {tmp_path} is writable by others"):
            act(made(job(tmp_path / "build")))


def test_a_host_that_lacks_a_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.BuildError, match=r"the build host \S+ lacks make, patch.*: install what provides it"):
        plan.make_all(made(job(tmp_path / "build")))


def test_programs_without_their_bill_of_materials_count_as_missing(tmp_path: Path) -> None:
    sources = {
        "dropbear": source(),
        "openssh": source(archive="openssh-10.3p1.tar.gz"),
        "libsodium": LIBRARY,
        "openssl": LIBRARY,
    }
    wanted = made(job(tmp_path, sources=sources))
    for build in plan.inspect(wanted).builds:
        kept(tmp_path, build, *PACKED[build.source])
    status = plan.inspect(wanted)
    (bill,) = status.bills
    assert (plan.missing_architectures(wanted, status), status.kept_bills) == (["riscv64"], [])
    assert plan.missing_sources(wanted, status) == plan.missing_tools(wanted, status) == []
    status, lines = plan.make_all(wanted)
    assert (status.kept_bills, lines) == ([bill], [f"write {bill.path}"])
    assert plan.make_all(wanted)[1] == []
    assert bill.path.read_text() == bill.text
    assert bill.path.stat().st_mode & 0o777 == 0o644
    assert plan.missing_architectures(wanted, plan.inspect(wanted)) == []
    bill.path.write_text("damaged")
    assert plan.missing_architectures(wanted, plan.inspect(wanted)) == ["riscv64"]


def test_a_job_without_the_source_of_a_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.BuildError) as refusal:
        made(job(tmp_path, sources={"dropbear": source()}))
    assert str(refusal.value) == "sources lacks libsodium, which programs are linked with: add it"
