"""What `make test` does not build: the programs for other architectures, and all of this one's a second time, as
another user on another day. pytest takes this file when it is named.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from plays import Play
from sites import (
    ARCHIVE,
    BUILD,
    PROGRAMS,
    ROOT,
    Site,
    assert_equal_builds,
    build_as_another,
    check_under_emulation,
    run,
    succeeded,
)

ARCHITECTURES = {"aarch64": "AArch64", "ppc64le": "PowerPC64", "riscv64": "RISC-V"}  # as readelf names them


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, settings: Path) -> Site:
    """Where the programs of these architectures were built."""
    site = Site(tmp_path_factory.mktemp("built"), settings)
    succeeded(build(site))
    return site


def build(site: Site) -> Play:
    return site.play(playbook=BUILD, hosts=",".join(ARCHITECTURES))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_static_and_of_its_architecture(built: Site, architecture: str, name: str) -> None:
    (program,) = built.artefacts(name, architecture)
    text = run("readelf", "--wide", "--file-header", "--program-headers", "--dynamic", program)
    assert f"Machine:                           {ARCHITECTURES[architecture]}\n" in text
    assert "DYN (" in text
    assert "INTERP" not in text
    assert "(NEEDED)" not in text
    assert "GNU_RELRO" in text


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_programs_run_under_emulation(built: Site, architecture: str, tmp_path: Path) -> None:
    check_under_emulation(built, architecture, tmp_path)


def test_what_is_built_is_not_built_again(built: Site) -> None:
    assert succeeded(build(built)).changed == 0


def test_another_user_on_another_day_builds_the_same(settings: Path, site: Site, tmp_path: Path) -> None:
    """All programs and libraries of this architecture, in another directory, and the archive of the programs."""
    theirs, ours = site.directory / "programs.tar.gz", tmp_path / "programs.tar.gz"
    build_as_another(site, ARCHIVE, {"programs_archive_dest": str(theirs)})
    here = Site(tmp_path / "here", settings)
    here.build_dir = ROOT / ".cache" / "dropbear"
    succeeded(here.play(playbook=ARCHIVE, variables={"programs_archive_dest": str(ours)}))
    assert_equal_builds(site, here)
    assert theirs.stat().st_uid == 65534
    assert theirs.read_bytes() == ours.read_bytes()
