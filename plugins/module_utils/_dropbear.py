# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install a release of Dropbear and OpenSSH's programs on a node, switch to it, and remove old ones.

Each release is a directory of its own, <prefix>/dropbear-<version>-<digest>. The link <prefix>/dropbear is replaced by
an atomic rename, so that a container that is just starting gets the old release or the new one.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from . import _files, _secure_path
from ._linux.process_questions import ask

PROGRAM = "dropbearmulti"
# A process whose user may not read its program is not dumpable, so no user can trace it, from its first instruction on
# (ptrace(2), PR_SET_DUMPABLE).
PROGRAM_MODE = 0o111
PROGRAMS = (PROGRAM, "scp", "sftp", "sftp-server", "ssh")
SBOM = "sbom.cdx.json"
LINKS = ("dropbear", "dropbearkey")  # names of programs that it contains
LISTED = re.compile(  # a program and its digest in the SBOM, as the role writes it (_build/sbom.py)
    r'"name": "(bin/[a-z-]+)",\s*"hashes": \[\s*\{\s*"alg": "SHA-256",\s*"content": "([0-9a-f]{64})"'
)
RELEASE = re.compile(r"dropbear-[0-9A-Za-z][0-9A-Za-z._+-]*-[0-9a-f]{12}")  # name of a release's directory
SECONDS = 60  # for a program to print its version
MOST_SILENT = 100  # processes that cost a second each, since their users keep the modules waiting


class NotInstalled(Exception):
    """The release cannot be installed, or does not run; str() is the message for the admin."""


class File(NamedTuple):
    """A file of a release: its path below the release's directory, its SHA-256 and its mode."""

    path: str
    sha256: str
    mode: int


class Release(NamedTuple):
    """A release as it should be on a node.

    Attributes:
        prefix: directory of the installation
        name: name of the release's directory
        files: its files
    """

    prefix: str
    name: str
    files: Sequence[File]

    @property
    def directory(self) -> str:
        """Return the release's directory."""
        return f"{self.prefix}/{self.name}"

    def paths(self) -> list[str]:
        """Return the paths of everything in the release, including its directory."""
        names = ["bin", *(file.path for file in self.files), *(f"bin/{name}" for name in LINKS)]
        return [self.directory, *(f"{self.directory}/{name}" for name in names)]


class State(NamedTuple):
    """What is missing or out of date.

    Attributes:
        directories: paths of directories
        files: the files
        links: names of links in bin
        current: the current release, empty if there is none
    """

    directories: list[str]
    files: list[File]
    links: list[str]
    current: str

    def paths(self, release: Release) -> list[str]:
        """Return the paths of everything that is missing or out of date."""
        link = [link_path(release.prefix)] * (self.current != release.name)
        names = [*(file.path for file in self.files), *(f"bin/{name}" for name in self.links)]
        return [*self.directories, *(f"{release.directory}/{name}" for name in names), *link]


def release_file(program: str | None, sha256: str) -> File:
    """Return a program as a file of a release; the bill of materials for None."""
    if program is None:
        return File(SBOM, sha256, 0o644)
    return File(f"bin/{program}", sha256, PROGRAM_MODE if program == PROGRAM else 0o755)


def release_name(version: str, digests: Iterable[str]) -> str:
    """Return the name of a release's directory, with a digest of its files: identical builds have the same name.

    It must match `dropbear__release_name` of the role dropbear.

    Args:
        version: of Dropbear
        digests: the SHA-256 of each of its files
    """
    return f"dropbear-{version}-{hashlib.sha256(''.join(sorted(digests)).encode()).hexdigest()[:12]}"


def link_path(prefix: str) -> str:
    """Return the path of the link to the current release."""
    return f"{prefix}/dropbear"


def current(prefix: str) -> str:
    """Return the name of the current release; empty if there is none.

    Raises:
        NotInstalled: another installation is at that path.
    """
    path = link_path(prefix)
    if not os.path.lexists(path):
        return ""
    if not os.path.islink(path) or not RELEASE.fullmatch(os.readlink(path)):
        raise NotInstalled(
            f"{path} is not a link made by this role: move away what another installation put there, or set another "
            "dropbear_prefix."
        )
    return os.readlink(path)


def compare(release: Release) -> State:
    """Return what is missing or out of date.

    Raises:
        NotInstalled: another installation is at the link's path.
    """
    directories = [release.directory, f"{release.directory}/bin"]
    if not os.path.isdir(release.prefix):  # an existing one belongs to the site, and stays as it is
        directories.insert(0, release.prefix)
    return State(
        [path for path in directories if not _files.is_as(path, 0o40755)],
        [file for file in release.files if not is_installed(release, file)],
        [name for name in LINKS if not is_link(f"{release.directory}/bin/{name}")],
        current(release.prefix),
    )


def intact(prefix: str, versions: Mapping[str, str], relabel: Callable[[str], bool]) -> str:
    """Return the name of the current release, if it is complete, matches its name, and runs. Otherwise empty.

    Args:
        versions: of dropbear and openssh, which the programs must print
        relabel: returns whether a path's SELinux label differs from the node's policy
    """
    try:
        name = current(prefix)
        if version_of(name) != versions["dropbear"] or altered(prefix):
            return ""
        unread = Release(prefix, name, [release_file(program, "") for program in (*PROGRAMS, None)])
        state = compare(unread._replace(files=[]))
        if state.directories or state.links or any(map(relabel, unread.paths())):
            return ""
        verify(prefix, versions)
    except NotInstalled:
        return ""
    return name


def version_of(name: str) -> str:
    """Return Dropbear's version in the name of a release's directory; empty for an empty name."""
    return name[len("dropbear-") : -len("-0123456789ab")]


def altered(prefix: str) -> str | None:
    """Return the path of a file of the current release that is not as it was installed, or None.

    The release's name has a digest of all its files, and its SBOM the digest of each program.

    Raises:
        NotInstalled: another installation is at the link's path.
    """
    name = current(prefix)
    if not name:
        return None
    directory = f"{prefix}/{name}"
    files = [release_file(program, "") for program in (*PROGRAMS, None)]
    found = {file.path: _files.digest(f"{directory}/{file.path}", file.mode) or "" for file in files}
    changed = [f"bin/{link}" for link in LINKS if not is_link(f"{directory}/bin/{link}")]
    if name != release_name(version_of(name), found.values()):
        listed = dict(LISTED.findall(_files.read(f"{directory}/{SBOM}").decode(errors="replace")))
        programs = [path for path, sha256 in found.items() if path != SBOM and sha256 != listed.get(path)]
        changed += programs or [SBOM]
    return f"{directory}/{changed[0]}" if changed else None


def is_installed(release: Release, file: File) -> bool:
    """Return whether a file is present and correct."""
    return _files.digest(f"{release.directory}/{file.path}", file.mode) == file.sha256


def is_link(path: str) -> bool:
    """Return whether a path is root's link to PROGRAM."""
    try:
        return os.readlink(path) == PROGRAM and os.lstat(path).st_uid == 0
    except OSError:
        return False


def install(release: Release, state: State, archive: str, relabel: Callable[[str], bool]) -> list[str]:
    """Fix what `compare` found, and switch to the release. Return the paths that had a wrong SELinux label.

    Args:
        archive: path of a tar archive with the files, needed if the state has any
        relabel: sets a path's label to that of the node's policy, and returns whether it was different

    Raises:
        NotInstalled: a file in the archive has a wrong digest.
        OSError: a file cannot be written.
    """
    _files.make_missing(release.prefix)
    for directory in state.directories:
        _files.update_directory(directory)
    contents = read_archive(archive, state.files) if state.files else {}
    for file in state.files:
        _files.write(f"{release.directory}/{file.path}", contents[file.path], file.mode)
    for name in state.links:
        replace_link(f"{release.directory}/bin/{name}", PROGRAM)
    # Before the link: a container that is just starting must be allowed to run its target.
    relabelled = [path for path in release.paths() if relabel(path)]
    if state.current != release.name:
        replace_link(link_path(release.prefix), release.name)
    return relabelled


def read_archive(archive: str, files: Sequence[File]) -> dict[str, bytes]:
    """Return the contents of files in a tar archive, keyed by path.

    Raises:
        NotInstalled: one of them is missing, or has a wrong digest.
    """
    contents = {}
    try:
        with tarfile.open(archive, "r:") as opened:
            for file in files:
                member = opened.extractfile(file.path)
                contents[file.path] = member.read() if member else b""
    except (KeyError, tarfile.TarError) as error:
        raise NotInstalled(f"the archive that was sent is damaged: {error}") from error
    for file in files:
        if hashlib.sha256(contents[file.path]).hexdigest() != file.sha256:
            raise NotInstalled(f"{file.path} was damaged in transit to the node: run the play again")
    return contents


def replace_link(path: str, target: str) -> None:
    """Create a link, or replace what is at its path, by an atomic rename."""
    temporary = f"{path}.new-{os.getpid()}"
    os.symlink(target, temporary)
    try:
        os.lchown(temporary, *_files.ROOT)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def prune(release: Release, previous: str, check: bool) -> list[str]:
    """Remove old releases. Return their paths.

    The previous one stays, since a starting container may have opened it; so does one that a process runs.
    """
    if previous in ("", release.name):
        return []
    kept = {release.directory, f"{release.prefix}/{previous}"}
    old = [path for path in releases(release.prefix) if path not in kept]
    running = running_programs() if old else set()
    unused = [path for path in old if identity(f"{path}/bin/{PROGRAM}") not in running]
    for path in unused:
        _files.remove(path, check)
    return unused


def releases(prefix: str) -> list[str]:
    """Return the directories of releases. The prefix may also contain other directories, with other names."""
    found = sorted(glob.glob(f"{glob.escape(prefix)}/dropbear-*"))
    named = [path for path in found if RELEASE.fullmatch(os.path.basename(path))]
    return [path for path in named if os.path.isdir(path) and not os.path.islink(path)]


def identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of a file, or None. Not its path: containers have it mounted elsewhere."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def running_programs() -> set[tuple[int, int]]:
    """Return device and inode of each program that a process runs. Raises TimeoutError."""

    def program(pid: int) -> bytes:
        status = os.stat(f"/proc/{pid}/exe")
        return b"%d %d" % (status.st_dev, status.st_ino)

    found = (answer.split() for answer in ask_all(program).values() if answer)
    return {(int(device), int(inode)) for device, inode in found}


def ask_all(question: Callable[[int], bytes]) -> dict[int, bytes]:
    """Return the answers to a `question` about each process, by pid, as `process_questions.ask` does.

    Raises TimeoutError, with a complete message, if many processes are silent.
    """
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    answers = ask(question, pids, most_silent=MOST_SILENT)
    silent = [pid for pid in pids if pid not in answers]
    if len(silent) >= MOST_SILENT:
        raise TimeoutError(
            f"{len(silent)} processes delay whoever reads their files in /proc, the first one with pid {silent[0]}: "
            "end them, and try again"
        )
    return answers


def says(*command: str) -> tuple[bool, str]:
    """Return whether a command succeeds, and its output."""
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    return answer.returncode == 0, answer.stdout.decode(errors="replace").strip()


def inspect(prefix: str, versions: Mapping[str, str]) -> tuple[dict[str, str | None], str | None]:
    """Run the programs that are in use.

    Args:
        versions: of dropbear and openssh

    Returns: the versions that they print, None for one that prints none; and a message about the first that does not
    run or has another version, or None.
    """
    directory = f"{link_path(prefix)}/bin"
    wanted = (("dropbear", "dropbear", r"Dropbear v"), ("openssh", "ssh", r"OpenSSH_"))
    found: dict[str, str | None] = {}
    problems = []
    for source, name, mark in wanted:
        program = f"{directory}/{name}"
        succeeded, said = says(program, "-V")
        version = re.search(rf"{mark}([0-9][0-9A-Za-z._+-]*)", said) if succeeded else None
        found[source] = version[1] if version else None
        if not os.path.exists(program):
            problems.append(f"{program} does not exist.")
        elif found[source] != versions[source]:
            problems.append(f"{program} should be {versions[source]}, but reports the version '{said}'.")
    program = f"{directory}/sftp-server"
    succeeded, said = says(program, "-Q", "requests")
    if not succeeded or "posix-rename" not in said.splitlines():
        problems.append(f"{program} should report which requests it supports, but reports '{said}'.")
    return found, problems[0] if problems else None


def report(prefix: str, versions: Mapping[str, str]) -> tuple[dict[str, str | None], str | None]:
    """Like `inspect`, but programs that users other than root may change, or that differ, are reported and not run.

    Raises:
        NotInstalled: another installation is at the link's path.
        ValueError: the prefix is not an absolute path.
    """
    violations = _secure_path.violations_of(link_path(prefix))
    unsafe = [violation.message for violation in violations if violation.rule not in _secure_path.ABSENT]
    if unsafe:
        return dict.fromkeys(versions), f"{unsafe[0]}, so Dropbear was not run."
    path = altered(prefix)
    if path:
        return dict.fromkeys(versions), f"{path} is not the file that was installed, so Dropbear was not run."
    return inspect(prefix, versions)


def verify(prefix: str, versions: Mapping[str, str]) -> None:
    """Run the programs that are in use.

    Args:
        versions: of dropbear and openssh

    Raises:
        NotInstalled: one does not run, or has another version.
    """
    _found, problem = inspect(prefix, versions)
    if problem:
        raise NotInstalled(problem)


def uninstall(prefix: str, check: bool) -> list[str]:
    """Remove the link first, then all releases. Return the removed paths.

    Raises:
        NotInstalled: another installation is at the link's path.
        OSError: something cannot be removed.
    """
    current(prefix)
    return [path for path in [link_path(prefix), *releases(prefix)] if _files.remove(path, check)]
