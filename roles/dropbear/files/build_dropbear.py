# Copyright: (c) 2026, The ocihooks.ssh contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build Dropbear as one static, position-independent program per architecture, once.

    DROPBEAR_JOB='{...}' python3 build_dropbear.py look|build

The job (JSON, see `Job`) comes in the environment, so that nothing has to be copied to the build
host. `look` only reads: it tells which builds are there. `build` makes those that are missing. Both
print {"source": bool, "missing_tools": [...], "artefacts": {architecture: {"path", "sha256", "built"}}}.

A build is kept under a key made of all that shapes it: source, patches, options, compiler,
architecture and this file. Exit status 2: one error, said on stderr.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import platform
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

BINARY = "dropbearmulti"
PROGRAMS = "dropbear dbclient dropbearkey scp"

# -fno-strict-overflow and the stack protector are upstream's own hardening, which --disable-harden
# switches off because it would also choose a linking of its own.
CFLAGS = "-O3 -fPIC -fstack-protector-strong -fno-strict-overflow -Wno-pointer-sign"
LDFLAGS = "-Wl,-z,relro,-z,now,-z,noexecstack -s"
# Without the utmp and wtmp switches musl logs an error at every terminal.
CONFIGURE = [
    "--disable-harden",
    "--disable-zlib",
    "--enable-bundled-libtom",
    "--disable-lastlog",
    "--disable-utmp",
    "--disable-utmpx",
    "--disable-wtmp",
    "--disable-wtmpx",
    "--disable-loginfunc",
    "--disable-pututline",
    "--disable-pututxline",
]

LOG_TAIL = 20  # lines of a failed build that are shown

ELF_MACHINES = {"x86_64": 62, "aarch64": 183, "ppc64le": 21, "riscv64": 243}
ZIG_TARGETS = {
    "x86_64": "x86_64-linux-musl",
    "aarch64": "aarch64-linux-musl",
    "ppc64le": "powerpc64le-linux-musl",
    "riscv64": "riscv64-linux-musl",
}


class BuildError(Exception):
    """A failure that its text explains completely, to the person who runs the play."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What to build, as the role says it.

    `build_dir` is where sources and builds are kept, `native_compiler` ("musl-gcc" or "zig") serves
    the build host's own architecture (every other is built by zig), `zig_requirement` is a pip
    requirements file with digests, `localoptions` the text of localoptions.h, `patches` the texts of
    unified diffs by their names, which give their order.
    """

    version: str
    source_sha256: str
    build_dir: str
    architectures: tuple[str, ...]
    native_compiler: str
    localoptions: str
    patches: Mapping[str, str]
    zig_requirement: str

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read a job; raises BuildError if a field is missing or unknown."""
        fields = json.loads(text)
        try:
            return cls(**{**fields, "architectures": tuple(fields["architectures"])})
        except (KeyError, TypeError) as error:
            raise BuildError(f"DROPBEAR_JOB is not a job: {error}") from None

    @property
    def source(self) -> Path:
        """The release archive, put there by fetch_source.py."""
        return Path(self.build_dir, "sources", f"dropbear-{self.version}.tar.bz2")

    def compiler(self, architecture: str) -> str:
        """Return "musl-gcc" or "zig", whichever builds for `architecture` on this host."""
        return self.native_compiler if architecture == platform.machine() else "zig"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- The compilers ------------------------------------------------------------------------------


def pip_command() -> list[str] | None:
    """Return a pip to call, or None: a virtual environment's Python may be without."""
    for python in (sys.executable, "/usr/bin/python3"):
        if os.access(python, os.X_OK):
            command = [python, "-m", "pip"]
            if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0:
                return command
    return None


def missing_tools(job: Job, architectures: Sequence[str]) -> list[str]:
    """Return the tools that building for `architectures` needs and this host lacks."""
    compilers = {job.compiler(architecture) for architecture in architectures}
    tools = ["make", "patch"] if compilers else []
    if "musl-gcc" in compilers:
        tools += ["gcc", "musl-gcc"]
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if "zig" in compilers and pip_command() is None:
        missing.append("pip")
    return missing


def gcc_identity() -> str | None:
    """Return a digest of every file that shapes what musl-gcc makes, or None where it is absent."""
    if shutil.which("gcc") is None or shutil.which("musl-gcc") is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        # The linker itself tells which start files and libraries it takes.
        trace = subprocess.run(
            ["musl-gcc", "-static-pie", "-Wl,--trace", "-x", "c", "-", "-o", f"{directory}/program"],
            input="int main(void) { return 0; }",
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": directory},
        )
        if trace.returncode != 0:
            raise BuildError(f"musl-gcc cannot build a program of one line: {last_lines(trace.stderr)}")
        files = {line.split("(")[0] for line in trace.stdout.splitlines() if not line.startswith(directory)}
    for program in ("cc1", "as", "ld"):
        found = subprocess.run(
            ["gcc", f"-print-prog-name={program}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        files.add(shutil.which(found) or found)
    files |= {shutil.which("gcc") or "", shutil.which("musl-gcc") or ""}
    return hashlib.sha256("".join(sha256(Path(name)) for name in sorted(files)).encode()).hexdigest()


def install_zig(job: Job, directory: Path) -> Path:
    """Install the pinned zig below `directory` and return its program. pip checks the digest."""
    pip = pip_command()
    if pip is None:
        raise BuildError("zig is installed by pip, which this host lacks: install python3-pip")
    requirements = directory / "zig-requirements.txt"
    requirements.write_text(job.zig_requirement)
    command = [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(requirements), "--target", str(directory / "zig")]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0:
        raise BuildError(f"pip could not install the compiler zig:\n{last_lines(result.stdout)}")
    return directory / "zig" / "ziglang" / "zig"


def compiler_settings(job: Job, architecture: str, scratch: Path) -> dict[str, str]:
    """Return the environment in which configure and make run: nothing of the caller's but PATH."""
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LC_ALL": "C",
        "TZ": "UTC",
        "CFLAGS": CFLAGS,
    }
    if job.compiler(architecture) == "musl-gcc":
        return {**environment, "CC": "musl-gcc", "LDFLAGS": f"-static-pie {LDFLAGS}"}
    zig = scratch / "zig" / "ziglang" / "zig"
    if not zig.exists():
        install_zig(job, scratch)
    return {
        **environment,
        "CC": f"{zig} cc -target {ZIG_TARGETS[architecture]}",
        "AR": f"{zig} ar",
        "RANLIB": f"{zig} ranlib",
        "LDFLAGS": f"-static -pie {LDFLAGS}",
        "ZIG_GLOBAL_CACHE_DIR": str(scratch / "zig-cache"),
        "ZIG_LOCAL_CACHE_DIR": str(scratch / "zig-cache"),
    }


# --- What was built -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Elf:
    """What the checks need to know of a program."""

    machine: int
    position_independent: bool
    interpreter: str
    needed: tuple[str, ...]
    relro: bool
    bind_now: bool
    executable_stack: bool


def read_elf(data: bytes) -> Elf:
    """Read a 64-bit little-endian ELF file; raises BuildError if `data` is none, or is cut short."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise BuildError("not a 64-bit little-endian ELF file")
    try:
        return _read_elf(data)
    except (struct.error, ValueError):
        raise BuildError("a damaged ELF file") from None


def _read_elf(data: bytes) -> Elf:
    kind, machine = struct.unpack_from("<HH", data, 16)
    (table,) = struct.unpack_from("<Q", data, 32)
    entry_size, count = struct.unpack_from("<HH", data, 54)
    # Of each program header: type, flags, file offset, virtual address, size in the file.
    headers = [struct.unpack_from("<IIQQ8xQ", data, table + number * entry_size) for number in range(count)]
    if any(offset + size > len(data) for _header, _flags, offset, _address, size in headers):
        raise ValueError("cut short")

    def contents(wanted: int) -> bytes:
        for header, _flags, offset, _address, size in headers:
            if header == wanted:
                return data[offset : offset + size]
        return b""

    def text_at(address: int) -> str:
        for header, _flags, offset, start, size in headers:
            if header == 1 and start <= address < start + size:  # PT_LOAD
                place = offset + address - start
                return data[place : data.index(b"\0", place)].decode(errors="replace")
        raise ValueError(address)

    dynamic = list(struct.iter_unpack("<QQ", contents(2)))  # PT_DYNAMIC
    values = dict(dynamic)
    flags = {header: flags for header, flags, *_rest in headers}
    return Elf(
        machine=machine,
        position_independent=kind == 3,  # ET_DYN
        interpreter=contents(3).rstrip(b"\0").decode(errors="replace"),  # PT_INTERP
        needed=tuple(text_at(values[5] + value) for tag, value in dynamic if tag == 1),  # DT_NEEDED in DT_STRTAB
        relro=0x6474E552 in flags,  # PT_GNU_RELRO
        bind_now=24 in values or bool(values.get(30, 0) & 8) or bool(values.get(0x6FFFFFFB, 0) & 1),
        executable_stack=bool(flags.get(0x6474E551, 1) & 1),  # PT_GNU_STACK; absent means executable
    )


def faults(elf: Elf, architecture: str) -> list[str]:
    """Return why a program must not be installed; empty if it may."""
    found = []
    if elf.machine != ELF_MACHINES[architecture]:
        found.append(f"is for another machine (ELF number {elf.machine})")
    if elf.interpreter:
        found.append(f"needs the interpreter {elf.interpreter}")
    if elf.needed:
        found.append(f"needs {', '.join(elf.needed)}")
    if not elf.position_independent:
        found.append("is not position-independent")
    if not (elf.relro and elf.bind_now):
        found.append("does not bind all symbols at start, read-only")
    if elf.executable_stack:
        found.append("has an executable stack")
    return found


def check_program(path: Path, architecture: str) -> None:
    """Raise BuildError unless the program runs in a container without libc, hardened as intended."""
    try:
        found = faults(read_elf(path.read_bytes()), architecture)
    except BuildError as error:
        found = [f"is {error}"]
    if found:
        raise BuildError(f"{path.name} for {architecture} {'; '.join(found)}: refused")


# --- The build ----------------------------------------------------------------------------------


def last_lines(text: str) -> str:
    """Return the end of a compiler's output, where the reason stands."""
    return "\n".join(line for line in text.splitlines()[-LOG_TAIL:] if line.strip())


def unpack(job: Job, directory: Path) -> Path:
    """Unpack the source below `directory` and return its top; raises BuildError on a wrong digest."""
    data = job.source.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != job.source_sha256:
        raise BuildError(f"{job.source} has sha256 {digest}, but {job.version} has {job.source_sha256}: remove it")
    with tarfile.open(job.source) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(directory)
    return directory / f"dropbear-{job.version}"


def apply_patches(job: Job, source: Path) -> None:
    """Apply the patches to the unpacked source; raises BuildError, in one line, if one does not fit exactly."""
    for name, text in sorted(job.patches.items()):
        result = subprocess.run(
            ["patch", "--strip=1", "--fuzz=0", "--batch", "--quiet"],
            cwd=source,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            reason = "; ".join(result.stdout.split("\n")).rstrip("; ")
            raise BuildError(
                f"{name} does not fit Dropbear {job.version} ({reason}): set a dropbear_version that it fits"
            )


def run_step(command: Sequence[str], directory: Path, environment: Mapping[str, str], log: Path) -> None:
    """Run one command of the build, its output to the end of `log`; raises BuildError with the last of it."""
    with log.open("a") as output:
        status = subprocess.run(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        ).returncode
    if status != 0:
        text = log.read_text(errors="replace")
        raise BuildError(f"'{command[0]}' failed with status {status}; the last lines of {log}:\n{last_lines(text)}")


def compile_dropbear(job: Job, architecture: str, scratch: Path) -> Path:
    """Build for one architecture below `scratch` and return the checked program."""
    log = Path(job.build_dir, f"build-{job.version}-{architecture}.log")
    log.unlink(missing_ok=True)
    environment = compiler_settings(job, architecture, scratch)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=f"{architecture}-") as directory:
        source = unpack(job, Path(directory))
        apply_patches(job, source)
        (source / "localoptions.h").write_text(job.localoptions)
        host = [f"--host={ZIG_TARGETS[architecture]}"] if job.compiler(architecture) == "zig" else []
        jobs = len(os.sched_getaffinity(0))
        run_step(["./configure", *CONFIGURE, *host], source, environment, log)
        run_step(["make", f"-j{jobs}", "MULTI=1", f"PROGRAMS={PROGRAMS}"], source, environment, log)
        check_program(source / BINARY, architecture)
        result = scratch / f"{BINARY}-{architecture}"
        shutil.copyfile(source / BINARY, result)
    log.unlink()
    return result


# --- The store ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Artefact:
    """One finished or future build. `sha256` is None if it is not there; `path` is then a wish."""

    path: str
    sha256: str | None
    built: bool = False


def artefact_directory(job: Job, architecture: str) -> Path | None:
    """Return where a build of these inputs is kept, or None if its compiler is not installed yet."""
    compiler = job.compiler(architecture)
    identity = gcc_identity() if compiler == "musl-gcc" else job.zig_requirement
    if identity is None:
        return None
    recipe = Path(__file__).read_text()
    patches = sorted(job.patches.items())
    inputs = [job.version, job.source_sha256, patches, job.localoptions, compiler, identity, architecture, recipe]
    key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    return Path(job.build_dir, "artefacts", f"dropbear-{job.version}-{architecture}-{key[:12]}")


def find(directory: Path | None) -> Artefact:
    """Return the build kept in `directory`, as not there unless it has the digest recorded beside it."""
    if directory is None:
        return Artefact(path="", sha256=None)
    binary = directory / BINARY
    try:
        digest = sha256(binary)
        recorded = (directory / f"{BINARY}.sha256").read_text().split()[0]
    except (FileNotFoundError, IndexError):
        return Artefact(str(binary), sha256=None)
    return Artefact(str(binary), sha256=digest if digest == recorded else None)


def keep(binary: Path, directory: Path, scratch: Path) -> Artefact:
    """Move a build into the store as a whole, with its digest beside it."""
    made = Path(tempfile.mkdtemp(dir=scratch))
    digest = sha256(binary)
    shutil.copyfile(binary, made / BINARY)
    (made / BINARY).chmod(0o755)
    (made / f"{BINARY}.sha256").write_text(f"{digest}  {BINARY}\n")
    made.chmod(0o755)
    directory.parent.mkdir(mode=0o755, exist_ok=True)
    if directory.exists():  # a damaged one, or it would have been found
        shutil.rmtree(directory)
    made.rename(directory)
    return Artefact(str(directory / BINARY), digest, built=True)


def check_build_directory(path: Path) -> None:
    """Raise BuildError if another user could change what is built there, and then run everywhere."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise BuildError(f"the build directory {path} belongs to uid {status.st_uid}: it must be the builder's own")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BuildError(f"the build directory {path} is writable by others: run 'chmod go-w {path}'")


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the build directory against other plays; the kernel releases it when the holder dies."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def look(job: Job) -> dict[str, Artefact]:
    """Return what is there, per architecture."""
    return {architecture: find(artefact_directory(job, architecture)) for architecture in job.architectures}


def build(job: Job) -> dict[str, Artefact]:
    """Make what is missing and return everything, per architecture."""
    base = Path(job.build_dir)
    check_build_directory(base)
    with locked(base):
        artefacts = look(job)  # again: another play may have built meanwhile
        wanted = [architecture for architecture, artefact in artefacts.items() if artefact.sha256 is None]
        if missing := missing_tools(job, wanted):
            raise BuildError(f"the build host {platform.node()} lacks {', '.join(missing)}: install what provides it")
        with tempfile.TemporaryDirectory(dir=base, prefix="work-") as scratch:
            for architecture in wanted:
                directory = artefact_directory(job, architecture)
                if directory is None:
                    raise BuildError(f"the compiler for {architecture} went away during the build: run the play again")
                binary = compile_dropbear(job, architecture, Path(scratch))
                artefacts[architecture] = keep(binary, directory, Path(scratch))
    return artefacts


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Do what the module's docstring says and return the exit status."""
    try:
        job = Job.from_json(environment["DROPBEAR_JOB"])
        artefacts = build(job) if list(arguments) == ["build"] else look(job)
    except (BuildError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    wanted = [architecture for architecture, artefact in artefacts.items() if artefact.sha256 is None]
    print(
        json.dumps(
            {
                "source": job.source.is_file() and sha256(job.source) == job.source_sha256,
                "missing_tools": missing_tools(job, wanted),
                "artefacts": {name: dataclasses.asdict(artefact) for name, artefact in artefacts.items()},
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
