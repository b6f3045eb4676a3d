# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one build: configure, make, check, and collect the files to keep."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import compilers
from .canaries import check_library_canaries, check_program_canaries
from .elf import check_program
from .errors import BuildError
from .job import Job
from .recipes import PROGRAMS, RECIPES
from .store import Build
from .symbols import function_names, object_files, strip
from .unpack import unpack

STEP_SECONDS = 3600  # for one call of configure or make


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def environment(job: Job, build: Build, scratch: Path) -> dict[str, str]:
    """Return the environment in which configure and make run."""
    compiler = job.compiler(build.architecture)
    variables = {
        **compilers.places(compiler, scratch),
        **compilers.settings(compiler, build.architecture),
        **RECIPES[build.source].variables,
    }
    for library in build.libraries:
        variables["CPPFLAGS"] = f"-I{library.directory}/include {variables.get('CPPFLAGS', '')}".rstrip()
        variables["LDFLAGS"] += f" -L{library.directory}/lib"
    return variables


def run_step(command: Sequence[str], directory: Path, variables: Mapping[str, str], log: Path) -> None:
    """Run one command of the build, appending its output to `log`; raises BuildError with the last lines."""
    with log.open("a") as output:
        try:
            status = subprocess.run(
                command,
                cwd=directory,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=STEP_SECONDS,
                check=False,
            ).returncode
            failure = f"failed with status {status}" if status else ""
        except subprocess.TimeoutExpired:
            failure = f"did not end within {STEP_SECONDS} s"
    if failure:
        text = compilers.last_lines(log.read_text(errors="replace"))
        raise BuildError(f"'{command[0]}' {failure}; the last lines of {log}:\n{text}")


def keep_programs(build: Build, top: Path, made: Path) -> None:
    """Check the programs that were linked in `top`, and put them into `made`, stripped."""
    own = function_names(object_files(top))
    for pattern, place in RECIPES[build.source].kept:
        (made / place).mkdir(parents=True, exist_ok=True)
        for path in top.glob(pattern):
            linked = path.read_bytes()
            check_program(linked, build.architecture, path.name)
            check_program_canaries(linked, own, f"{path.name} for {build.architecture}")
            stripped = strip(linked)
            check_program(stripped, build.architecture, path.name)
            (made / place / path.name).write_bytes(stripped)


def compile_source(job: Job, build: Build, scratch: Path) -> Path:
    """Run a build in the new directory `scratch`. Return a directory with its checked files."""
    source, recipe = job.sources[build.source], RECIPES[build.source]
    log = job.build_dir / f"build-{source.release}-{build.architecture}.log"
    log.unlink(missing_ok=True)
    variables = environment(job, build, scratch.parent)
    top = unpack(job.archive(source), source, scratch / "source", recipe.left_out)
    if not (top / recipe.configure[0]).is_file():  # a release contains it, a repository must generate it
        raise BuildError(
            f"{source.archive} has no {recipe.configure[0]}: use the release archive that upstream publishes"
        )
    compilers.check_flags(variables, scratch)
    run_step(recipe.configure_for(build.architecture, job.compiler(build.architecture)), top, variables, log)
    for arguments in recipe.make:
        run_step(["make", f"-j{cores()}", *arguments], top, variables, log)
    made = scratch / "made"
    if build.source in PROGRAMS:
        keep_programs(build, top, made)
    else:
        check_library_canaries(object_files(top), source.release)
        for pattern, place in recipe.kept:
            (made / place).mkdir(parents=True, exist_ok=True)
            for path in top.glob(pattern):
                shutil.copy(path, made / place)
    log.unlink()
    return made
