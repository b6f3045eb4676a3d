# Copyright: (c) 2026, The ocihooks.ssh contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build Dropbear, and OpenSSH's programs for files, as static, position-independent programs, once per architecture.

    DROPBEAR_JOB='{...}' python3 build_programs.py look|build

The job (JSON, see `Job`) comes in the environment, so that nothing has to be copied to the build
host. `look` only reads: it tells which builds are there. `build` makes those that are missing. Both
print {"built": bool, "missing": [architecture, ...], "missing_sources": [...], "missing_tools": [...],
"files": [{"architecture", "program", "path", "sha256"}, ...]}.

A build is kept under a key made of all that shapes it: source, patches, options, compiler,
architecture and this file. Exit status 2: one error, said on stderr.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import functools
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

# -fno-strict-overflow and the stack protector are Dropbear's own hardening, which --disable-harden
# switches off because it would also choose a linking of its own.
CFLAGS = "-O3 -fPIC -fstack-protector-strong -fno-strict-overflow -Wno-pointer-sign"
LDFLAGS = "-Wl,-z,relro,-z,now,-z,noexecstack -s"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How programs are made of a source: the arguments of its configure, and of make."""

    programs: tuple[str, ...]
    configure: tuple[str, ...]
    make: tuple[str, ...]


# Without the utmp and wtmp switches musl logs an error at every terminal.
DROPBEAR = Recipe(
    programs=("dropbearmulti",),
    configure=(
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
    ),
    make=("MULTI=1", "PROGRAMS=dropbear dbclient dropbearkey"),
)

# What these programs take of OpenSSH's library, instead of the whole: a quarter of the time.
OPENSSH_OBJECTS = (
    "addr addrmatch atomicio cleanup fatal log match misc platform-misc platform-pledge platform-tracing sftp-realpath"
    " sshbuf sshbuf-getput-basic sshbuf-misc ssherr utf8 xmalloc"
)
# The stack protector and the linking are those above; scp and sftp take the hook's ssh, which is there in any image.
OPENSSH = Recipe(
    programs=("scp", "sftp", "sftp-server"),
    configure=(
        "--without-openssl",
        "--without-zlib",
        "--without-pam",
        "--without-shadow",
        "--without-sandbox",
        "--disable-security-key",
        "--disable-pkcs11",
        "--without-stackprotect",
        "--without-pie",
    ),
    make=(
        "scp",
        "sftp",
        "sftp-server",
        "LIBSSH_OBJS=" + " ".join(f"{name}.o" for name in OPENSSH_OBJECTS.split()),
        "SSH_PROGRAM=/opt/oci-hooks/ssh/bin/ssh",
    ),
)

RECIPES = {"dropbear": DROPBEAR, "openssh": OPENSSH}

DIGESTS = "SHA256SUMS"  # of a build's programs, beside them
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
class Source:
    """A release archive, and what is done to what it holds.

    `archive` is its name, such as dropbear-2026.94.tar.bz2. `files` are texts that are added, by
    their names, `patches` unified diffs by their names, which give their order.
    """

    archive: str
    sha256: str
    files: Mapping[str, str]
    patches: Mapping[str, str]

    @property
    def release(self) -> str:
        """The release's name, which is also that of the one directory in the archive."""
        return self.archive.partition(".tar.")[0]


@dataclasses.dataclass(frozen=True)
class Job:
    """What to build, as the role says it.

    `build_dir` is where sources and builds are kept, `native_compiler` ("musl-gcc" or "zig") serves
    the build host's own architecture (every other is built by zig), `zig_requirement` is a pip
    requirements file with digests, `sources` are by their recipes' names.
    """

    build_dir: str
    architectures: tuple[str, ...]
    native_compiler: str
    zig_requirement: str
    sources: Mapping[str, Source]

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read a job; raises BuildError if a field is missing or unknown."""
        fields = json.loads(text)
        try:
            sources = {name: Source(**source) for name, source in sorted(fields["sources"].items())}
            job = cls(**{**fields, "architectures": tuple(fields["architectures"]), "sources": sources})
        except (AttributeError, KeyError, TypeError) as error:
            raise BuildError(f"DROPBEAR_JOB is not a job: {error}") from None
        if unknown := sources.keys() - RECIPES.keys():
            raise BuildError(f"DROPBEAR_JOB is not a job: {', '.join(unknown)} cannot be built")
        return job

    def archive(self, source: Source) -> Path:
        """The release archive, put there by fetch_source.py."""
        return Path(self.build_dir, "sources", source.archive)

    def compiler(self, architecture: str) -> str:
        """Return "musl-gcc" or "zig", whichever builds for `architecture` on this host."""
        return self.native_compiler if architecture == platform.machine() else "zig"


def cores() -> int:
    """Return how many of the machine's cores this process may use."""
    return len(os.sched_getaffinity(0))


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


@functools.cache
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


def zig_program(directory: Path) -> Path:
    """Return where `install_zig` puts the compiler."""
    return directory / "zig" / "ziglang" / "zig"


def install_zig(job: Job, directory: Path) -> None:
    """Install the pinned zig below `directory`. pip checks the digest."""
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
    zig = zig_program(scratch)
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


def unpack(archive: Path, source: Source, directory: Path) -> Path:
    """Unpack the source below `directory` and return its top; raises BuildError on a wrong digest."""
    digest = sha256(archive)
    if digest != source.sha256:
        raise BuildError(f"{archive} has sha256 {digest}, but {source.release} has {source.sha256}: remove it")
    with tarfile.open(archive) as opened:
        if hasattr(tarfile, "data_filter"):
            opened.extraction_filter = tarfile.data_filter
        opened.extractall(directory)
    top = directory / source.release
    for name, text in source.files.items():
        (top / name).write_text(text)
    apply_patches(source, top)
    return top


def apply_patches(source: Source, top: Path) -> None:
    """Apply the patches to the unpacked source; raises BuildError, in one line, if one does not fit exactly."""
    for name, text in sorted(source.patches.items()):
        result = subprocess.run(
            ["patch", "--strip=1", "--fuzz=0", "--batch", "--quiet"],
            cwd=top,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            reason = "; ".join(result.stdout.split("\n")).rstrip("; ")
            raise BuildError(f"{name} does not fit {source.release} ({reason}): set a dropbear_version that it fits")


def run_step(command: Sequence[str], directory: Path, environment: Mapping[str, str], log: Path) -> None:
    """Run one command of the build, its output to the end of `log`; raises BuildError with the last of it."""
    with log.open("a") as output:
        status = subprocess.run(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        ).returncode
    if status != 0:
        text = log.read_text(errors="replace")
        raise BuildError(f"'{command[0]}' failed with status {status}; the last lines of {log}:\n{last_lines(text)}")


def compile_programs(job: Job, build: Build, scratch: Path) -> list[Path]:
    """Make a build in the new directory `scratch` and return its programs, checked."""
    source, recipe = job.sources[build.source], RECIPES[build.source]
    log = Path(job.build_dir, f"build-{source.release}-{build.architecture}.log")
    log.unlink(missing_ok=True)
    environment = compiler_settings(job, build.architecture, scratch.parent)
    top = unpack(job.archive(source), source, scratch)
    host = [f"--host={ZIG_TARGETS[build.architecture]}"] if job.compiler(build.architecture) == "zig" else []
    run_step(["./configure", *recipe.configure, *host], top, environment, log)
    run_step(["make", f"-j{cores()}", *recipe.make], top, environment, log)
    programs = [top / program for program in recipe.programs]
    for program in programs:
        check_program(program, build.architecture)
    log.unlink()
    return programs


# --- The store ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Build:
    """What is made of one source for one architecture, and where it is kept.

    `digests` are the SHA-256 of its programs, None if it is not there; `directory` is then a wish,
    or None if the compiler is not installed yet.
    """

    source: str
    architecture: str
    directory: Path | None
    digests: Mapping[str, str] | None = None

    def files(self) -> list[dict[str, str]]:
        """The programs, as the role takes them."""
        return [
            {
                "architecture": self.architecture,
                "program": program,
                "path": f"{self.directory}/{program}",
                "sha256": digest,
            }
            for program, digest in sorted((self.digests or {}).items())
        ]


def build_directory(job: Job, name: str, architecture: str) -> Path | None:
    """Return where a build of these inputs is kept, or None if its compiler is not installed yet."""
    compiler = job.compiler(architecture)
    identity = gcc_identity() if compiler == "musl-gcc" else job.zig_requirement
    if identity is None:
        return None
    source = job.sources[name]
    inputs = [name, dataclasses.asdict(source), compiler, identity, architecture, Path(__file__).read_text()]
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return Path(job.build_dir, "artefacts", f"{source.release}-{architecture}-{key[:12]}")


def find(job: Job, name: str, architecture: str) -> Build:
    """Return a build, as not there unless its programs have the digests recorded beside them."""
    build = Build(name, architecture, build_directory(job, name, architecture))
    if build.directory is None:
        return build
    try:
        digests = {program: sha256(build.directory / program) for program in RECIPES[name].programs}
        recorded = (build.directory / DIGESTS).read_text()
    except FileNotFoundError:
        return build
    return dataclasses.replace(build, digests=digests) if recorded == digest_lines(digests) else build


def digest_lines(digests: Mapping[str, str]) -> str:
    """Return digests as sha256sum(1) reads them."""
    return "".join(f"{digest}  {program}\n" for program, digest in sorted(digests.items()))


def keep(programs: Sequence[Path], build: Build, directory: Path, scratch: Path) -> Build:
    """Move a build's programs into its directory in the store as a whole, with their digests beside them."""
    made = Path(tempfile.mkdtemp(dir=scratch))
    for program in programs:
        shutil.copyfile(program, made / program.name)
        (made / program.name).chmod(0o755)
    digests = {program.name: sha256(program) for program in programs}
    (made / DIGESTS).write_text(digest_lines(digests))
    made.chmod(0o755)
    directory.parent.mkdir(mode=0o755, exist_ok=True)
    if directory.exists():  # a damaged one, or it would have been found
        shutil.rmtree(directory)
    made.rename(directory)
    return dataclasses.replace(build, digests=digests)


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


def look(job: Job) -> list[Build]:
    """Return what is there, and what is missing, of each source for each architecture."""
    return [find(job, name, architecture) for architecture in job.architectures for name in job.sources]


def missing(builds: Sequence[Build]) -> list[Build]:
    """Return those that are not there."""
    return [build for build in builds if build.digests is None]


def architectures(builds: Sequence[Build]) -> list[str]:
    """Return their architectures, each once."""
    return sorted({build.architecture for build in builds})


def make(job: Job, build: Build, scratch: Path) -> Build:
    """Make a build and keep it; one that is there is returned as it is."""
    if build.digests is not None:
        return build
    if build.directory is None:
        raise BuildError(f"the compiler for {build.architecture} came during the build: run the play again")
    with tempfile.TemporaryDirectory(dir=scratch, prefix=f"{build.architecture}-") as directory:
        return keep(compile_programs(job, build, Path(directory)), build, build.directory, scratch)


def make_all(job: Job) -> tuple[list[Build], bool]:
    """Make what is missing. Return everything, and whether anything was made."""
    base = Path(job.build_dir)
    check_build_directory(base)
    with locked(base):
        builds = look(job)  # again: another play may have built meanwhile
        wanted = architectures(missing(builds))
        if tools := missing_tools(job, wanted):
            raise BuildError(f"the build host {platform.node()} lacks {', '.join(tools)}: install what provides it")
        with tempfile.TemporaryDirectory(dir=base, prefix="work-") as scratch:
            if "zig" in {job.compiler(architecture) for architecture in wanted}:
                install_zig(job, Path(scratch))
            # configure keeps one core busy
            with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
                return list(pool.map(lambda build: make(job, build, Path(scratch)), builds)), bool(wanted)


def missing_sources(job: Job, builds: Sequence[Build]) -> list[str]:
    """Return the sources of `builds` whose release archive is not there, or damaged."""
    sources = {build.source: job.sources[build.source] for build in builds}
    return [
        name
        for name, source in sources.items()
        if not job.archive(source).is_file() or sha256(job.archive(source)) != source.sha256
    ]


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Do what the module's docstring says and return the exit status."""
    try:
        job = Job.from_json(environment["DROPBEAR_JOB"])
        builds, built = make_all(job) if list(arguments) == ["build"] else (look(job), False)
    except (BuildError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    unbuilt = missing(builds)
    answer = {
        "built": built,
        "missing": architectures(unbuilt),
        "missing_sources": missing_sources(job, unbuilt),
        "missing_tools": missing_tools(job, architectures(unbuilt)),
        "files": [file for build in builds for file in build.files()],
    }
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
