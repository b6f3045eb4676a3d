# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a release archive into source that is ready to configure: verified, unpacked, patched."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from .errors import BuildError
from .files import sha256
from .job import Source


def unpack(archive: Path, source: Source, directory: Path, left_out: Sequence[str] = ()) -> Path:
    """Unpack the source into the empty `directory` and return its top directory.

    Raises:
        BuildError: the archive is missing, has a wrong digest or not one top directory, has a file in the place of
            one that is added, or a patch does not apply.
    """
    if not archive.is_file():
        raise BuildError(f"there is no {archive}: download {source.archive} to that place")
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
    tops = list(directory.iterdir())  # not always named like the release: libsodium-1.0.22-RELEASE
    if len(tops) != 1:
        raise BuildError(
            f"{archive} has {len(tops)} files at its top instead of one directory: it is not a release archive"
        )
    for name, text in sorted(source.files.items()):
        if (tops[0] / name).exists():
            raise BuildError(f"{source.release} has a file {name} of its own: set a version without it")
        (tops[0] / name).write_text(text)
    apply_patches(source, tops[0])
    return tops[0]


def apply_patches(source: Source, top: Path) -> None:
    """Apply the patches to the unpacked source; raises a one-line BuildError if one does not apply exactly."""
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
