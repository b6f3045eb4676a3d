"""Verify the sources that the role dropbear pins: python tools/verify_sources.py DIRECTORY

DIRECTORY has the release archives, as `sources` of a build directory has. Each must have the digest that the role pins
and, where tools/sources keeps its signature, be signed by upstream's key. gpg verifies; no network is used.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bump import KEYS, ROOT, SOURCES, BumpError, sha256, verify


def pins(root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, version and digest of each source that the role pins."""
    text = (root / "roles/dropbear/vars/main.yml").read_text(encoding="utf-8")
    for name in SOURCES:
        found = re.search(rf'^  {name}:\n    "([^"\n]+)": ([0-9a-f]{{64}})$', text, flags=re.MULTILINE)
        if found is None:
            raise BumpError(f"roles/dropbear/vars/main.yml pins no {name}: look at it")
        yield name, found[1], found[2]


def verified(name: str, version: str, digest: str, directory: Path, root: Path = ROOT, keys: Path = KEYS) -> str:
    """Verify one source, and return a line about it. Raises: BumpError."""
    source = SOURCES[name]
    suffix = re.sub(r"^.*?(\.tar\.\w+)$", r"\1", source.url)
    archive = directory / f"{name}-{version}{suffix}"
    if not archive.is_file():
        raise BumpError(f"{archive} does not exist: put the release archive there")
    if sha256(archive) != digest:
        raise BumpError(f"{archive} has sha256 {sha256(archive)}, and the role pins {digest}: refused")
    signature = root / "tools" / "sources" / f"{archive.name}.asc"
    if not signature.is_file():
        return f"{archive.name}: as pinned; tools/sources/README.md says why there is no signature"
    signer = verify(archive, signature, keys / f"{name}.asc", source.fingerprints)
    return f"{archive.name}: as pinned, signed by {signer}"


def main(arguments: Sequence[str]) -> int:
    """Verify all sources; the exit status is 1 if one is refused, and 2 for wrong arguments."""
    if len(arguments) != 1:
        print("usage: python tools/verify_sources.py DIRECTORY", file=sys.stderr)
        return 2
    try:
        for name, version, digest in pins(ROOT):
            print(verified(name, version, digest, Path(arguments[0])))
    except BumpError as error:
        print(f"verify_sources: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
