from __future__ import annotations

import json
import platform
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
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
        build.check_program(program, "x86_64")
    assert str(refusal.value) == "dropbearmulti for x86_64 needs the interpreter /lib/ld.so; needs libc.so: refused"
    program.write_bytes(b"junk")
    with pytest.raises(
        build.BuildError, match="dropbearmulti for x86_64 is not a 64-bit little-endian ELF file: refused"
    ):
        build.check_program(program, "x86_64")


def source(**changes: object) -> dict[str, object]:
    archive = {"archive": "dropbear-2026.94.tar.bz2", "sha256": "0" * 64, "files": {"a.h": "text"}, "patches": {}}
    return {**archive, **changes}


def job(directory: Path, *, name: str = "dropbear", **changes: object) -> dict[str, object]:
    """Return a job; the changes are to its fields, or to those of its one source."""
    fields: dict[str, object] = {
        "build_dir": str(directory),
        "architectures": ["riscv64"],
        "native_compiler": "zig",
        "zig_requirement": "ziglang==0\n",
        "sources": {name: source(**{field: value for field, value in changes.items() if field in source()})},
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


@pytest.mark.parametrize("name", build.RECIPES)
def test_a_build_is_found_again_and_a_damaged_one_is_not(tmp_path: Path, name: str) -> None:
    programs = [tmp_path / program for program in build.RECIPES[name].programs]
    for program in programs:
        program.write_bytes(elf() + program.name.encode())
    fields = job(tmp_path, name=name)
    missing = wish(fields)
    kept = build.keep(programs, missing, missing.directory, tmp_path)
    assert [file["program"] for file in kept.files()] == [program.name for program in programs]
    for file, program in zip(kept.files(), programs):
        assert Path(file["path"]).read_bytes() == program.read_bytes()
        assert file["sha256"] == build.sha256(program)
    for program in programs:
        assert build.look(made(fields)) == [kept]
        (missing.directory / program.name).write_bytes(elf(kind=2))
        assert wish(fields) == missing
        assert build.keep(programs, missing, missing.directory, tmp_path) == kept
        (missing.directory / program.name).unlink()
        assert wish(fields) == missing
        assert build.keep(programs, missing, missing.directory, tmp_path) == kept


def test_each_source_for_each_architecture_is_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = {"openssh": source(archive="openssh-1.tar.gz"), "dropbear": source()}
    fields = job(tmp_path, sources=sources, architectures=["riscv64", "aarch64"])
    program = tmp_path / "dropbearmulti"
    program.write_bytes(elf())
    first = build.look(made(fields))[0]
    build.keep([program], first, first.directory, tmp_path)
    assert build.main(["look"], {"DROPBEAR_JOB": json.dumps(fields)}) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["built"] is False
    assert answer["missing"] == ["aarch64", "riscv64"]
    assert answer["missing_sources"] == ["openssh", "dropbear"]
    assert [(file["architecture"], file["program"]) for file in answer["files"]] == [("riscv64", "dropbearmulti")]


def test_only_sources_of_what_is_missing_are_asked_for(tmp_path: Path) -> None:
    archive = tmp_path / "sources" / "dropbear-2026.94.tar.bz2"
    archive.parent.mkdir()
    archive.write_bytes(b"the release")
    fields = job(tmp_path, sha256=build.sha256(archive))
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
    assert answer["missing_sources"] == ["dropbear"]
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
    assert str(failure.value) == (
        f"01-a.patch does not fit dropbear-2026.94 ({reason}): set a dropbear_version that it fits"
    )


def test_a_host_without_patch_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = made(job(tmp_path))
    assert "patch" not in build.missing_tools(wanted, ["riscv64"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.missing_tools(wanted, ["riscv64"])[:2] == ["make", "patch"]
    assert build.missing_tools(wanted, []) == []


def test_a_failed_step_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "for n in $(seq 100); do echo line $n; done; echo 'boom: error' >&2; exit 3"
    with pytest.raises(build.BuildError) as failure:
        build.run_step(["/bin/sh", "-c", script], tmp_path, {"PATH": "/usr/bin:/bin"}, log)
    lines = str(failure.value).splitlines()
    assert lines[0] == f"'/bin/sh' failed with status 3; the last lines of {log}:"
    assert lines[1] == "line 82"
    assert lines[-1] == "boom: error"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"architectures": [], "sources": {}, "colour": 1}',
        '{"sources": {"dropbear": {}}}',
        '{"sources": {"dropbear": []}}',
        json.dumps(job(Path("/"), name="cat")),
    ],
)
def test_what_is_no_job_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["look"], {"DROPBEAR_JOB": text}) == 2
    assert capsys.readouterr().err.startswith("DROPBEAR_JOB is not a job: ")
