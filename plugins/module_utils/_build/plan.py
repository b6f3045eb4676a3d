# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what a job lacks, and build it."""

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
from .store import Build, architectures, check_build_directory, check_writable, keep, locked, look, missing


@dataclass(frozen=True)
class Status:
    """The state of a job.

    Attributes:
        builds: the builds of programs
        bills: the bills of materials of the architectures whose programs are complete
    """

    builds: Sequence[Build]
    bills: Sequence[Sbom]

    @property
    def kept_bills(self) -> list[Sbom]:
        """The bills of materials that exist."""
        return [bill for bill in self.bills if bill.is_kept]


def inspect(job: Job) -> Status:
    """Return the current state. Nothing is changed.

    Raises:
        BuildError: users other than the builder can write to the build directory, or the builder cannot and has to.
    """
    check_build_directory(job.build_dir)
    builds = look(job)
    status = Status(builds, sboms(job, builds))
    if to_do(job, status):
        check_writable(job.build_dir)
    return status


def missing_architectures(job: Job, status: Status) -> list[str]:
    """Return the architectures whose programs or bill of materials are missing."""
    return sorted(set(job.architectures) - {bill.architecture for bill in status.kept_bills})


def missing_builds(status: Status) -> list[Build]:
    """Return the missing builds, libraries first. A library counts only if a program that links it is missing."""
    builds = missing(status.builds)
    return [*missing([library for build in builds for library in build.libraries]), *builds]


def missing_sources(job: Job, status: Status) -> list[str]:
    """Return the sources for the missing builds whose release archive is missing or damaged."""
    sources = {build.source: job.sources[build.source] for build in missing_builds(status)}
    return [name for name, source in sorted(sources.items()) if not has_digest(job.archive(source), source.sha256)]


def missing_tools(job: Job, status: Status) -> list[str]:
    """Return the tools for the missing builds that this host lacks."""
    return compilers.missing_tools(job, architectures(missing(status.builds)))


def make(job: Job, build: Build, scratch: Path) -> Build:
    """Run a build, with missing libraries, and store it; return an existing one as it is."""
    if build.digests is not None:
        return build
    if build.directory is None:
        raise BuildError(f"the compiler for {build.architecture} came during the build: run the play again")
    for library in build.libraries:
        make(job, library, scratch)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=f"{build.architecture}-") as directory:
        return keep(compile_source(job, build, Path(directory)), build, build.directory)


def to_do(job: Job, status: Status) -> list[str]:
    """Return one line for each thing to build."""
    builds = [f"build {job.sources[build.source].release} for {build.architecture}" for build in missing_builds(status)]
    return builds + [f"write {bill.path}" for bill in status.bills if not bill.is_kept]


def make_all(job: Job) -> tuple[Status, list[str]]:
    """Build what is missing. Return the new state, and what was built.

    Raises:
        BuildError: the host lacks a tool, others can write to the build directory, or a build fails.
    """
    make_directories(job.build_dir)
    check_build_directory(job.build_dir)
    with locked(job.build_dir):
        status = inspect(job)  # again: another play may have built something in the meantime
        made = to_do(job, status)
        if tools := missing_tools(job, status):
            raise BuildError(f"the build host {platform.node()} lacks {', '.join(tools)}: install what provides it")
        with tempfile.TemporaryDirectory(dir=job.build_dir, prefix="work-") as scratch:
            if "zig" in {job.compiler(architecture) for architecture in architectures(missing(status.builds))}:
                compilers.install_zig(job.zig_requirement, Path(scratch))
            # configure uses one core
            with ThreadPoolExecutor(cores()) as pool:
                builds = list(pool.map(lambda build: make(job, build, Path(scratch)), status.builds))
        bills = sboms(job, builds)
        for bill in bills:
            if not bill.is_kept:
                write_whole(bill.text.encode(), bill.path, 0o644)
    return Status(builds, bills), made
