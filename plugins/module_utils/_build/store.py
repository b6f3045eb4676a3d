# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of builds, each under a key derived from all its inputs."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import _secure_path
from . import compilers
from .errors import BuildError
from .files import sha256
from .job import Job
from .recipes import PROGRAMS, RECIPES

# Increase this number when the steps of a build, or the checks of its files, change: older builds must not be used
# then. All other inputs of a build are in its key as data.
PROCEDURE = 2

DIGESTS = "SHA256SUMS"  # of a build's files, next to them
LOCK_SECONDS = 7200  # to wait for another play


@dataclass(frozen=True)
class Build:
    """The build of one source for one architecture.

    Attributes:
        source: its recipe's name
        architecture: the architecture that it runs on
        directory: its directory in the store, which may not exist yet; None if its compiler is not installed yet
        libraries: the builds that it is linked with
        digests: SHA-256 of its files, keyed by path in `directory`; None if there is no build
    """

    source: str
    architecture: str
    directory: Path | None
    libraries: tuple[Build, ...] = ()
    digests: Mapping[str, str] | None = None

    def files(self) -> list[dict[str, str]]:
        """Return the programs, as the role expects them."""
        return [
            {
                "architecture": self.architecture,
                "program": program,
                "path": f"{self.directory}/{program}",
                "sha256": digest,
            }
            for program, digest in sorted((self.digests or {}).items())
        ]


def key(job: Job, name: str, architecture: str, libraries: Sequence[Build]) -> str | None:
    """Return the key of a build, or None if its compiler is not installed yet."""
    compiler, recipe = job.compiler(architecture), RECIPES[name]
    identity = compilers.identity(job, architecture)
    if identity is None:
        return None
    inputs = {
        "procedure": PROCEDURE,
        "source": [name, dataclasses.asdict(job.sources[name])],
        "compiler": [identity, compilers.settings(compiler, architecture)],
        "configure": recipe.configure_for(architecture, compiler),
        "recipe": [recipe.make, recipe.kept, recipe.left_out, dict(recipe.variables)],
        "libraries": [library.directory.name for library in libraries if library.directory is not None],
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]


def find(job: Job, name: str, architecture: str) -> Build:
    """Return a build; it counts as missing unless its files have the recorded digests."""
    libraries = tuple(find(job, library, architecture) for library in RECIPES[name].libraries)
    digest = key(job, name, architecture, libraries)
    if digest is None:
        return Build(name, architecture, None, libraries)
    directory = job.build_dir / "artefacts" / f"{job.sources[name].release}-{architecture}-{digest}"
    build = Build(name, architecture, directory, libraries)
    try:
        recorded = (directory / DIGESTS).read_text()
        files = [line.partition("  ")[2] for line in recorded.splitlines()]
        digests = {file: sha256(directory / file) for file in files}
    except (FileNotFoundError, IsADirectoryError):
        return build
    return dataclasses.replace(build, digests=digests) if digests and recorded == digest_lines(digests) else build


def look(job: Job) -> list[Build]:
    """Return the builds, existing or missing, of each source for each architecture."""
    return [
        find(job, name, architecture) for architecture in job.architectures for name in job.sources if name in PROGRAMS
    ]


def missing(builds: Sequence[Build]) -> list[Build]:
    """Return those that are missing."""
    return [build for build in builds if build.digests is None]


def architectures(builds: Sequence[Build]) -> list[str]:
    """Return their architectures, without duplicates."""
    return sorted({build.architecture for build in builds})


def digest_lines(digests: Mapping[str, str]) -> str:
    """Return digests as sha256sum(1) reads them."""
    return "".join(f"{digest}  {file}\n" for file, digest in sorted(digests.items()))


def keep(made: Path, build: Build, directory: Path) -> Build:
    """Move the files of a build, with their digests, into its directory in the store, all at once."""
    paths = sorted(path for path in made.rglob("*") if path.is_file())
    for path in paths:
        path.chmod(0o755 if build.source in PROGRAMS else 0o644)
    digests = {str(path.relative_to(made)): sha256(path) for path in paths}
    (made / DIGESTS).write_text(digest_lines(digests))
    made.chmod(0o755)
    directory.parent.mkdir(mode=0o755, exist_ok=True)
    if directory.exists():  # it is damaged, otherwise it would have been found
        shutil.rmtree(directory)
    made.rename(directory)
    return dataclasses.replace(build, digests=digests)


def check_build_directory(path: Path) -> None:
    """Raise BuildError if another user could change builds there, which will run on all nodes.

    If the directory does not exist, its parents are checked. Raises OSError if that is not possible.
    """
    if path.is_dir():
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise BuildError(f"the build directory {path} belongs to uid {status.st_uid}: it must be the builder's own")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise BuildError(f"the build directory {path} is writable by others: run 'chmod go-w {path}'")
    for place, owner in _secure_path.weak_points(os.fsencode(path.absolute()), builders()):
        if owner is None:
            reason, remedy = f"{place} is writable by others", f"run 'chmod go-w {place}'"
        else:
            reason, remedy = f"{place} belongs to {owner}", f"run 'chown root {place}'"
        raise BuildError(
            f"the build directory {path} could be replaced, since {reason}: {remedy}, or choose another build directory"
        )


def check_writable(path: Path) -> None:
    """Raise BuildError if this user can create no file in the build directory, or not the directory itself."""
    existing = next(place for place in (path.absolute(), *path.absolute().parents) if os.path.exists(place))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise BuildError(
            f"the build directory {path} cannot be written, since {existing} is not writable for the user who builds: "
            "set dropbear_build_dir to another directory"
        )


def builders() -> set[int]:
    """Return the uids that may own the directories above a build directory.

    They are root, the user who builds, and the user who became root by sudo, whose home may contain the checkout.
    """
    invoker = os.environ.get("SUDO_UID", "")
    is_sudo = os.geteuid() == 0 and invoker.isascii() and invoker.isdigit()
    return {0, os.geteuid(), *([int(invoker)] if is_sudo else [])}


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the build directory against other plays; the kernel releases the lock when the holder exits.

    Raises:
        BuildError: another play holds the lock for longer than a build takes.
    """
    end = time.monotonic() + LOCK_SECONDS
    with (directory / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise BuildError(
                        f"another play has been building in {directory} for {LOCK_SECONDS} s: end it and try again"
                    ) from None
            time.sleep(0.2)
        yield
