# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bill of materials (CycloneDX 1.6) of an architecture's programs."""

from __future__ import annotations

import hashlib
import json
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .job import Job, Source
from .recipes import PROGRAMS, RECIPES
from .store import Build, architectures, missing

SBOM = "sbom.cdx.json"
# Vendor and product of each source in its CPE (Common Platform Enumeration), as in the CVE database.
CPES = {
    "dropbear": ("dropbear_ssh_project", "dropbear_ssh"),
    "libsodium": ("libsodium", "libsodium"),
    "musl": ("musl-libc", "musl"),
    "openssh": ("openbsd", "openssh"),
    "openssl": ("openssl", "openssl"),
}


@dataclass(frozen=True)
class Sbom:
    """The bill of materials of one architecture's programs: its text and its path."""

    architecture: str
    text: str
    path: Path

    @property
    def is_kept(self) -> bool:
        """Whether the file exists, undamaged."""
        return self.path.is_file() and self.path.read_bytes() == self.text.encode()

    def file(self) -> dict[str, str]:
        """Return the file, as the role expects it."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        return {"architecture": self.architecture, "path": str(self.path), "sha256": digest}


def cpe(name: str, version: str) -> str:
    """Return the CPE of a version; OpenSSH's 10.3p1 is version 10.3, update p1, there."""
    vendor, product = CPES[name]
    number, update = (version, "*")
    if name == "openssh" and "p" in version:
        number, _p, level = version.partition("p")
        update = f"p{level}"
    return f"cpe:2.3:a:{vendor}:{product}:{number}:{update}:*:*:*:*:*:*"


def musl_version(architecture: str) -> str | None:
    """Return the version of this host's musl, from its loader, or None."""
    try:
        told = subprocess.run([f"/lib/ld-musl-{architecture}.so.1"], capture_output=True, text=True, check=False).stderr
    except OSError:
        return None
    versions = [line.split()[1] for line in told.splitlines() if line.startswith("Version ")]
    return versions[0] if versions else None


def libc_component(job: Job, architecture: str) -> dict[str, object]:
    """Return musl as a component, without a version if it comes with zig."""
    version = musl_version(architecture) if job.compiler(architecture) == "musl-gcc" else None
    component: dict[str, object] = {"type": "library", "bom-ref": "musl", "name": "musl"}
    if version is None:
        requirement = next((line for line in job.zig_requirement.splitlines() if line.startswith("ziglang==")), "zig")
        return {**component, "description": f"As {requirement.split()[0]} brings it"}
    return {**component, "version": version, "purl": f"pkg:generic/musl@{version}", "cpe": cpe("musl", version)}


def bundled_components(name: str, source: Source) -> list[dict[str, object]]:
    """Return the libraries bundled with a source, as components; their versions depend on the source's."""
    return [
        {"type": "library", "bom-ref": library, "name": library, "description": f"As {name} {source.version} brings it"}
        for library in RECIPES[name].bundled
    ]


def linked(name: str) -> list[str]:
    """Return the libraries that the programs of a source are linked with."""
    return [*RECIPES[name].libraries, *RECIPES[name].bundled, "musl"]


def source_component(name: str, source: Source, builds: Sequence[Build]) -> dict[str, object]:
    """Return a source as a component: its archive, what is changed in it, and the programs built from it."""
    component: dict[str, object] = {
        "type": "application" if name in PROGRAMS else "library",
        "bom-ref": name,
        "name": name,
        "version": source.version,
        "cpe": cpe(name, source.version),
        "purl": f"pkg:generic/{name}@{source.version}",
        "externalReferences": [
            {
                "type": "source-distribution",
                "url": source.archive,
                "hashes": [{"alg": "SHA-256", "content": source.sha256}],
            }
        ],
    }
    if changes := {**source.files, **source.patches}:
        digests = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in sorted(changes.items())}
        component["pedigree"] = {
            "patches": [
                {"type": "unofficial", "diff": {"url": f"patches/{name}/{patch}"}} for patch in sorted(source.patches)
            ],
            "notes": "SHA-256: " + ", ".join(f"{path} {digest}" for path, digest in digests.items()),
        }
    programs = [file for build in builds if build.source == name for file in build.files()]
    if programs:
        component["components"] = [
            {
                "type": "file",
                "bom-ref": f"bin/{file['program']}",
                "name": f"bin/{file['program']}",
                "hashes": [{"alg": "SHA-256", "content": file["sha256"]}],
            }
            for file in programs
        ]
    return component


def sbom(job: Job, architecture: str, builds: Sequence[Build]) -> Sbom:
    """Return the bill of materials (CycloneDX 1.6) of an architecture's builds, identical for identical builds."""
    sources = [name for name in job.sources if name in PROGRAMS]
    libraries = sorted({library for name in sources for library in RECIPES[name].libraries})
    content: dict[str, object] = {
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "programs",
                "name": "ocihooks.ssh.dropbear",
                "description": f"Static programs for {architecture}, compiled by {job.compiler(architecture)}",
            }
        },
        "components": [
            *(source_component(name, job.sources[name], builds) for name in [*sources, *libraries]),
            *(part for name in sources for part in bundled_components(name, job.sources[name])),
            libc_component(job, architecture),
        ],
        "dependencies": [
            {"ref": "programs", "dependsOn": sources},
            *({"ref": name, "dependsOn": linked(name)} for name in [*sources, *libraries]),
            *({"ref": library} for name in sources for library in RECIPES[name].bundled),
            {"ref": "musl"},
        ],
    }
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    # The format requires a serial number. It is derived from the content, so that identical builds do not change nodes.
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": uuid.UUID(hex=key[:32], version=5).urn}
    text = json.dumps({**head, "version": 1, **content}, indent=2) + "\n"
    return Sbom(architecture, text, job.build_dir / "artefacts" / f"sbom-{architecture}-{key[:12]}" / SBOM)


def sboms(job: Job, builds: Sequence[Build]) -> list[Sbom]:
    """Return the bills of materials of the architectures whose programs are complete."""
    unbuilt = architectures(missing(builds))
    return [
        sbom(job, architecture, [build for build in builds if build.architecture == architecture])
        for architecture in job.architectures
        if architecture not in unbuilt
    ]
