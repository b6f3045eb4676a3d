"""The compilers are called alike everywhere, and missing tools are named."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import compilers, errors
from ansible_collections.ocihooks.ssh.plugins.module_utils._build.elf import MACHINES
from build_jobs import elf, job, made


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    """Each test has compilers of its own."""
    yield
    compilers.gcc_flags.cache_clear()
    compilers.static_link.cache_clear()


def test_a_host_without_patch_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = made(job(tmp_path))
    assert "patch" not in compilers.missing_tools(wanted, ["riscv64"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compilers.missing_tools(wanted, ["riscv64"])[:2] == ["make", "patch"]
    assert compilers.missing_tools(wanted, []) == []


def test_a_host_with_the_smallest_perl_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    perl = tmp_path / "perl"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    perl.write_text("#!/bin/sh\nexit 2\n")  # has no such module
    perl.chmod(0o755)
    assert "perl" in compilers.missing_tools(made(job(tmp_path, name="openssh")), ["riscv64"])
    assert "perl" not in compilers.missing_tools(made(job(tmp_path)), ["riscv64"])
    perl.write_text("#!/bin/sh\n")
    assert "perl" not in compilers.missing_tools(made(job(tmp_path, name="openssh")), ["riscv64"])


def test_a_compiler_gets_only_the_flags_that_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "musl-gcc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-ftrivial*) exit 1;; esac\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    compilers.gcc_flags.cache_clear()
    assert compilers.gcc_flags() == f"{compilers.CFLAGS} -fstack-clash-protection"


def pretend_compiler(directory: Path, text: str) -> dict[str, str]:
    """Return the environment of a build with a compiler that writes what this shell command prints."""
    compiler = directory / "pretend-cc"
    compiler.write_text(f"#!/bin/sh\n{text} > probe.o\n")
    compiler.chmod(0o755)
    flags = " ".join([compilers.CFLAGS, *compilers.NEWER_CFLAGS])
    return {"CC": f"{compiler} -target any", "CFLAGS": flags, "PATH": "/usr/bin:/bin"}


def test_a_compiler_that_makes_other_code_without_each_flag_is_used(tmp_path: Path) -> None:
    compilers.check_flags(pretend_compiler(tmp_path, 'echo "$@"'), tmp_path)


@pytest.mark.parametrize("flag", compilers.OPPOSITES)
def test_a_compiler_that_ignores_a_flag_is_refused(tmp_path: Path, flag: str) -> None:
    variables = pretend_compiler(tmp_path, f"echo \"$@\" | sed 's/{compilers.OPPOSITES[flag]}//; s/ *-c / -c /'")
    with pytest.raises(errors.BuildError) as refusal:
        compilers.check_flags(variables, tmp_path)
    assert str(refusal.value) == f"'{variables['CC']}' ignores {flag}: build with another compiler"
    compilers.check_flags({**variables, "CFLAGS": variables["CFLAGS"].replace(flag, "")}, tmp_path)  # is not asked for


def test_a_compiler_that_fails_at_once_says_why(tmp_path: Path) -> None:
    variables = pretend_compiler(tmp_path, "echo 'no such target' >&2; exit 1")
    with pytest.raises(errors.BuildError, match="cannot compile a function of two lines: no such target"):
        compilers.check_flags(variables, tmp_path)


@pytest.mark.parametrize("flags", compilers.STATIC_LDFLAGS)
def test_a_musl_gcc_gets_the_flags_with_which_it_links_statically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str
) -> None:
    pretend_musl_gcc(tmp_path, monkeypatch, flags)
    assert compilers.static_link() == (flags, frozenset({"/lib/start.o"}))


def test_a_musl_gcc_that_never_links_statically_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_musl_gcc(tmp_path, monkeypatch, "-no-such-flag")
    with pytest.raises(errors.BuildError) as refusal:
        compilers.static_link()
    assert str(refusal.value) == (
        "musl-gcc makes a program that needs the interpreter /lib/ld-musl.so.1: "
        "install gcc and musl-tools of one release, Debian 12 or newer"
    )


def pretend_musl_gcc(directory: Path, monkeypatch: pytest.MonkeyPatch, understood: str) -> None:
    """Put a musl-gcc on PATH that links statically if its command line contains these flags, and else dynamically."""
    machine = MACHINES[platform.machine()]
    (directory / "static").write_bytes(elf(machine=machine))
    (directory / "dynamic").write_bytes(elf(machine=machine, interpreter=b"/lib/ld-musl.so.1"))
    compiler = directory / "musl-gcc"
    compiler.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *" {understood} "*) made=static ;; *) made=dynamic ;; esac\n'
        f'for program; do :; done; cp "{directory}/$made" "$program"\n'
        'echo /lib/start.o; echo "$TMPDIR/object.o"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    compilers.static_link.cache_clear()
