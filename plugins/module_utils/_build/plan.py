# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what a job lacks, and make it."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import compilers
from .compile import compile_source, cores
from .errors import BuildError
from .files import has_digest, make_directories, write_whole
from .job import Job
from .sbom import Sbom, sboms
from .store import Build, architectures, check_build_directory, keep, locked, look, missing


@dataclass(frozen=True)
class Status:
    """What there is of a job.

    Attributes:
        builds: the builds of programs
        bills: the bills of materials of the architectures whose programs are all there
    """

    builds: Sequence[Build]
    bills: Sequence[Sbom]

    @property
    def kept_bills(self) -> list[Sbom]:
        """Those that are there too."""
        return [bill for bill in self.bills if bill.is_kept]


def inspect(job: Job) -> Status:
    """Return what there is. Nothing is changed.

    Raises:
        BuildError: the build directory is not safe.
    """
    check_build_directory(job.build_dir)
    builds = look(job)
    return Status(builds, sboms(job, builds))


def missing_architectures(job: Job, status: Status) -> list[str]:
    """Return the architectures whose programs, or their bill of materials, are not there."""
    return sorted(set(job.architectures) - {bill.architecture for bill in status.kept_bills})


def missing_builds(status: Status) -> list[Build]:
    """Return the builds that are not there, libraries first. A library counts only if what is linked with it misses."""
    builds = missing(status.builds)
    return [*missing([library for build in builds for library in build.libraries]), *builds]


def missing_sources(job: Job, status: Status) -> list[str]:
    """Return the sources that making what misses takes, whose release archive is not there, or damaged."""
    sources = {build.source: job.sources[build.source] for build in missing_builds(status)}
    return [name for name, source in sorted(sources.items()) if not has_digest(job.archive(source), source.sha256)]


def missing_tools(job: Job, status: Status) -> list[str]:
    """Return the tools that making what misses takes, and that this host lacks."""
    return compilers.missing_tools(job, architectures(missing(status.builds)))


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


def to_do(job: Job, status: Status) -> list[str]:
    """Return what has to be made, a line for each."""
    builds = [f"build {job.sources[build.source].release} for {build.architecture}" for build in missing_builds(status)]
    return builds + [f"write {bill.path}" for bill in status.bills if not bill.is_kept]


def make_all(job: Job) -> tuple[Status, list[str]]:
    """Make what is missing. Return everything, and what had to be made.

    Raises:
        BuildError: the host lacks a tool, the build directory is not safe, or a build fails.
    """
    make_directories(job.build_dir)
    check_build_directory(job.build_dir)
    with locked(job.build_dir):
        status = inspect(job)  # again: another play may have built meanwhile
        made = to_do(job, status)
        if tools := missing_tools(job, status):
            raise BuildError(f"the build host {platform.node()} lacks {', '.join(tools)}: install what provides it")
        with tempfile.TemporaryDirectory(dir=job.build_dir, prefix="work-") as scratch:
            if "zig" in {job.compiler(architecture) for architecture in architectures(missing(status.builds))}:
                compilers.install_zig(job.zig_requirement, Path(scratch))
            # configure keeps one core busy
            with ThreadPoolExecutor(cores()) as pool:
                builds = list(pool.map(lambda build: make(job, build, Path(scratch)), status.builds))
        bills = sboms(job, builds)
        for bill in bills:
            if not bill.is_kept:
                write_whole(bill.text.encode(), bill.path, 0o644)
    return Status(builds, bills), made
