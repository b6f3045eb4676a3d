from __future__ import annotations

import hashlib
import json
import platform
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from role_scripts import load

build = load("dropbear", "build_programs")

X86_64 = 62
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK, PT_GNU_RELRO = 1, 2, 3, 0x6474E551, 0x6474E552
DT_NEEDED, DT_STRTAB, DT_FLAGS, DT_FLAGS_1 = 1, 5, 30, 0x6FFFFFFB
BIND_NOW, NOW = 8, 1
BASE = 0x1000  # where the file is loaded


def elf(
    kind: int = 3,
    machine: int = X86_64,
    interpreter: bytes = b"",
    needed: tuple[bytes, ...] = (),
    relro: bool = True,
    flags: tuple[tuple[int, int], ...] = ((DT_FLAGS, BIND_NOW), (DT_FLAGS_1, NOW)),
    stack: int | None = 6,
) -> bytes:
    """Make an ELF file that holds what the checks look at, and nothing else. Addresses are offsets + BASE."""
    strings = b"\0" + b"".join(name + b"\0" for name in needed)
    dynamic = list(flags)
    place = 1
    for name in needed:
        dynamic.append((DT_NEEDED, place))
        place += len(name) + 1
    kinds = [PT_LOAD, PT_DYNAMIC] + [PT_INTERP] * bool(interpreter) + [PT_GNU_RELRO] * relro
    kinds += [PT_GNU_STACK] * (stack is not None)
    start = 64 + 56 * len(kinds)
    dynamic += [(DT_STRTAB, BASE + start), (0, 0)]
    table = b"".join(struct.pack("<QQ", *entry) for entry in dynamic)
    contents = {PT_DYNAMIC: (start + len(strings), len(table))}
    contents[PT_INTERP] = (start + len(strings) + len(table), len(interpreter) + 1)
    data = strings + table + interpreter + b"\0"
    contents[PT_LOAD] = (0, start + len(data))
    headers = b""
    for header in kinds:
        offset, size = contents.get(header, (0, 0))
        permissions = (stack or 0) if header == PT_GNU_STACK else 4
        headers += struct.pack("<IIQQQQQQ", header, permissions, offset, BASE + offset, 0, size, size, 8)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    return (
        ident
        + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, len(kinds), 0, 0, 0)
        + headers
        + data
    )


def faults(data: bytes, architecture: str = "x86_64") -> list[str]:
    found: list[str] = build.faults(build.read_elf(data), architecture)
    return found


def test_a_static_position_independent_program_is_accepted() -> None:
    assert faults(elf()) == []


@pytest.mark.parametrize("flags", [((DT_FLAGS, BIND_NOW),), ((DT_FLAGS_1, NOW),), ((24, 0),)])
def test_each_way_to_say_bind_now_counts(flags: tuple[tuple[int, int], ...]) -> None:
    assert faults(elf(flags=flags)) == []


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (elf(interpreter=b"/lib/ld-musl-x86_64.so.1"), "needs the interpreter /lib/ld-musl-x86_64.so.1"),
        (elf(needed=(b"libc.so", b"libz.so.1")), "needs libc.so, libz.so.1"),
        (elf(kind=2), "is not position-independent"),
        (elf(relro=False), "does not bind all symbols at start, read-only"),
        (elf(flags=()), "does not bind all symbols at start, read-only"),
        (elf(stack=7), "has an executable stack"),
        (elf(stack=None), "has an executable stack"),
        (elf(machine=183), "is for another machine (ELF number 183)"),
    ],
)
def test_every_fault_is_named(data: bytes, fault: str) -> None:
    assert faults(data) == [fault]


def test_this_python_needs_an_interpreter_and_a_libc() -> None:
    data = Path(sys.executable).resolve().read_bytes()
    found = build.read_elf(data)
    assert found.machine == build.ELF_MACHINES[platform.machine()]
    assert found.interpreter.startswith("/lib")
    assert "libc.so.6" in found.needed


@pytest.mark.parametrize(
    "data", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(200), b"\x7fELF\x02\x02" + bytes(200)]
)
def test_what_is_no_64_bit_little_endian_program_is_refused(data: bytes) -> None:
    with pytest.raises(build.BuildError, match="not a 64-bit little-endian ELF file"):
        build.read_elf(data)


def test_a_file_cut_short_anywhere_is_refused_in_a_sentence() -> None:
    whole = elf(interpreter=b"/lib/ld", needed=(b"libc.so",))
    for length in range(len(whole)):
        with pytest.raises(build.BuildError):
            build.read_elf(whole[:length])


def test_the_refusal_names_file_architecture_and_faults(tmp_path: Path) -> None:
    program = tmp_path / "dropbearmulti"
    program.write_bytes(elf(interpreter=b"/lib/ld.so", needed=(b"libc.so",)))
    with pytest.raises(build.BuildError) as refusal:
        build.check_program(program, "x86_64", "dropbearmulti")
    assert str(refusal.value) == "dropbearmulti for x86_64 needs the interpreter /lib/ld.so; needs libc.so: refused"
    program.write_bytes(b"junk")
    with pytest.raises(
        build.BuildError, match="dropbearmulti for x86_64 is not a 64-bit little-endian ELF file: refused"
    ):
        build.check_program(program, "x86_64", "dropbearmulti")


def source(**changes: object) -> dict[str, object]:
    archive = {"archive": "dropbear-2026.94.tar.bz2", "sha256": "0" * 64, "files": {"a.h": "text"}, "patches": {}}
    return {**archive, **changes}


LIBRARY = {"archive": "library-1.tar.gz", "sha256": "2" * 64}


def job(directory: Path, *, name: str = "dropbear", **changes: object) -> dict[str, object]:
    """Return a job; the changes are to its fields, or to those of its one source that is not a library's."""
    libraries = build.RECIPES[name].libraries if name in build.RECIPES else ()
    fields: dict[str, object] = {
        "build_dir": str(directory),
        "architectures": ["riscv64"],
        "native_compiler": "zig",
        "zig_requirement": "ziglang==0\n",
        "sources": {name: source(**{field: value for field, value in changes.items() if field in source()})}
        | dict.fromkeys(libraries, LIBRARY),
    }
    return fields | {field: value for field, value in changes.items() if field in fields}


def made(fields: dict[str, object]) -> Any:
    return build.Job.from_json(json.dumps(fields))


def wish(fields: dict[str, object]) -> Any:
    """Return the one build of a job that has none yet."""
    (wanted,) = build.look(made(fields))
    assert wanted.digests is None
    return wanted


@pytest.mark.parametrize(
    "change",
    [
        {"name": "openssh"},
        {"archive": "dropbear-2025.89.tar.bz2"},
        {"sha256": "1" * 64},
        {"architectures": ["ppc64le"]},
        {"files": {"a.h": "another text"}},
        {"files": {"b.h": "text"}},
        {"patches": {"01-a.patch": "text"}},
        {"zig_requirement": "ziglang==1\n"},
    ],
)
def test_all_that_shapes_a_build_is_in_its_key(tmp_path: Path, change: dict[str, Any]) -> None:
    key = wish(job(tmp_path)).directory.name
    other = wish(job(tmp_path, **change)).directory.name
    assert key.rpartition("-")[2] != other.rpartition("-")[2]


def test_the_key_does_not_depend_on_the_place(tmp_path: Path) -> None:
    names = {wish(job(directory)).directory.name for directory in (tmp_path, tmp_path / "elsewhere")}
    assert len(names) == 1


def kept(directory: Path, wanted: Any, *files: str) -> Any:
    """Put a build into the store that has these files; each holds its own name."""
    made = directory / "made"
    for file in files:
        (made / file).parent.mkdir(parents=True, exist_ok=True)
        (made / file).write_text(file)
    return build.keep(made, wanted, wanted.directory)


def test_a_build_is_found_again_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    names = ["scp", "ssh"]
    fields = job(tmp_path, name="openssh")
    missing = wish(fields)
    found = kept(tmp_path, missing, *names)
    assert [file["program"] for file in found.files()] == names
    for file in found.files():
        path = Path(file["path"])
        assert path.read_text() == path.name
        assert file["sha256"] == build.sha256(path)
        assert path.stat().st_mode & 0o777 == 0o755
    for name in names:
        assert build.look(made(fields)) == [found]
        (missing.directory / name).write_text("something else")
        assert wish(fields) == missing
        assert kept(tmp_path, missing, *names) == found
        (missing.directory / name).unlink()
        assert wish(fields) == missing
        assert kept(tmp_path, missing, *names) == found
    (missing.directory / build.DIGESTS).write_text("")
    assert wish(fields) == missing


def test_a_library_is_a_build_of_its_own_and_part_of_the_key_of_what_is_linked_with_it(tmp_path: Path) -> None:
    fields = job(tmp_path, name="openssh")
    before = wish(fields)
    (library,) = before.libraries
    assert (library.source, library.architecture, library.digests) == ("openssl", "riscv64", None)
    kept(tmp_path, library, "lib/libcrypto.a", "include/openssl/evp.h")
    (library,) = wish(fields).libraries
    assert sorted(library.digests) == ["include/openssl/evp.h", "lib/libcrypto.a"]

    other = wish(job(tmp_path, name="openssh", sha256="1" * 64))
    assert other.directory != before.directory
    assert other.libraries == (library,)

    fields["sources"] = {**made_sources(fields), "openssl": {**LIBRARY, "sha256": "3" * 64}}
    changed = wish(fields)
    assert changed.directory != before.directory
    assert changed.libraries[0].directory != library.directory
    assert changed.libraries[0].digests is None


def made_sources(fields: dict[str, object]) -> dict[str, object]:
    sources = fields["sources"]
    assert isinstance(sources, dict)
    return sources


def test_programs_are_linked_with_the_library_in_the_store(tmp_path: Path) -> None:
    for name, variables in (
        ("openssh", {"CPPFLAGS": "-I{}/include -DOPENSSL_API_COMPAT=0x10100000L"}),
        ("dropbear", {"CPPFLAGS": "-I{}/include", "LIBS": "-lsodium"}),
    ):
        fields = job(tmp_path, name=name)
        wanted = wish(fields)
        environment = build.compiler_settings(made(fields), wanted, tmp_path)
        place = wanted.libraries[0].directory
        assert environment["LDFLAGS"].endswith(f" -L{place}/lib")
        for variable, value in variables.items():
            assert environment[variable] == value.format(place)


def test_a_library_is_built_without_temporary_paths_and_dates(tmp_path: Path) -> None:
    wanted = wish(job(tmp_path, name="openssh")).libraries[0]
    environment = build.compiler_settings(made(job(tmp_path, name="openssh")), wanted, tmp_path)
    assert environment["CC"] == "zig cc -target riscv64-linux-musl"
    assert environment["PATH"].startswith(f"{tmp_path}/zig/ziglang:")
    assert environment["SOURCE_DATE_EPOCH"] == "1"
    assert environment["CFLAGS"].endswith(" -fstack-clash-protection -ftrivial-auto-var-init=zero -g0")


def test_each_source_for_each_architecture_is_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = {
        "openssh": source(archive="openssh-1.tar.gz"),
        "dropbear": source(),
        "libsodium": LIBRARY,
        "openssl": LIBRARY,
    }
    fields = job(tmp_path, sources=sources, architectures=["riscv64", "aarch64"])
    first = build.look(made(fields))[0]
    kept(tmp_path, first, "dropbearmulti")
    assert build.main(["look"], {"DROPBEAR_JOB": json.dumps(fields)}) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["built"] is False
    assert answer["missing"] == ["aarch64", "riscv64"]
    assert answer["missing_sources"] == ["openssh", "dropbear", "openssl", "libsodium"]
    assert [(file["architecture"], file["program"]) for file in answer["files"]] == [("riscv64", "dropbearmulti")]


def test_only_sources_of_what_is_missing_are_asked_for(tmp_path: Path) -> None:
    archive = tmp_path / "sources" / "dropbear-2026.94.tar.bz2"
    archive.parent.mkdir()
    archive.write_bytes(b"the release")
    fields = job(tmp_path, sha256=build.sha256(archive))
    missing = wish(fields)
    assert build.missing_sources(made(fields), [missing]) == ["libsodium"]
    kept(tmp_path, missing.libraries[0], "lib/libsodium.a")
    missing = wish(fields)
    assert build.missing_sources(made(fields), [missing]) == []
    archive.write_bytes(b"damaged")
    assert build.missing_sources(made(fields), [missing]) == ["dropbear"]
    assert build.missing_sources(made(fields), []) == []


def test_looking_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "not there"
    assert build.main(["look"], {"DROPBEAR_JOB": json.dumps(job(directory))}) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["missing"] == ["riscv64"]
    assert answer["missing_sources"] == ["dropbear", "libsodium"]
    assert answer["files"] == []
    assert list(tmp_path.iterdir()) == []


def test_a_build_directory_that_others_can_write_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o775)
    assert build.main(["build"], {"DROPBEAR_JOB": json.dumps(job(tmp_path))}) == 2
    assert (
        capsys.readouterr().err
        == f"the build directory {tmp_path} is writable by others: run 'chmod go-w {tmp_path}'\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_source_with_another_digest_is_not_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(b"other")
    with pytest.raises(
        build.BuildError, match=f"has sha256 {build.sha256(archive)}, but dropbear-2026.94 has {'0' * 64}"
    ):
        build.unpack(archive, build.Source(**source()), tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_files_are_added_to_the_unpacked_source(tmp_path: Path) -> None:
    (tmp_path / "release-1").mkdir()
    (tmp_path / "release-1" / "configure").write_text("#!/bin/sh\n")
    archive = tmp_path / "release-1.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(tmp_path / "release-1", "release-1")
    changed = source(archive=archive.name, sha256=build.sha256(archive), files={"options.h": "text"})
    top = build.unpack(archive, build.Source(**changed), tmp_path / "unpacked")
    assert {path.name: path.read_text() for path in top.iterdir()} == {"configure": "#!/bin/sh\n", "options.h": "text"}


def release(directory: Path, *files: str) -> tuple[Path, Any]:
    """Make a release archive with these files."""
    archive = directory / "release-1.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        for file in files:
            opened.addfile(tarfile.TarInfo(file))
    return archive, build.Source(archive=archive.name, sha256=build.sha256(archive))


def test_directories_that_the_build_does_not_need_are_left_out(tmp_path: Path) -> None:
    archive, wanted = release(tmp_path, "top/test/a/b.c", "top/test/build.info", "top/crypto/test/c.c", "top/test.c")
    top = build.unpack(archive, wanted, tmp_path / "unpacked", ["test"])
    files = sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())
    assert files == ["crypto/test/c.c", "test.c", "test/build.info"]


def test_the_directory_in_an_archive_may_have_any_name_but_must_be_one(tmp_path: Path) -> None:
    archive, wanted = release(tmp_path, "release-1-RELEASE/configure")
    assert build.unpack(archive, wanted, tmp_path / "one").name == "release-1-RELEASE"
    archive, wanted = release(tmp_path, "a/configure", "b/configure")
    with pytest.raises(build.BuildError, match="has 2 files at its top instead of one directory"):
        build.unpack(archive, wanted, tmp_path / "two")


def test_an_archive_without_configure_is_named(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    archive, _wanted = release(tmp_path / "sources", "top/configure.ac")
    fields = job(tmp_path, archive=archive.name, sha256=build.sha256(archive), files={})
    (tmp_path / "scratch").mkdir()
    with pytest.raises(build.BuildError) as failure:
        build.compile_source(made(fields), wish(fields), tmp_path / "scratch")
    assert str(failure.value) == "release-1.tar.gz has no ./configure: take the release archive that upstream publishes"


def change(old: str, new: str) -> str:
    """Return a patch with a reason at its head."""
    return f"Why\n\n--- a/src/file\n+++ b/src/file\n@@ -1,3 +1,3 @@\n first\n-{old}\n+{new}\n last\n"


def patched(directory: Path, patches: dict[str, str]) -> str:
    (directory / "src").mkdir()
    (directory / "src" / "file").write_text("first\none\nlast\n")
    build.apply_patches(build.Source(**source(patches=patches)), directory)
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
    with pytest.raises(build.BuildError) as failure:
        patched(tmp_path, {"01-a.patch": text})
    assert str(failure.value) == (f"01-a.patch does not fit dropbear-2026.94 ({reason}): set a version that it fits")


def test_a_host_without_patch_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = made(job(tmp_path))
    assert "patch" not in build.missing_tools(wanted, ["riscv64"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.missing_tools(wanted, ["riscv64"])[:2] == ["make", "patch"]
    assert build.missing_tools(wanted, []) == []


def test_a_host_with_the_smallest_perl_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    perl = tmp_path / "perl"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    perl.write_text("#!/bin/sh\nexit 2\n")  # has no such module
    perl.chmod(0o755)
    assert "perl" in build.missing_tools(made(job(tmp_path, name="openssh")), ["riscv64"])
    assert "perl" not in build.missing_tools(made(job(tmp_path)), ["riscv64"])
    perl.write_text("#!/bin/sh\n")
    assert "perl" not in build.missing_tools(made(job(tmp_path, name="openssh")), ["riscv64"])


def test_a_compiler_gets_only_the_flags_that_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "musl-gcc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-ftrivial*) exit 1;; esac\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    build.gcc_flags.cache_clear()
    assert build.gcc_flags() == f"{build.CFLAGS} -fstack-clash-protection"
    build.gcc_flags.cache_clear()


def test_a_build_without_stack_canaries_is_refused(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.o").write_bytes(b"\x7fELF\0main\0")
    with pytest.raises(build.BuildError, match="release-1 was compiled without stack canaries"):
        build.check_canaries(tmp_path, "release-1")
    (tmp_path / "src" / "other.o").write_bytes(b"\x7fELF\0main\0__stack_chk_fail\0")
    build.check_canaries(tmp_path, "release-1")


def test_a_failed_step_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "for n in $(seq 100); do echo line $n; done; echo 'boom: error' >&2; exit 3"
    with pytest.raises(build.BuildError) as failure:
        build.run_step(["/bin/sh", "-c", script], tmp_path, {"PATH": "/usr/bin:/bin"}, log)
    lines = str(failure.value).splitlines()
    assert lines[0] == f"'/bin/sh' failed with status 3; the last lines of {log}:"
    assert lines[1] == "line 82"
    assert lines[-1] == "boom: error"


PACKED = {"dropbear": ["dropbearmulti"], "openssh": ["scp", "sftp", "sftp-server", "ssh"]}


def packed(directory: Path, program: bytes) -> dict[str, Any]:
    """Pack programs with this content, for x86_64 and riscv64. Return what `pack` answers."""
    directory.mkdir()
    sources = {"dropbear": source(), "openssh": source(archive="openssh-1.tar.gz"), "libsodium": LIBRARY}
    fields = job(directory, sources={**sources, "openssl": LIBRARY}, architectures=["x86_64", "riscv64"])
    # zig for each, so that no key depends on this machine's compiler
    for wanted in build.look(made(fields)):
        for name in PACKED[wanted.source]:
            path = directory / "made" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(program)
        build.keep(directory / "made", wanted, wanted.directory)
    for bill in build.sboms(made(fields), build.look(made(fields))):
        bill.path.parent.mkdir()
        bill.path.write_text(bill.text)
    answer: dict[str, Any] = build.pack(made(fields))
    assert answer["changed"] is True
    assert build.pack(made(fields)) == {**answer, "changed": False}
    return answer


def request(answer: dict[str, Any], directory: Path, **changes: object) -> dict[str, object]:
    fields = {"archive": answer["path"], "sha256": answer["sha256"], "release": "dropbear-2026.94"}
    return {**fields, "architectures": ["x86_64"], "directory": str(directory), **changes}


def test_programs_that_were_packed_are_extracted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = packed(tmp_path / "one", elf())
    assert packed(tmp_path / "two", elf())["sha256"] == answer["sha256"]
    wanted = request(answer, tmp_path / "programs")
    assert build.main(["extract"], {"DROPBEAR_PROGRAMS": json.dumps(wanted)}) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["missing"] == said["missing_sources"] == said["missing_tools"] == []
    assert sorted(file["program"] for file in said["files"]) == ["dropbearmulti", "scp", "sftp", "sftp-server", "ssh"]
    for file in said["files"]:
        assert file["architecture"] == "x86_64"
        assert Path(file["path"]).read_bytes() == elf()
        assert file["sha256"] == build.sha256(Path(file["path"])) == Path(file["path"]).name
    (bill,) = said["sboms"]
    assert bill["architecture"] == "x86_64"
    assert bill["sha256"] == build.sha256(Path(bill["path"]))
    assert json.loads(Path(bill["path"]).read_text())["bomFormat"] == "CycloneDX"


@pytest.mark.parametrize(
    ("program", "changes", "sentence"),
    [
        (elf(), {"sha256": "0" * 64}, "but dropbear_programs_sha256 is 000"),
        (elf(), {"archive": "/no/such"}, "dropbear_programs_archive /no/such is not a file on the controller"),
        (elf(), {"architectures": ["aarch64"]}, "has no dropbear-2026.94/aarch64/dropbearmulti: make one for"),
        (elf(), {"release": "dropbear-1"}, "has no dropbear-1/x86_64/dropbearmulti: make one for this version"),
        (elf(kind=2), {}, "dropbearmulti for x86_64 is not position-independent: refused"),
        (elf(), {"architectures": ["riscv64"]}, "dropbearmulti for riscv64 is for another machine"),
        (elf(), {"colour": "red"}, "DROPBEAR_PROGRAMS is not a request: "),
    ],
)
def test_an_archive_of_programs_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: bytes, changes: dict[str, object], sentence: str
) -> None:
    wanted = request(packed(tmp_path / "site", program), tmp_path / "programs", **changes)
    assert build.main(["extract"], {"DROPBEAR_PROGRAMS": json.dumps(wanted)}) == 2
    assert sentence in capsys.readouterr().err


def test_what_is_no_archive_of_programs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "archive"
    path.write_text("junk")
    wanted = request({"path": str(path), "sha256": build.sha256(path)}, tmp_path / "programs")
    assert build.main(["extract"], {"DROPBEAR_PROGRAMS": json.dumps(wanted)}) == 2
    assert capsys.readouterr().err == f"{path} is no archive of programs: not a gzip file\n"


def test_only_what_is_built_is_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["pack"], {"DROPBEAR_JOB": json.dumps(job(tmp_path))}) == 2
    assert capsys.readouterr().err == "the programs for riscv64 are not built\n"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"architectures": [], "sources": {}, "colour": 1}',
        '{"sources": {"dropbear": {}}}',
        '{"sources": {"dropbear": []}}',
        json.dumps(job(Path("/"), name="cat")),
        json.dumps(job(Path("/"), sources={"dropbear": source()})),
    ],
)
def test_what_is_no_job_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["look"], {"DROPBEAR_JOB": text}) == 2
    assert capsys.readouterr().err.startswith("DROPBEAR_JOB is not a job: ")


def all_sources(**changes: object) -> dict[str, object]:
    return {
        "dropbear": source(patches={"01-a.patch": "text"}),
        "libsodium": {"archive": "libsodium-1.0.22.tar.gz", "sha256": "2" * 64},
        "openssh": source(archive="openssh-10.3p1.tar.gz", sha256="3" * 64),
        "openssl": {"archive": "openssl-3.5.7.tar.gz", "sha256": "4" * 64},
        **changes,
    }


def bill_of(directory: Path, **changes: object) -> Any:
    """Return the bill of materials of programs that are in the store, each with its name as its content."""
    directory.mkdir(exist_ok=True)
    fields = job(directory, sources=all_sources(), **changes)
    for wanted in build.look(made(fields)):
        if wanted.digests is None:
            kept(directory, wanted, *PACKED[wanted.source])
    (bill,) = build.sboms(made(fields), build.look(made(fields)))
    return bill


def test_the_bill_of_materials_is_valid(tmp_path: Path) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    text = bill_of(tmp_path).text
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"SHA-256"', '"SHA-1000"')) is not None  # it does look


def test_the_bill_of_materials_names_what_the_programs_are_made_of(tmp_path: Path) -> None:
    bill = json.loads(bill_of(tmp_path).text)
    parts = {part["name"]: part for part in bill["components"]}
    assert {name: part.get("version") for name, part in parts.items()} == {
        "dropbear": "2026.94",
        "openssh": "10.3p1",
        "libsodium": "1.0.22",
        "openssl": "3.5.7",
        "musl": None,  # zig does not tell its version
    }
    assert parts["openssh"]["cpe"] == "cpe:2.3:a:openbsd:openssh:10.3:p1:*:*:*:*:*:*"
    assert parts["openssl"]["cpe"] == "cpe:2.3:a:openssl:openssl:3.5.7:*:*:*:*:*:*:*"
    assert parts["dropbear"]["purl"] == "pkg:generic/dropbear@2026.94"
    assert parts["openssl"]["externalReferences"][0]["hashes"] == [{"alg": "SHA-256", "content": "4" * 64}]
    assert [patch["diff"]["url"] for patch in parts["dropbear"]["pedigree"]["patches"]] == [
        "patches/dropbear/01-a.patch"
    ]
    assert [part["name"] for part in parts["openssh"]["components"]] == [
        "bin/scp",
        "bin/sftp",
        "bin/sftp-server",
        "bin/ssh",
    ]
    (multi,) = parts["dropbear"]["components"]
    assert multi["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"dropbearmulti").hexdigest()}]
    assert {entry["ref"]: entry.get("dependsOn") for entry in bill["dependencies"]} == {
        "programs": ["dropbear", "openssh"],
        "dropbear": ["libsodium", "musl"],
        "openssh": ["openssl", "musl"],
        "libsodium": ["musl"],
        "openssl": ["musl"],
        "musl": None,
    }


def test_equal_builds_have_an_equal_bill_of_materials(tmp_path: Path) -> None:
    one, two = bill_of(tmp_path / "one"), bill_of(tmp_path / "two")
    assert one.text == two.text
    other = bill_of(tmp_path / "one", architectures=["ppc64le"])
    assert json.loads(other.text)["serialNumber"] != json.loads(one.text)["serialNumber"]


def test_the_version_of_musl_is_that_of_its_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "musl_version", {platform.machine(): "1.2.5"}.get)
    fields = job(tmp_path, native_compiler="musl-gcc", sources=all_sources())
    component = build.libc_component(made(fields), platform.machine())
    assert component["cpe"] == "cpe:2.3:a:musl-libc:musl:1.2.5:*:*:*:*:*:*:*"
    other = build.libc_component(made(fields), "riscv64" if platform.machine() != "riscv64" else "x86_64")
    assert (other.get("version"), other["description"]) == (None, "As ziglang==0 brings it")


def test_programs_without_their_bill_of_materials_count_as_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bill = bill_of(tmp_path)
    fields = {"DROPBEAR_JOB": json.dumps(job(tmp_path, sources=all_sources()))}

    def answer(command: str) -> dict[str, Any]:
        assert build.main([command], fields) == 0
        said: dict[str, Any] = json.loads(capsys.readouterr().out)
        return said

    assert (answer("look")["missing"], answer("look")["sboms"]) == (["riscv64"], [])
    assert answer("look")["missing_sources"] == answer("look")["missing_tools"] == []
    assert answer("build")["built"] is True
    assert bill.path.read_text() == bill.text
    assert bill.path.stat().st_mode & 0o777 == 0o644
    assert (answer("look")["missing"], answer("look")["sboms"]) == ([], [bill.file()])
    assert answer("build")["built"] is False
    bill.path.write_text("damaged")
    assert answer("look")["missing"] == ["riscv64"]
