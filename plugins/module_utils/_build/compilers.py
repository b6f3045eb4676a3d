# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compilers musl-gcc and zig, and their tools: detection, identification, command lines."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .elf import faults, read_elf
from .errors import BuildError
from .files import sha256
from .job import Job
from .recipes import ZIG_TARGETS

# -fno-strict-overflow and the stack protector are Dropbear's own hardening, which --disable-harden switches off because
# it would also change the way of linking.
CFLAGS = "-O3 -fPIC -fstack-protector-strong -fno-strict-overflow -Wno-pointer-sign"
# zig supports both; gcc supports -ftrivial-auto-var-init since version 12.
NEWER_CFLAGS = ("-fstack-clash-protection", "-ftrivial-auto-var-init=zero")
LDFLAGS = "-Wl,-z,relro,-z,now,-z,noexecstack"
# Two ways to link a static, position-independent program. The musl-gcc of Debian 12 does not know the
# first: its specs lack the option, so that gcc links a dynamic program and reports no error. In the second the linker gets
# the options and the start file that newer specs derive from the first.
STATIC_LDFLAGS = ("-static-pie", "-nostartfiles -Wl,-static,-pie,--no-dynamic-linker,-l:rcrt1.o")
# The opposite of each hardening flag, and a function whose code the flag changes.
OPPOSITES = {
    "-fstack-protector-strong": "-fno-stack-protector",
    "-fstack-clash-protection": "-fno-stack-clash-protection",
    "-ftrivial-auto-var-init=zero": "-ftrivial-auto-var-init=uninitialized",
}
PROBE = """void use(void *);
int probe(void) { char large[1 << 17]; int number; use(large); use(&number); return number; }
"""
LOG_TAIL = 20  # lines of a failed command's output to show


def last_lines(text: str) -> str:
    """Return the end of a compiler's output, which has the reason."""
    return "\n".join(line for line in text.splitlines()[-LOG_TAIL:] if line.strip())


def pip_command() -> list[str] | None:
    """Return the command for pip, or None: a virtual environment's Python may have none."""
    for python in (sys.executable, "/usr/bin/python3"):
        if os.access(python, os.X_OK):
            command = [python, "-m", "pip"]
            if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0:
                return command
    return None


def has_perl() -> bool:
    """Return whether there is a Perl with the modules for OpenSSL's build, which a minimal package lacks."""
    modules = ("FindBin", "File::Compare", "File::Copy", "IPC::Cmd")
    command = ["perl", *(f"-M{module}" for module in modules), "-e", "1"]
    return (
        shutil.which("perl") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def missing_tools(job: Job, architectures: Sequence[str]) -> list[str]:
    """Return the tools for building for `architectures` that this host lacks."""
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


def link(flags: str, directory: str) -> str:
    """Link a program of one line with musl-gcc. Return what the linker reports: the files that it used, one a line.

    Raises:
        BuildError: musl-gcc fails, or the program is not static or not hardened.
    """
    program = Path(directory, "program")
    result = subprocess.run(
        ["musl-gcc", *f"{CFLAGS} {flags} {LDFLAGS}".split(), "-Wl,--trace", "-x", "c", "-", "-o", str(program)],
        input="int main(void) { return 0; }",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": directory},
    )
    if result.returncode != 0:
        raise BuildError(f"musl-gcc cannot build a program of one line: {last_lines(result.stderr)}")
    if found := faults(read_elf(program.read_bytes()), platform.machine()):
        raise BuildError(f"musl-gcc makes a program that {'; '.join(found)}")
    return result.stdout


@functools.cache
def static_link() -> tuple[str, frozenset[str]]:
    """Return those of STATIC_LDFLAGS with which musl-gcc makes a static program, and the files that the linker uses.

    Raises:
        BuildError: it makes one with none of them.
    """
    reasons = []
    for flags in STATIC_LDFLAGS:
        with tempfile.TemporaryDirectory() as directory:
            try:
                lines = link(flags, directory).splitlines()
            except BuildError as error:
                reasons.append(str(error))
            else:
                return flags, frozenset(line.split("(")[0] for line in lines if not line.startswith(directory))
    raise BuildError(f"{reasons[0]}: install gcc and musl-tools of one release, Debian 12 or newer")


@functools.cache
def gcc_identity() -> str | None:
    """Return a digest of all files that affect musl-gcc's output, or None if it is not installed."""
    if shutil.which("gcc") is None or shutil.which("musl-gcc") is None:
        return None
    files = {*static_link()[1], shutil.which("gcc") or "", shutil.which("musl-gcc") or ""}
    for program in ("cc1", "as", "ld"):
        found = subprocess.run(
            ["gcc", f"-print-prog-name={program}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        files.add(shutil.which(found) or found)
    return hashlib.sha256("".join(sha256(Path(name)) for name in sorted(files)).encode()).hexdigest()


@functools.cache
def gcc_flags() -> str:
    """Return CFLAGS with those of NEWER_CFLAGS that musl-gcc supports."""
    command = ["musl-gcc", "-Werror", "-x", "c", "-fsyntax-only", "/dev/null"]
    accepted = [
        flag
        for flag in NEWER_CFLAGS
        if subprocess.run([*command, flag], capture_output=True, check=False).returncode == 0
    ]
    return " ".join([CFLAGS, *accepted])


def identity(job: Job, architecture: str) -> str | None:
    """Return the identity of the compiler for an architecture, or None if it is not installed yet."""
    return gcc_identity() if job.compiler(architecture) == "musl-gcc" else job.zig_requirement


def settings(compiler: str, architecture: str) -> dict[str, str]:
    """Return the environment that affects a compiler's output, independent of directories."""
    everywhere = {
        "LC_ALL": "C",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": "1",  # OpenSSL's library contains the build date
    }
    if compiler == "musl-gcc":
        return {**everywhere, "CC": "musl-gcc", "CFLAGS": gcc_flags(), "LDFLAGS": f"{static_link()[0]} {LDFLAGS}"}
    return {
        **everywhere,
        "CC": f"zig cc -target {ZIG_TARGETS[architecture]}",
        "AR": "zig ar",
        "RANLIB": "zig ranlib",
        "CFLAGS": " ".join([CFLAGS, *NEWER_CFLAGS, "-g0"]),  # debug information contains temporary directories
        "LDFLAGS": f"-static -pie {LDFLAGS}",
    }


def places(compiler: str, scratch: Path) -> dict[str, str]:
    """Return the rest of the environment: where the compiler is and may write. Only PATH is the caller's."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    environment = {"PATH": path, "HOME": str(scratch), "TMPDIR": str(scratch)}
    if compiler == "zig":
        # Found through PATH: OpenSSL's library contains its compiler command, which must not name a temporary
        # directory.
        environment["PATH"] = f"{scratch / 'zig' / 'ziglang'}:{path}"
        environment |= {f"ZIG_{kind}_CACHE_DIR": str(scratch / "zig-cache") for kind in ("GLOBAL", "LOCAL")}
    return environment


def check_flags(variables: Mapping[str, str], directory: Path) -> None:
    """Raise BuildError if a hardening flag has no effect: the compiler generates the same code without it.

    Args:
        variables: the environment of the build
        directory: where to compile
    """
    (directory / "probe.c").write_text(PROBE)
    flags = variables["CFLAGS"].split()

    def compiled(*more: str) -> bytes:
        command = [*variables["CC"].split(), *flags, *more, "-c", "probe.c", "-o", "probe.o"]
        result = subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise BuildError(f"'{variables['CC']}' cannot compile a function of two lines: {last_lines(result.stderr)}")
        return (directory / "probe.o").read_bytes()

    code = compiled()
    for flag, opposite in OPPOSITES.items():
        if flag in flags and compiled(opposite) == code:
            raise BuildError(f"'{variables['CC']}' ignores {flag}: build with another compiler")


def install_zig(requirement: str, scratch: Path) -> None:
    """Install the pinned zig below `scratch`, where `places` expects it. pip checks the digest."""
    pip = pip_command()
    if pip is None:
        raise BuildError("zig is installed by pip, which this host lacks: install python3-pip")
    requirements = scratch / "zig-requirements.txt"
    requirements.write_text(requirement)
    command = [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(requirements), "--target", str(scratch / "zig")]
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode != 0:
        raise BuildError(f"pip could not install the compiler zig:\n{last_lines(result.stdout)}")
