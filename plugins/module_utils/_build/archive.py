# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive of programs, for sites without a compiler."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from .elf import check_program
from .errors import BuildError
from .files import has_digest, sha256, write_whole
from .recipes import PROGRAMS, RECIPES
from .sbom import SBOM


@dataclass(frozen=True)
class Request:
    """A request to use an archive of programs.

    Attributes:
        archive: its path
        sha256: its digest
        release: name of Dropbear's release, and the directory in the archive
        architectures: the architectures of the required programs
        directory: where to put the programs, named by their digests
    """

    archive: Path
    sha256: str
    release: str
    architectures: Sequence[str]
    directory: Path


def packed(files: Sequence[Mapping[str, str]], release: str) -> bytes:
    """Return an archive of programs and bills of materials. Equal files give an equal archive, byte for byte.

    Args:
        files: as described by `Build.files` and `Sbom.file`

    Raises:
        BuildError: a file has changed since the build.
    """
    members = {f"{release}/{file['architecture']}/{file.get('program', SBOM)}": read(file) for file in files}
    result = io.BytesIO()
    with gzip.GzipFile(fileobj=result, mode="wb", mtime=0) as compressed:
        with tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in sorted(members.items()):
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(data), 0o644 if name.endswith(SBOM) else 0o755
                archive.addfile(member, io.BytesIO(data))
    return result.getvalue()


def read(file: Mapping[str, str]) -> bytes:
    """Return the content of a built file.

    Raises:
        BuildError: it has changed since the build.
    """
    data = Path(file["path"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        raise BuildError(f"{file['path']} was changed since it was built: run the play again, which builds it anew")
    return data


def contents(request: Request) -> dict[str, bytes]:
    """Return the contents of an archive, keyed by member name.

    Raises:
        BuildError: it is missing, has a wrong digest, or is not an archive.
    """
    archive = request.archive
    if not archive.is_file():
        raise BuildError(f"dropbear_programs_archive {archive} is not a file on the controller: put it there")
    digest = sha256(archive)
    if digest != request.sha256:
        raise BuildError(f"{archive} has sha256 {digest}, but dropbear_programs_sha256 is {request.sha256}: refused")
    try:
        with tarfile.open(archive, "r:gz") as opened:
            members = ((member.name, opened.extractfile(member)) for member in opened)
            return {name: content.read() for name, content in members if content is not None}
    except tarfile.TarError as error:
        raise BuildError(f"{archive} is not an archive of programs: {error}") from None


def unpack(request: Request, check: bool) -> tuple[list[dict[str, str]], list[dict[str, str]], list[str]]:
    """Check the programs of an archive, and put them and their bills of materials where the role expects them.

    Args:
        check: write nothing.

    Returns: the programs (see `Build.files`), the bills of materials (see `Sbom.file`), and the paths that were
    missing.

    Raises:
        BuildError: the archive has a wrong digest, lacks a program, or has one that must not be installed.
    """
    names = sorted(PurePath(pattern).name for recipe in PROGRAMS for pattern, _place in RECIPES[recipe].kept)
    members = contents(request)
    files, bills, written = [], [], []
    for architecture in request.architectures:
        for name in [*names, SBOM]:
            member = f"{request.release}/{architecture}/{name}"
            if member not in members:
                raise BuildError(
                    f"{request.archive} does not contain {member}: create one for this version and architecture"
                )
            path = request.directory / hashlib.sha256(members[member]).hexdigest()
            file = {"architecture": architecture, "path": str(path), "sha256": path.name}
            if name == SBOM:
                bills.append(file)
            else:
                check_program(members[member], architecture, name)
                files.append({**file, "program": name})
            if str(path) not in written and not has_digest(path, path.name):
                written.append(str(path))
                if not check:
                    write_whole(members[member], path, 0o644 if name == SBOM else 0o755)
    return files, bills, written
