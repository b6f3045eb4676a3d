"""One build."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import compile as compiling
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import errors
from ansible_collections.ocihooks.ssh.plugins.module_utils._build.files import sha256
from build_jobs import job, made, release, wish


def test_programs_are_linked_with_the_library_in_the_store(tmp_path: Path) -> None:
    for name, variables in (
        ("openssh", {"CPPFLAGS": "-I{}/include -DOPENSSL_API_COMPAT=0x10100000L"}),
        ("dropbear", {"CPPFLAGS": "-I{}/include", "LIBS": "-lsodium"}),
    ):
        fields = job(tmp_path, name=name)
        wanted = wish(fields)
        environment = compiling.environment(made(fields), wanted, tmp_path)
        place = wanted.libraries[0].directory
        assert environment["LDFLAGS"].endswith(f" -L{place}/lib")
        for variable, value in variables.items():
            assert environment[variable] == value.format(place)


def test_a_library_is_built_without_temporary_paths_and_dates(tmp_path: Path) -> None:
    wanted = wish(job(tmp_path, name="openssh")).libraries[0]
    environment = compiling.environment(made(job(tmp_path, name="openssh")), wanted, tmp_path)
    assert environment["CC"] == "zig cc -target riscv64-linux-musl"
    assert environment["PATH"].startswith(f"{tmp_path}/zig/ziglang:")
    assert environment["SOURCE_DATE_EPOCH"] == "1"
    assert environment["CFLAGS"].endswith(" -fstack-clash-protection -ftrivial-auto-var-init=zero -g0")


def test_an_archive_without_configure_is_named(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    archive, _wanted = release(tmp_path / "sources", "top/configure.ac")
    fields = job(tmp_path, archive=archive.name, sha256=sha256(archive), files={})
    (tmp_path / "scratch").mkdir()
    with pytest.raises(errors.BuildError) as failure:
        compiling.compile_source(made(fields), wish(fields), tmp_path / "scratch")
    assert str(failure.value) == "release-1.tar.gz has no ./configure: use the release archive that upstream publishes"


def test_a_failed_step_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "for n in $(seq 100); do echo line $n; done; echo 'boom: error' >&2; exit 3"
    with pytest.raises(errors.BuildError) as failure:
        compiling.run_step(["/bin/sh", "-c", script], tmp_path, {"PATH": "/usr/bin:/bin"}, log)
    lines = str(failure.value).splitlines()
    assert lines[0] == f"'/bin/sh' failed with status 3; the last lines of {log}:"
    assert lines[1] == "line 82"
    assert lines[-1] == "boom: error"


def test_a_step_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "STEP_SECONDS", 0.2)
    with pytest.raises(errors.BuildError, match=r"'/bin/sleep' did not end within 0\.2 s; the last lines of "):
        compiling.run_step(["/bin/sleep", "60"], tmp_path, {}, tmp_path / "log")
