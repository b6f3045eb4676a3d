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
    """An archive of programs, and what is wanted of it.

    Attributes:
        archive: its path
        sha256: its digest
        release: name of Dropbear's release, and the directory in the archive
        architectures: those whose programs are wanted
        directory: where the programs are put, named by their digests
    """

    archive: Path
    sha256: str
    release: str
    architectures: Sequence[str]
    directory: Path


def packed(files: Sequence[Mapping[str, str]], release: str) -> bytes:
    """Return an archive of programs and bills of materials. Equal files give an equal archive, byte for byte.

    Args:
        files: as `Build.files` and `Sbom.file` describe them

    Raises:
        BuildError: a file is not the one that was built.
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
        BuildError: it was changed since it was built.
    """
    data = Path(file["path"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        raise BuildError(f"{file['path']} was changed since it was built: run the play again, which builds it anew")
    return data


def contents(request: Request) -> dict[str, bytes]:
    """Return what an archive has, by the names of its members.

    Raises:
        BuildError: it is not there, has a wrong digest, or is no archive.
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
    """Put the programs of an archive where the role takes them from, checked, and their bills of materials.

    Args:
        check: write nothing.

    Returns: the programs, as `Build.files` does, the bills of materials, as `Sbom.file` does, and the paths that were
    not there.

    Raises:
        BuildError: the archive has a wrong digest, lacks a program, or one that must not be installed.
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
