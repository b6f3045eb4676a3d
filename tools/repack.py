"""Make the archive of a collection reproducible: python tools/repack.py ARCHIVE SECONDS

`ansible-galaxy collection build` writes the time of the build into the archive, and lists files as the file system
does. This writes ARCHIVE anew: sorted, each member with the time SECONDS (since 1970). So equal files give an equal
archive, byte for byte, whoever builds it, where and when, if Python has the same zlib.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

FILES = "FILES.json"
MANIFEST = "MANIFEST.json"


def dump(content: object) -> bytes:
    """Return JSON as ansible-galaxy writes it."""
    return json.dumps(content, indent=1).encode()


def sort_lists(contents: dict[str, bytes]) -> None:
    """Sort the list of files, and write its new digest into the manifest."""
    files = json.loads(contents[FILES])
    files["files"].sort(key=lambda file: str(file["name"]))
    contents[FILES] = dump(files)
    manifest = json.loads(contents[MANIFEST])
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(contents[FILES]).hexdigest()
    contents[MANIFEST] = dump(manifest)


def repack(archive: Path, seconds: int) -> None:
    """Write `archive` anew."""
    with tarfile.open(archive, "r:gz") as old:
        members = sorted(old.getmembers(), key=lambda member: member.name)
        contents = {
            member.name: file.read() for member in members if (file := old.extractfile(member)) and member.isfile()
        }
    sort_lists(contents)
    result = io.BytesIO()
    with gzip.GzipFile(fileobj=result, mode="wb", mtime=0) as compressed:
        with tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as new:
            for member in members:
                member.mtime, member.pax_headers = seconds, {}
                data = contents.get(member.name, b"")
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
    archive.write_bytes(result.getvalue())


if __name__ == "__main__":
    repack(Path(sys.argv[1]), int(sys.argv[2]))
