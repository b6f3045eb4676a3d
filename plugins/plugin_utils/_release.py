# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find a release among the builds of the role dropbear, and pack it for nodes."""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.ocihooks.ssh.plugins.module_utils import _dropbear


class Release(NamedTuple):
    """A release for one architecture.

    Attributes:
        name: name of its directory
        files: its files
        sources: paths of the files on the controller, in the same order
    """

    name: str
    files: list[_dropbear.File]
    sources: list[str]


def find_release(builds: Mapping[str, Any], architecture: str, version: str, source_dir: str) -> Release:
    """Return the release for an architecture, from the module's options.

    Raises:
        ValueError: a file has a name or a digest that is not in the role's builds.
    """
    built = [file for kind in ("files", "sboms") for file in builds[kind] if file["architecture"] == architecture]
    for file in built:
        program, sha256 = file.get("program"), file["sha256"]
        if program not in (None, *_dropbear.PROGRAMS) or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError(f"the build host names a file that no build has: {program!r}, SHA-256 {sha256!r}")
    files = [_dropbear.release_file(file.get("program"), file["sha256"]) for file in built]
    sources = [f"{source_dir}/{file['sha256']}" if source_dir else file["path"] for file in built]
    return Release(_dropbear.release_name(version, [file.sha256 for file in files]), files, sources)


def pack(release: Release, archive: Path) -> None:
    """Write the files of a release into an archive, unless it is there. Several processes may do so at once."""
    if archive.exists():
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".", dir=archive.parent)
    try:
        with open(descriptor, "wb") as target, tarfile.open(fileobj=target, mode="w") as opened:
            for source, (path, _digest, _mode) in zip(release.sources, release.files):
                opened.add(source, path, recursive=False)
        os.rename(temporary, archive)
    except BaseException:
        os.unlink(temporary)
        raise
