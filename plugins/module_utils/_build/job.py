# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to build, from the role's parameters."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import BuildError
from .recipes import RECIPES


@dataclass(frozen=True)
class Source:
    """A release archive, and the files and patches to add to it.

    Attributes:
        archive: its name, such as dropbear-2026.94.tar.bz2
        sha256: its digest
        files: texts to add, keyed by path in the source's directory
        patches: unified diffs, keyed by name, and applied in the order of the names
    """

    archive: str
    sha256: str
    files: Mapping[str, str] = field(default_factory=dict)
    patches: Mapping[str, str] = field(default_factory=dict)

    @property
    def release(self) -> str:
        """The release's name."""
        return self.archive.partition(".tar.")[0]

    @property
    def version(self) -> str:
        """The release's version, as upstream writes it."""
        return self.release.partition("-")[2]


@dataclass(frozen=True)
class Job:
    """What to build.

    Attributes:
        build_dir: directory for sources and builds
        architectures: those of the programs
        native_compiler: "musl-gcc" or "zig", for the build host's own architecture; all others are built by zig
        zig_requirement: a pip requirements file with digests
        sources: keyed by the name of the recipe, sorted
    """

    build_dir: Path
    architectures: Sequence[str]
    native_compiler: str
    zig_requirement: str
    sources: Mapping[str, Source]

    def archive(self, source: Source) -> Path:
        """Return the path of the release archive."""
        return self.build_dir / "sources" / source.archive

    def compiler(self, architecture: str) -> str:
        """Return "musl-gcc" or "zig", whichever builds for `architecture` on this host."""
        return self.native_compiler if architecture == platform.machine() else "zig"


def read_job(params: Mapping[str, Any]) -> Job:
    """Return the job that a module's parameters describe.

    Raises:
        BuildError: the source of a library is missing.
    """
    sources = {
        entry["name"]: Source(entry["archive"], entry["sha256"], entry["files"], entry["patches"])
        for entry in sorted(params["sources"], key=lambda entry: str(entry["name"]))
    }
    if lacking := {library for name in sources for library in RECIPES[name].libraries} - sources.keys():
        raise BuildError(f"sources lacks {', '.join(sorted(lacking))}, which programs are linked with: add it")
    return Job(
        Path(params["build_dir"]),
        params["architectures"],
        params["native_compiler"],
        params["zig_requirement"],
        sources,
    )
