# Copyright: (c) 2026, The ocihooks.ssh contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build Dropbear and OpenSSH's client programs as static, position-independent programs, once per architecture.

    DROPBEAR_JOB='{...}' python3 build_programs.py look|build|pack
    DROPBEAR_PROGRAMS='{...}' python3 build_programs.py extract

The job (JSON, see `Job`) comes in the environment, so that nothing has to be copied to the build
host. `look` only reads: it tells which builds are there. `build` makes those that are missing. Both
print {"built": bool, "missing": [architecture, ...], "missing_sources": [...], "missing_tools": [...],
"files": [{"architecture", "program", "path", "sha256"}, ...],
"sboms": [{"architecture", "path", "sha256"}, ...]}.

A build is kept under a key made of all that shapes it: source, patches, options, compiler,
architecture, the static libraries that it is linked with, and this file. Libraries are builds of
their own. The bill of materials of an architecture's programs (CycloneDX) is kept likewise.

`pack` writes the programs into programs.tar.gz in the build directory, and prints {"changed": bool,
"path", "sha256"}. `extract` reads such an archive (JSON, see `ProgramsArchive`), and prints as `look` does.
Exit status 2: one error, said on stderr.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import functools
import gzip
import hashlib
import io
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
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# -fno-strict-overflow and the stack protector are Dropbear's own hardening, which --disable-harden
# switches off because it would also choose a linking of its own.
CFLAGS = "-O3 -fPIC -fstack-protector-strong -fno-strict-overflow -Wno-pointer-sign"
# gcc has the second from version 12 on. zig has both.
NEWER_CFLAGS = ("-fstack-clash-protection", "-ftrivial-auto-var-init=zero")
LDFLAGS = "-Wl,-z,relro,-z,now,-z,noexecstack -s"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to build programs, or a static library, from a source.

    Attributes:
        kept: files to keep, as patterns in the source's directory, and the directory in the store that each goes to
        configure: command, without the options for the architecture
        make: arguments of each call of make
        libraries: recipes of the static libraries to link with
        variables: for the environment of configure and make
        targets: configure's names of the architectures, passed as its first argument (default: --host when crossing)
        left_out: directories of the source that the build does not need, except for their files build.info
    """

    kept: tuple[tuple[str, str], ...]
    configure: tuple[str, ...]
    make: tuple[tuple[str, ...], ...]
    libraries: tuple[str, ...] = ()
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    targets: Mapping[str, str] | None = None
    left_out: tuple[str, ...] = ()


# Without the utmp and wtmp switches musl logs an error at every terminal.
DROPBEAR = Recipe(
    kept=(("dropbearmulti", ""),),
    configure=(
        "./configure",
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
    make=(("MULTI=1", "PROGRAMS=dropbear dropbearkey"),),
    libraries=("libsodium",),
    variables={"LIBS": "-lsodium"},
)

# The stack protector and the linking are those above; scp and sftp take the hook's ssh, which is there in any image.
# configure cannot run programs of another architecture, so the answers are given: musl's malloc(0) is not NULL, and
# configure itself adds OPENSSL_API_COMPAT when it can ask the library for its version.
OPENSSH = Recipe(
    kept=(("ssh", ""), ("scp", ""), ("sftp", ""), ("sftp-server", "")),
    configure=(
        "./configure",
        "--with-openssl",
        "--without-openssl-header-check",
        "--without-zlib",
        "--without-pam",
        "--without-shadow",
        "--without-sandbox",
        "--disable-security-key",
        "--disable-pkcs11",
        "--without-stackprotect",
        "--without-pie",
        "--sysconfdir=/etc/ssh",
    ),
    make=(("ssh", "scp", "sftp", "sftp-server", "SSH_PROGRAM=/opt/oci-hooks/ssh/bin/ssh"),),
    libraries=("openssl",),
    variables={
        "CPPFLAGS": "-DOPENSSL_API_COMPAT=0x10100000L",
        "ac_cv_func_calloc_0_nonnull": "yes",
        "ac_cv_func_malloc_0_nonnull": "yes",
        "ac_cv_func_realloc_0_nonnull": "yes",
    },
)

# Its configure would add the weaker -fstack-protector.
LIBSODIUM = Recipe(
    kept=(
        ("src/libsodium/.libs/libsodium.a", "lib"),
        ("src/libsodium/include/sodium.h", "include"),
        ("src/libsodium/include/sodium/*.h", "include/sodium"),
    ),
    configure=(
        "./configure",
        "--disable-shared",
        "--enable-static",
        "--with-pic",
        "--disable-ssp",
        "--disable-pie",
        "--disable-dependency-tracking",
    ),
    make=(("-C", "src/libsodium"),),
)

# libcrypto with what OpenSSH uses. It has Ed25519 from libcrypto, so ecx must stay on.
OPENSSL_OFF = (
    "shared module dso engine tests apps docs ssl tls dtls quic cms cmp ct ocsp ts srp srtp comp zlib legacy async aria"
    " bf camellia cast des dsa idea md4 mdc2 rc2 rc4 rc5 rmd160 seed siphash sm2 sm3 sm4 whirlpool blake2 ec2m gost"
    " ml-kem ml-dsa slh-dsa secure-memory sock http argon2 scrypt siv ocb rfc3779 ui-console err autoload-config uplink"
    " padlockeng afalgeng makedepend filenames"
)
OPENSSL = Recipe(
    kept=(("libcrypto.a", "lib"), ("include/openssl/*.h", "include/openssl")),
    configure=(
        "./Configure",
        *(f"no-{name}" for name in OPENSSL_OFF.split()),
        "--with-rand-seed=getrandom",
        # Below the hook's read-only mount, where no image has a configuration.
        "--openssldir=/opt/oci-hooks/ssh/openssl",
    ),
    make=(("build_generated",), ("libcrypto.a",)),
    targets={
        "x86_64": "linux-x86_64",
        "aarch64": "linux-aarch64",
        "ppc64le": "linux-ppc64le",
        "riscv64": "linux64-riscv64",
    },
    left_out=("demos", "doc", "fuzz", "test"),  # three quarters of 130 MB
)

RECIPES = {"dropbear": DROPBEAR, "libsodium": LIBSODIUM, "openssh": OPENSSH, "openssl": OPENSSL}
PROGRAMS = ("dropbear", "openssh")  # recipes of programs; the others are of libraries

SBOM = "sbom.cdx.json"
# Of each source's CPE (Common Platform Enumeration): what the CVE database calls vendor and product.
CPES = {
    "dropbear": ("dropbear_ssh_project", "dropbear_ssh"),
    "libsodium": ("libsodium", "libsodium"),
    "musl": ("musl-libc", "musl"),
    "openssh": ("openbsd", "openssh"),
    "openssl": ("openssl", "openssl"),
}

DIGESTS = "SHA256SUMS"  # of a build's files, beside them
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
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    patches: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def release(self) -> str:
        """The release's name."""
        return self.archive.partition(".tar.")[0]

    @property
    def version(self) -> str:
        """The release's version, as upstream writes it."""
        return self.release.partition("-")[2]


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
        if lacking := {library for name in sources for library in RECIPES[name].libraries} - sources.keys():
            raise BuildError(f"DROPBEAR_JOB is not a job: it lacks the source of {', '.join(sorted(lacking))}")
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


def has_perl() -> bool:
    """Return whether there is a Perl with what OpenSSL's build uses; a distribution's smallest package lacks these."""
    modules = ("FindBin", "File::Compare", "File::Copy", "IPC::Cmd")
    command = ["perl", *(f"-M{module}" for module in modules), "-e", "1"]
    return (
        shutil.which("perl") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def missing_tools(job: Job, architectures: Sequence[str]) -> list[str]:
    """Return the tools that building for `architectures` needs and this host lacks."""
    compilers = {job.compiler(architecture) for architecture in architectures}
    tools = ["make", "patch"] if compilers else []
    if "musl-gcc" in compilers:
        tools += ["gcc", "musl-gcc"]
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if "openssl" in job.sources and compilers and not has_perl():
        missing.append("perl")
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


@functools.cache
def gcc_flags() -> str:
    """Return CFLAGS with those of NEWER_CFLAGS that musl-gcc takes."""
    command = ["musl-gcc", "-Werror", "-x", "c", "-fsyntax-only", "/dev/null"]
    accepted = [
        flag
        for flag in NEWER_CFLAGS
        if subprocess.run([*command, flag], capture_output=True, check=False).returncode == 0
    ]
    return " ".join([CFLAGS, *accepted])


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


def compiler_settings(job: Job, build: Build, scratch: Path) -> dict[str, str]:
    """Return the environment in which configure and make run: nothing of the caller's but PATH."""
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LC_ALL": "C",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": "1",  # OpenSSL's library tells its date
    }
    if job.compiler(build.architecture) == "musl-gcc":
        environment |= {"CC": "musl-gcc", "CFLAGS": gcc_flags(), "LDFLAGS": f"-static-pie {LDFLAGS}"}
    else:
        # Found by PATH: OpenSSL's library tells how it was compiled, which must not name a temporary directory.
        environment |= {
            "PATH": f"{scratch / 'zig' / 'ziglang'}:{environment['PATH']}",
            "CC": f"zig cc -target {ZIG_TARGETS[build.architecture]}",
            "AR": "zig ar",
            "RANLIB": "zig ranlib",
            "CFLAGS": " ".join([CFLAGS, *NEWER_CFLAGS, "-g0"]),  # debug information names temporary directories
            "LDFLAGS": f"-static -pie {LDFLAGS}",
            "ZIG_GLOBAL_CACHE_DIR": str(scratch / "zig-cache"),
            "ZIG_LOCAL_CACHE_DIR": str(scratch / "zig-cache"),
        }
    environment |= RECIPES[build.source].variables
    for library in build.libraries:
        environment["CPPFLAGS"] = f"-I{library.directory}/include {environment.get('CPPFLAGS', '')}".rstrip()
        environment["LDFLAGS"] += f" -L{library.directory}/lib"
    return environment


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


def check_program(path: Path, architecture: str, name: str) -> None:
    """Raise BuildError unless the program runs in a container without libc, hardened as intended."""
    try:
        found = faults(read_elf(path.read_bytes()), architecture)
    except BuildError as error:
        found = [f"is {error}"]
    if found:
        raise BuildError(f"{name} for {architecture} {'; '.join(found)}: refused")


def check_canaries(top: Path, release: str) -> None:
    """Raise BuildError unless what was compiled in `top` has stack canaries.

    The objects are looked at because every program that is linked with musl has __stack_chk_fail.
    """
    if not any(b"\0__stack_chk_fail\0" in path.read_bytes() for path in top.rglob("*.o")):
        raise BuildError(f"{release} was compiled without stack canaries (-fstack-protector-strong): refused")


# --- The build ----------------------------------------------------------------------------------


def last_lines(text: str) -> str:
    """Return the end of a compiler's output, where the reason stands."""
    return "\n".join(line for line in text.splitlines()[-LOG_TAIL:] if line.strip())


def unpack(archive: Path, source: Source, directory: Path, left_out: Sequence[str] = ()) -> Path:
    """Unpack the source into the empty `directory` and return its top.

    Raises:
        BuildError: the archive has a wrong digest, or not one directory at its top.
    """
    digest = sha256(archive)
    if digest != source.sha256:
        raise BuildError(f"{archive} has sha256 {digest}, but {source.release} has {source.sha256}: remove it")

    def needed(name: str) -> bool:
        parts = name.split("/")
        return len(parts) < 3 or parts[1] not in left_out or parts[-1] == "build.info"

    with tarfile.open(archive) as opened:
        if hasattr(tarfile, "data_filter"):
            opened.extraction_filter = tarfile.data_filter
        opened.extractall(directory, [member for member in opened if needed(member.name)])
    tops = list(directory.iterdir())  # not always named as the release: libsodium-1.0.22-RELEASE
    if len(tops) != 1:
        raise BuildError(
            f"{archive} has {len(tops)} files at its top instead of one directory: it is no release archive"
        )
    for name, text in source.files.items():
        (tops[0] / name).write_text(text)
    apply_patches(source, tops[0])
    return tops[0]


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
            raise BuildError(f"{name} does not fit {source.release} ({reason}): set a version that it fits")


def run_step(command: Sequence[str], directory: Path, environment: Mapping[str, str], log: Path) -> None:
    """Run one command of the build, its output to the end of `log`; raises BuildError with the last of it."""
    with log.open("a") as output:
        status = subprocess.run(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        ).returncode
    if status != 0:
        text = log.read_text(errors="replace")
        raise BuildError(f"'{command[0]}' failed with status {status}; the last lines of {log}:\n{last_lines(text)}")


def compile_source(job: Job, build: Build, scratch: Path) -> Path:
    """Make a build in the new directory `scratch`. Return a directory with its files, checked."""
    source, recipe = job.sources[build.source], RECIPES[build.source]
    log = Path(job.build_dir, f"build-{source.release}-{build.architecture}.log")
    log.unlink(missing_ok=True)
    environment = compiler_settings(job, build, scratch.parent)
    top = unpack(job.archive(source), source, scratch / "source", recipe.left_out)
    if not (top / recipe.configure[0]).is_file():  # in the repository, but not in a release, it has to be generated
        raise BuildError(
            f"{source.archive} has no {recipe.configure[0]}: take the release archive that upstream publishes"
        )
    options: list[str] = []
    if recipe.targets is not None:
        options = [recipe.targets[build.architecture]]
    elif job.compiler(build.architecture) == "zig":
        options = [f"--host={ZIG_TARGETS[build.architecture]}"]
    run_step([recipe.configure[0], *options, *recipe.configure[1:]], top, environment, log)
    for arguments in recipe.make:
        run_step(["make", f"-j{cores()}", *arguments], top, environment, log)
    check_canaries(top, source.release)
    made = scratch / "made"
    for pattern, place in recipe.kept:
        (made / place).mkdir(parents=True, exist_ok=True)
        for path in top.glob(pattern):
            if build.source in PROGRAMS:
                check_program(path, build.architecture, path.name)
            shutil.copy(path, made / place)
    log.unlink()
    return made


# --- The store ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Build:
    """What is made of one source for one architecture, and where it is kept.

    `libraries` are the builds that it is linked with. `digests` are the SHA-256 of its files by their
    paths in `directory`, None if it is not there; `directory` is then a wish, or None if the compiler
    is not installed yet.
    """

    source: str
    architecture: str
    directory: Path | None
    libraries: tuple[Build, ...] = ()
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


def build_directory(job: Job, name: str, architecture: str, libraries: Sequence[Build]) -> Path | None:
    """Return where a build of these inputs is kept, or None if its compiler is not installed yet."""
    compiler = job.compiler(architecture)
    identity = gcc_identity() if compiler == "musl-gcc" else job.zig_requirement
    if identity is None:
        return None
    source = job.sources[name]
    inputs = [name, dataclasses.asdict(source), compiler, identity, architecture, Path(__file__).read_text()]
    inputs += [library.directory.name for library in libraries if library.directory is not None]
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return Path(job.build_dir, "artefacts", f"{source.release}-{architecture}-{key[:12]}")


def find(job: Job, name: str, architecture: str) -> Build:
    """Return a build, as not there unless its files have the digests recorded beside them."""
    libraries = tuple(find(job, library, architecture) for library in RECIPES[name].libraries)
    build = Build(name, architecture, build_directory(job, name, architecture, libraries), libraries)
    if build.directory is None:
        return build
    try:
        recorded = (build.directory / DIGESTS).read_text()
        files = [line.partition("  ")[2] for line in recorded.splitlines()]
        digests = {file: sha256(build.directory / file) for file in files}
    except (FileNotFoundError, IsADirectoryError):
        return build
    return dataclasses.replace(build, digests=digests) if digests and recorded == digest_lines(digests) else build


def digest_lines(digests: Mapping[str, str]) -> str:
    """Return digests as sha256sum(1) reads them."""
    return "".join(f"{digest}  {file}\n" for file, digest in sorted(digests.items()))


def keep(made: Path, build: Build, directory: Path) -> Build:
    """Move the files of a build into its directory in the store as a whole, with their digests beside them."""
    paths = sorted(path for path in made.rglob("*") if path.is_file())
    for path in paths:
        path.chmod(0o755 if build.source in PROGRAMS else 0o644)
    digests = {str(path.relative_to(made)): sha256(path) for path in paths}
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
    """Return what is there, and what is missing, of the programs of each source for each architecture."""
    return [
        find(job, name, architecture) for architecture in job.architectures for name in job.sources if name in PROGRAMS
    ]


def missing(builds: Sequence[Build]) -> list[Build]:
    """Return those that are not there."""
    return [build for build in builds if build.digests is None]


def architectures(builds: Sequence[Build]) -> list[str]:
    """Return their architectures, each once."""
    return sorted({build.architecture for build in builds})


def make(job: Job, build: Build, scratch: Path) -> Build:
    """Make a build, and the libraries that it lacks, and keep it; one that is there is returned as it is."""
    if build.digests is not None:
        return build
    if build.directory is None:
        raise BuildError(f"the compiler for {build.architecture} came during the build: run the play again")
    for library in build.libraries:
        make(job, library, scratch)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=f"{build.architecture}-") as directory:
        return keep(compile_source(job, build, Path(directory)), build, build.directory)


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
                builds = list(pool.map(lambda build: make(job, build, Path(scratch)), builds))
        unwritten = [bill for bill in sboms(job, builds) if not bill.is_kept]
        for bill in unwritten:
            bill.path.parent.mkdir(mode=0o755, exist_ok=True)
            write_whole(bill.text.encode(), bill.path, 0o644)
        return builds, bool(wanted or unwritten)


def missing_sources(job: Job, builds: Sequence[Build]) -> list[str]:
    """Return the sources that making `builds` takes, whose release archive is not there, or damaged."""
    libraries = missing([library for build in builds for library in build.libraries])
    sources = {build.source: job.sources[build.source] for build in [*builds, *libraries]}
    return [
        name
        for name, source in sources.items()
        if not job.archive(source).is_file() or sha256(job.archive(source)) != source.sha256
    ]


# --- The bill of materials ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sbom:
    """The bill of materials of one architecture's programs: its text, and where it is kept."""

    architecture: str
    text: str
    path: Path

    @property
    def is_kept(self) -> bool:
        """Whether it is there, undamaged."""
        return self.path.is_file() and self.path.read_bytes() == self.text.encode()

    def file(self) -> dict[str, str]:
        """The file, as the role takes it."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        return {"architecture": self.architecture, "path": str(self.path), "sha256": digest}


def cpe(name: str, version: str) -> str:
    """Return the CPE of a version; OpenSSH's 10.3p1 is version 10.3, update p1."""
    vendor, product = CPES[name]
    number, update = (version, "*")
    if name == "openssh" and "p" in version:
        number, _p, level = version.partition("p")
        update = f"p{level}"
    return f"cpe:2.3:a:{vendor}:{product}:{number}:{update}:*:*:*:*:*:*"


def musl_version(architecture: str) -> str | None:
    """Return the version of this host's musl, which its loader tells, or None."""
    try:
        told = subprocess.run([f"/lib/ld-musl-{architecture}.so.1"], capture_output=True, text=True, check=False).stderr
    except OSError:
        return None
    versions = [line.split()[1] for line in told.splitlines() if line.startswith("Version ")]
    return versions[0] if versions else None


def libc_component(job: Job, architecture: str) -> dict[str, object]:
    """Return musl as a component, without a version if it is the one that zig brings."""
    version = musl_version(architecture) if job.compiler(architecture) == "musl-gcc" else None
    component: dict[str, object] = {"type": "library", "bom-ref": "musl", "name": "musl"}
    if version is None:
        requirement = next((line for line in job.zig_requirement.splitlines() if line.startswith("ziglang==")), "zig")
        return {**component, "description": f"As {requirement.split()[0]} brings it"}
    return {**component, "version": version, "purl": f"pkg:generic/musl@{version}", "cpe": cpe("musl", version)}


def source_component(name: str, source: Source, builds: Sequence[Build]) -> dict[str, object]:
    """Return a source as a component: its archive, its patches and the programs that were built from it."""
    component: dict[str, object] = {
        "type": "application" if name in PROGRAMS else "library",
        "bom-ref": name,
        "name": name,
        "version": source.version,
        "cpe": cpe(name, source.version),
        "purl": f"pkg:generic/{name}@{source.version}",
        "externalReferences": [
            {
                "type": "source-distribution",
                "url": source.archive,
                "hashes": [{"alg": "SHA-256", "content": source.sha256}],
            }
        ],
    }
    if source.patches:
        digests = {patch: hashlib.sha256(text.encode()).hexdigest() for patch, text in sorted(source.patches.items())}
        component["pedigree"] = {
            "patches": [{"type": "unofficial", "diff": {"url": f"patches/{name}/{patch}"}} for patch in digests],
            "notes": "SHA-256: " + ", ".join(f"{patch} {digest}" for patch, digest in digests.items()),
        }
    programs = [file for build in builds if build.source == name for file in build.files()]
    if programs:
        component["components"] = [
            {
                "type": "file",
                "bom-ref": f"bin/{file['program']}",
                "name": f"bin/{file['program']}",
                "hashes": [{"alg": "SHA-256", "content": file["sha256"]}],
            }
            for file in programs
        ]
    return component


def sbom(job: Job, architecture: str, builds: Sequence[Build]) -> Sbom:
    """Return the bill of materials (CycloneDX 1.6) of an architecture's builds, equal for equal builds."""
    sources = [name for name in job.sources if name in PROGRAMS]
    libraries = sorted({library for name in sources for library in RECIPES[name].libraries})
    content: dict[str, object] = {
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "programs",
                "name": "ocihooks.ssh.dropbear",
                "description": f"Static programs for {architecture}, compiled by {job.compiler(architecture)}",
            }
        },
        "components": [
            *(source_component(name, job.sources[name], builds) for name in [*sources, *libraries]),
            libc_component(job, architecture),
        ],
        "dependencies": [
            {"ref": "programs", "dependsOn": sources},
            *({"ref": name, "dependsOn": [*RECIPES[name].libraries, "musl"]} for name in [*sources, *libraries]),
            {"ref": "musl"},
        ],
    }
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    # The format requires a number of the document. It is made of the content, so that equal builds do not change nodes.
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": uuid.UUID(hex=key[:32], version=5).urn}
    text = json.dumps({**head, "version": 1, **content}, indent=2) + "\n"
    return Sbom(architecture, text, Path(job.build_dir, "artefacts", f"sbom-{architecture}-{key[:12]}", SBOM))


def sboms(job: Job, builds: Sequence[Build]) -> list[Sbom]:
    """Return the bills of materials of the architectures whose programs are all there."""
    unbuilt = architectures(missing(builds))
    return [
        sbom(job, architecture, [build for build in builds if build.architecture == architecture])
        for architecture in job.architectures
        if architecture not in unbuilt
    ]


# --- An archive of programs ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ProgramsArchive:
    """An archive of programs that `pack` made, and what is wanted of it.

    `release` is that of Dropbear, and the directory in the archive; `directory` is where the programs
    are put, named by their digests.
    """

    archive: str
    sha256: str
    release: str
    architectures: tuple[str, ...]
    directory: str

    @classmethod
    def from_json(cls, text: str) -> ProgramsArchive:
        """Read the request; raises BuildError if a field is missing or unknown."""
        fields = json.loads(text)
        try:
            return cls(**{**fields, "architectures": tuple(fields["architectures"])})
        except (KeyError, TypeError) as error:
            raise BuildError(f"DROPBEAR_PROGRAMS is not a request: {error}") from None


def write_whole(data: bytes, path: Path, mode: int) -> None:
    """Put `data` at `path` by an atomic rename."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    Path(temporary).chmod(mode)
    Path(temporary).rename(path)


def pack(job: Job) -> dict[str, object]:
    """Write all programs of the job into one archive. Equal programs give an equal archive, byte for byte.

    Raises:
        BuildError: a program is not built.
    """
    builds = look(job)
    bills = sboms(job, builds)
    written = {bill.architecture for bill in bills if bill.is_kept}
    if unbuilt := sorted(set(job.architectures) - written):
        raise BuildError(f"the programs for {', '.join(unbuilt)} are not built")
    release = job.sources["dropbear"].release
    files = {
        f"{release}/{file['architecture']}/{file['program']}": Path(file["path"]).read_bytes()
        for build in builds
        for file in build.files()
    }
    files |= {f"{release}/{bill.architecture}/{SBOM}": bill.text.encode() for bill in bills}
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as compressed:
        with tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in sorted(files.items()):
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(data), 0o644 if name.endswith(SBOM) else 0o755
                archive.addfile(member, io.BytesIO(data))
    path = Path(job.build_dir, "programs.tar.gz")
    changed = not path.is_file() or path.read_bytes() != packed.getvalue()
    if changed:
        write_whole(packed.getvalue(), path, 0o644)
    return {"changed": changed, "path": str(path), "sha256": sha256(path)}


def extract(request: ProgramsArchive) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Put the programs of an archive where the role takes them from, checked, and their bills of materials.

    Returns: the programs, as `Build.files` does, and the bills of materials, as `Sbom.file` does.

    Raises:
        BuildError: the archive has a wrong digest, lacks a program, or one that must not be installed.
    """
    archive, directory = Path(request.archive), Path(request.directory)
    if not archive.is_file():
        raise BuildError(f"dropbear_programs_archive {archive} is not a file on the controller: put it there")
    digest = sha256(archive)
    if digest != request.sha256:
        raise BuildError(f"{archive} has sha256 {digest}, but dropbear_programs_sha256 is {request.sha256}: refused")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = [Path(pattern).name for recipe in PROGRAMS for pattern, _place in RECIPES[recipe].kept]
    try:
        with tarfile.open(archive, "r:gz") as opened:
            members = ((member.name, opened.extractfile(member)) for member in opened)
            contents = {name: content.read() for name, content in members if content is not None}
    except tarfile.TarError as error:
        raise BuildError(f"{archive} is no archive of programs: {error}") from None
    files, bills = [], []
    for architecture in request.architectures:
        for name in [*sorted(names), SBOM]:
            member = f"{request.release}/{architecture}/{name}"
            if member not in contents:
                raise BuildError(f"{archive} has no {member}: make one for this version and architecture")
            path = directory / hashlib.sha256(contents[member]).hexdigest()
            write_whole(contents[member], path, 0o644 if name == SBOM else 0o755)
            file = {"architecture": architecture, "path": str(path), "sha256": path.name}
            if name == SBOM:
                bills.append(file)
            else:
                check_program(path, architecture, name)
                files.append({**file, "program": name})
    return files, bills


def run(command: str, environment: Mapping[str, str]) -> dict[str, object]:
    """Run one of the commands in the module's docstring and return its answer."""
    if command == "extract":
        files, bills = extract(ProgramsArchive.from_json(environment["DROPBEAR_PROGRAMS"]))
        answer: dict[str, object] = {"built": False, "missing": [], "missing_sources": [], "missing_tools": []}
        return {**answer, "files": files, "sboms": bills}
    job = Job.from_json(environment["DROPBEAR_JOB"])
    if command == "pack":
        return pack(job)
    builds, built = make_all(job) if command == "build" else (look(job), False)
    unbuilt = missing(builds)
    kept = [bill for bill in sboms(job, builds) if bill.is_kept]
    return {
        "built": built,
        "missing": sorted(set(job.architectures) - {bill.architecture for bill in kept}),
        "missing_sources": missing_sources(job, unbuilt),
        "missing_tools": missing_tools(job, architectures(unbuilt)),
        "files": [file for build in builds for file in build.files()],
        "sboms": [bill.file() for bill in kept],
    }


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Do what the module's docstring says and return the exit status."""
    try:
        answer = run(arguments[0], environment)
    except (BuildError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
