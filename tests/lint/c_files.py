"""Compiles our own C, below roles/dropbear/files/src, with all warnings as errors, and looks for faults in it.

The compilers are gcc and clang, with the headers of musl, as in a build, and those of the patched sources. The latter
are not ours: what they make compilers say does not count. clang's static analyzer and cppcheck look for faults.

The sources are configured once, in .cache/lint/c, for as long as their patches stay as they are. Their archives are
those of .cache/dropbear, or downloaded.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import download, errors, files, job, recipes, unpack

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/dropbear"
CACHE = ROOT / ".cache/lint/c"
MUSL = f"/usr/include/{platform.machine()}-linux-musl"
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")


@dataclass(frozen=True)
class Project:
    """What files of ours are added to.

    Attributes:
        name: as in the role's variables
        variable: the prefix of those variables
        suffix: of the release archive's name
        configure: its command; no library is linked here
        headers_made: headers that make makes
        headers: directories of headers, in the source's directory
        defines: for the preprocessor, besides those in config.h
    """

    name: str
    variable: str
    suffix: str
    configure: Sequence[str]
    headers_made: Sequence[str]
    headers: Sequence[str]
    defines: Sequence[str]

    def source(self) -> job.Source:
        """Return the source with its patches, and with no files of ours: they would count as upstream's headers."""
        version = str(variables()[f"{self.variable}_version"])
        patches = (ROLE / "files/patches" / self.name).glob("*.patch")
        return job.Source(
            f"{self.name}-{version}.tar.{self.suffix}",
            variables()["dropbear__digests"][self.name][version],
            {"localoptions.h": (ROLE / "files/localoptions.h").read_text()} if self.name == "dropbear" else {},
            {path.name: path.read_text() for path in patches},
        )

    def urls(self, source: job.Source) -> list[str]:
        """Return where the archive is."""
        texts = variables()[f"{self.variable}_source_urls"]
        return [text.replace(f"{{{{ {self.variable}_version }}}}", source.version) for text in texts]


PROJECTS = (
    Project(
        name="dropbear",
        variable="dropbear",
        suffix="bz2",
        configure=recipes.DROPBEAR.configure,
        headers_made=("default_options_guard.h",),
        headers=(".", "src", "libtomcrypt/src/headers", "libtommath"),
        defines=("LOCALOPTIONS_H_EXISTS", "DROPBEAR_SERVER"),
    ),
    Project(
        name="openssh",
        variable="dropbear_openssh",
        suffix="gz",
        configure=[*(word for word in recipes.OPENSSH.configure if "openssl" not in word), "--without-openssl"],
        headers_made=("config.h",),
        headers=(".", "openbsd-compat"),
        defines=('SSHDIR="/etc/ssh"', "HAVE_CONFIG_H", "OPENSSL_API_COMPAT=0x10100000L"),
    ),
)


def variables() -> dict[str, Any]:
    """Return the role's variables, with templates as they are written."""
    return {
        name: value
        for directory in ("defaults", "vars")
        for name, value in yaml.safe_load((ROLE / directory / "main.yml").read_text(encoding="utf-8")).items()
    }


def run(command: Sequence[str | Path], directory: Path) -> str:
    """Run a command; return all that it prints if it fails, or prints anything though it succeeds."""
    done = subprocess.run(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout or (f"{command[0]}: exit status {done.returncode}\n" if done.returncode else "")


def archive(project: Project, source: job.Source) -> Path:
    """Return the path of the release archive."""
    places = (ROOT / ".cache/dropbear/sources" / source.archive, CACHE / source.archive)
    for place in places:
        if files.has_digest(place, source.sha256):
            return place
    data = download.find(download.Request(source.archive, source.sha256, project.urls(source)))
    files.write_whole(data, places[1], 0o644)
    return places[1]


def configured(project: Project) -> Path:
    """Return the directory of the project's configured source."""
    source = project.source()
    made = hashlib.sha256(repr([source, project, sorted(source.patches.items())]).encode()).hexdigest()[:12]
    directory = CACHE / f"{source.release}-{made}"
    if not directory.is_dir():
        for old in CACHE.iterdir():
            if old.is_dir() and old.name.startswith(f"{project.name}-"):
                shutil.rmtree(old)
        scratch = CACHE / f"{project.name}-new"
        scratch.mkdir()
        top = unpack.unpack(archive(project, source), source, scratch)
        for command in (["env", "CC=musl-gcc", *project.configure], ["make", *project.headers_made]):
            if subprocess.run(command, cwd=top, capture_output=True, check=False).returncode != 0:
                raise errors.BuildError(f"'{' '.join(command)}' failed in {top}: run it there")
        top.rename(directory)
        shutil.rmtree(scratch)
    return directory


def libraries() -> Path:
    """Return a directory with the headers of libsodium and libcrypto alone: those of glibc are beside the packages'."""
    directory = CACHE / "libraries"
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "openssl").mkdir(parents=True)
    (directory / "sodium.h").symlink_to("/usr/include/sodium.h")
    (directory / "sodium").symlink_to("/usr/include/sodium")
    for place in (Path("/usr/include/openssl"), *Path("/usr/include").glob("*-linux-gnu/openssl")):
        for path in place.iterdir():
            (directory / "openssl" / path.name).symlink_to(path)
    return directory


def complaints(project: Project, headers: Path) -> Iterator[str]:
    """Yield what the compilers and the analyzer print of a project's files."""
    own = ROLE / "files/src" / project.name
    top = configured(project)
    options = [f"-isystem{top / name}" for name in project.headers] + [f"-isystem{headers}", f"-I{own}"]
    options += [f"-D{define}" for define in project.defines]
    resources = subprocess.run(["clang", "-print-resource-dir"], capture_output=True, text=True, check=True).stdout
    clang = ["clang", "-nostdinc", f"-isystem{MUSL}", f"-isystem{resources.strip()}/include"]
    for path in sorted(own.glob("*.c")):
        yield run(["musl-gcc", "-O2", *WARNINGS, *options, "-c", "-o", "/dev/null", path], CACHE)
        for char in ("-fsigned-char", "-funsigned-char"):  # as on x86_64, and as on all others
            yield run([*clang, *WARNINGS, *options, char, "-fsyntax-only", path], CACHE)
        yield run([*clang, *options, "--analyze", "--analyzer-output", "text", path], CACHE)


def exhaustive() -> list[str]:
    """Return the options by which cppcheck follows all ways through a function, as it always did before 2.11."""
    version = tuple(map(int, run(["cppcheck", "--version"], CACHE).split()[1].split(".")[:2]))
    return ["--check-level=exhaustive"] if version >= (2, 11) else []


def main() -> int:
    """Print every complaint; the exit status is 0 when there is none."""
    CACHE.mkdir(parents=True, exist_ok=True)
    own = sorted((ROLE / "files/src").glob("*/*.c"))
    headers = libraries()
    try:
        found = [text for project in PROJECTS for text in complaints(project, headers)]
    except errors.BuildError as error:
        found = [f"{error}\n"]
    check = ["cppcheck", "--quiet", "--enable=warning,portability,performance", *exhaustive()]
    check += ["--library=posix,gnu", "-DFD_SETSIZE=1024", *(f"-I{path}" for path in {file.parent for file in own})]
    found.append(run([*check, *own], CACHE) if own else "no file was found\n")
    print("".join(found), end="")
    return int(any(found))


if __name__ == "__main__":
    sys.exit(main())
