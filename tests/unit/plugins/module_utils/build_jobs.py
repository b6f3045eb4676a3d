"""ELF files, jobs and builds for the tests of what builds Dropbear and OpenSSH's programs."""

from __future__ import annotations

import struct
import tarfile
from pathlib import Path
from typing import Any

from ansible_collections.ocihooks.ssh.plugins.module_utils._build import files, recipes, store
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import job as jobs

X86_64 = 62
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK, PT_GNU_RELRO = 1, 2, 3, 0x6474E551, 0x6474E552
PT_RISCV_ATTRIBUTES = 0x70000003
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB = 1, 2, 3
SHF_ALLOC, SHF_EXECINSTR, STT_FUNC = 2, 4, 2
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


def linked(code: bytes, functions: dict[str, int], machine: int = X86_64) -> bytes:
    """Make a linked program with a symbol table: its code is at BASE, where `functions` start at these offsets.

    A program header leads to what is not loaded, as of the linker for riscv64.
    """
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in functions)
    symbols = bytes(24)
    for name, offset in functions.items():
        symbols += struct.pack("<IBBHQQ", strings.index(name.encode()), STT_FUNC, 0, 1, BASE + offset, 4)
    names = b"\0.text\0.symtab\0.strtab\0.shstrtab\0"
    start = 64 + 2 * 56
    places = [start]
    for content in (code, symbols, strings, names):
        places.append(places[-1] + len(content))
    program_headers = struct.pack("<IIQQQQQQ", PT_LOAD, 5, start, BASE, BASE, len(code), len(code), 16)
    program_headers += struct.pack("<IIQQQQQQ", PT_RISCV_ATTRIBUTES, 4, places[2], 0, 0, len(strings), len(strings), 1)
    rows = [
        (0,) * 10,
        (names.index(b".text"), SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, BASE, places[0], len(code), 0, 0, 16, 0),
        (names.index(b".symtab"), SHT_SYMTAB, 0, 0, places[1], len(symbols), 3, 1, 8, 24),
        (names.index(b".strtab"), SHT_STRTAB, 0, 0, places[2], len(strings), 0, 0, 1, 0),
        (names.index(b".shstrtab"), SHT_STRTAB, 0, 0, places[3], len(names), 0, 0, 1, 0),
    ]
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, places[4], 0, 64, 56, 2, 64, len(rows), len(rows) - 1)
    table = b"".join(struct.pack("<IIQQQQIIQQ", *row) for row in rows)
    return ident + header + program_headers + code + symbols + strings + names + table


def source(**changes: object) -> dict[str, Any]:
    """Return what a module is told of a source."""
    archive = {"archive": "dropbear-2026.94.tar.bz2", "sha256": "0" * 64, "files": {"a.h": "text"}, "patches": {}}
    return {**archive, **changes}


LIBRARY = {"archive": "library-1.tar.gz", "sha256": "2" * 64, "files": {}, "patches": {}}
PACKED = {"dropbear": ["dropbearmulti"], "openssh": ["scp", "sftp", "sftp-server", "ssh"]}


def job(directory: Path, *, name: str = "dropbear", **changes: object) -> dict[str, Any]:
    """Return a job; the changes are to its fields, or to those of its one source that is not a library's."""
    libraries = recipes.RECIPES[name].libraries if name in recipes.RECIPES else ()
    fields: dict[str, Any] = {
        "build_dir": str(directory),
        "architectures": ["riscv64"],
        "native_compiler": "zig",
        "zig_requirement": "ziglang==0\n",
        "sources": {name: source(**{field: value for field, value in changes.items() if field in source()})}
        | dict.fromkeys(libraries, LIBRARY),
    }
    return fields | {field: value for field, value in changes.items() if field in fields}


def made(fields: dict[str, Any]) -> jobs.Job:
    """Return the job, as a module reads it."""
    entries = [{"name": name, **entry} for name, entry in fields["sources"].items()]
    return jobs.read_job({**fields, "sources": entries})


def wish(fields: dict[str, Any]) -> store.Build:
    """Return the one build of a job that has none yet."""
    (wanted,) = store.look(made(fields))
    assert wanted.digests is None
    return wanted


def kept(directory: Path, wanted: store.Build, *names: str) -> store.Build:
    """Put a build into the store that has these files; each holds its own name."""
    made = directory / "made"
    for name in names:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    assert wanted.directory is not None
    return store.keep(made, wanted, wanted.directory)


def release(directory: Path, *names: str) -> tuple[Path, jobs.Source]:
    """Make a release archive with these files."""
    archive = directory / "release-1.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        for name in names:
            opened.addfile(tarfile.TarInfo(name))
    return archive, jobs.Source(archive.name, files.sha256(archive))
