"""Upgrade one of the sources that the role dropbear builds to a newer release, after verifying its signature.

    python tools/bump.py openssh 10.6p1
    python tools/bump.py openssh 10.6p1 --archive FILE --signature FILE
    python tools/bump.py libsodium 1.0.23 --sha256 DIGEST

Downloads the release archive and its detached signature from upstream, or takes local copies, and verifies the
signature with gpg. The key must be in tools/keys, and its fingerprint below. Then writes version and digest where the
role has them, keeps the signature in tools/sources, and says what is left to do. Changes nothing if anything is wrong.

A libsodium tag has no signature: the digest comes from the maintainer, who got it from a second place.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEYS = ROOT / "tools" / "keys"
TIMEOUT = 60  # seconds without an answer


class BumpError(Exception):
    """A failure that its text explains completely."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A source and who signs it.

    Attributes:
        variable: what the names of the role's variables about it begin with
        url: of the release archive
        fingerprints: primary keys whose signatures count; none: the archive has no signature
    """

    variable: str
    url: str
    fingerprints: tuple[str, ...]


SOURCES = {
    "dropbear": Source(
        "dropbear",
        "https://matt.ucc.asn.au/dropbear/releases/dropbear-{version}.tar.bz2",
        ("F7347EF2EE2E07A267628CA944931494F29C6773",),
    ),
    "libsodium": Source(
        "dropbear_libsodium",
        "https://github.com/jedisct1/libsodium/archive/refs/tags/{version}-RELEASE.tar.gz",
        (),
    ),
    "openssh": Source(
        "dropbear_openssh",
        "https://cdn.openbsd.org/pub/OpenBSD/OpenSSH/portable/openssh-{version}.tar.gz",
        ("7168B983815A5EEF59A4ADFD2A3F414E736060BA",),
    ),
    "openssl": Source(
        "dropbear_openssl",
        "https://github.com/openssl/openssl/releases/download/openssl-{version}/openssl-{version}.tar.gz",
        ("BA5473A2B0587B07FB27CF2D216094DFD0CB81EF",),
    ),
}


def download(url: str, path: Path) -> Path:
    """Write what `url` gives to `path`, and return it."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (urllib.error.URLError, OSError) as error:
        raise BumpError(f"{url}: {error}: get the file elsewhere, and name it with --archive or --signature") from None
    return path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def gpg(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run gpg with a keyring of its own."""
    command = ["gpg", "--batch", "--no-autostart", "--homedir", str(home), *map(str, arguments)]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError:
        raise BumpError("gpg is not installed: install gnupg") from None


def expiry(home: Path, fingerprint: str) -> int | None:
    """Return when a key expires, in seconds since 1970, or None for never."""
    listing = gpg(home, "--with-colons", "--list-keys", fingerprint).stdout
    fields = next(line.split(":") for line in listing.splitlines() if line.startswith("pub:"))
    return int(fields[6]) if fields[6] else None


def verify(archive: Path, signature: Path, keys: Path, fingerprints: Sequence[str]) -> str:
    """Return the fingerprint of the primary key that signed `archive`.

    A key that has expired counts for what it signed before.

    Raises:
        BumpError: the signature is not that of the archive, or of no key in `fingerprints`.
    """
    if not keys.is_file():
        raise BumpError(f"{keys} does not exist: add the key of whoever signs {archive.name}")
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        home.chmod(0o700)
        gpg(home, "--import", keys)
        checked = gpg(home, "--status-fd", "1", "--verify", signature, archive)
        words = [line.split()[1:] for line in checked.stdout.splitlines() if line.startswith("[GNUPG:] ")]
        told = {name: rest for name, *rest in words}
        if "VALIDSIG" not in told or told.keys() & {"BADSIG", "ERRSIG", "REVKEYSIG", "EXPSIG"}:
            missing = f": no key {told['NO_PUBKEY'][0]} in {keys}" if "NO_PUBKEY" in told else ""
            raise BumpError(f"{signature} is no valid signature of {archive}{missing}: refused")
        signed, primary = int(told["VALIDSIG"][2]), told["VALIDSIG"][-1]
        if primary not in fingerprints:
            raise BumpError(f"{archive} is signed by {primary}, which is not one of {', '.join(fingerprints)}: refused")
        ends = expiry(home, primary)
        if ends is not None and signed >= ends:
            raise BumpError(f"{archive} was signed by {primary} after that key had expired: refused")
    return primary


def replace(path: Path, pattern: str, replacement: str) -> tuple[Path, str]:
    """Return a file and its text with the one match of `pattern` replaced; raises BumpError if there is not one."""
    text, count = re.subn(pattern, lambda match: match.expand(replacement), path.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise BumpError(f"{path} has {count} places for the version instead of one: look at it")
    return path, text


def edit(name: str, version: str, digest: str, root: Path) -> str:
    """Write version and digest into the role, and return the version that was there."""
    source, role = SOURCES[name], root / "roles" / "dropbear"
    defaults, variables = role / "defaults" / "main.yml", role / "vars" / "main.yml"
    specs = role / "meta" / "argument_specs.yml"
    found = re.search(rf'^{source.variable}_version: "?([^"\n]+)"?$', defaults.read_text(), flags=re.MULTILINE)
    if found is None:
        raise BumpError(f"{defaults} has no {source.variable}_version: look at it")
    old = found[1]
    quoted = f'"{version}"' if re.fullmatch(r"[0-9.]*", version) and version.count(".") < 2 else version
    changed = [
        replace(defaults, rf"^({source.variable}_version: ).*$", rf"\g<1>{quoted}"),
        replace(variables, rf'^(  {name}:\n    )"{re.escape(old)}": [0-9a-f]{{64}}$', rf'\g<1>"{version}": {digest}'),
    ]
    _specs, text = replace(specs, rf'^( *default: )"{re.escape(old)}"$', rf'\g<1>"{version}"')
    for path, changed_text in [*changed, (specs, text.replace(f"V({old})", f"V({version})"))]:
        path.write_text(changed_text)
    return old


def keep_signature(name: str, signature: bytes, kept: str, root: Path) -> None:
    """Keep the signature of a source's archive in tools/sources as `kept`, in place of the one before."""
    directory = root / "tools" / "sources"
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.glob(f"{name}-*.asc"):
        path.unlink()
    (directory / kept).write_bytes(signature)


def mentions(old: str, root: Path) -> list[str]:
    """Return the files of the checkout that still name a version."""
    search = ["git", "grep", "--name-only", "--fixed-strings", "-e", old, "--", ".", ":!requirements/", ":!changelogs"]
    return subprocess.run(search, cwd=root, capture_output=True, text=True, check=False).stdout.split()


def bump(options: argparse.Namespace, root: Path = ROOT, keys: Path = KEYS) -> None:
    """Do what the module's docstring says."""
    name, version = options.source, options.version
    source = SOURCES[name]
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)+(p[0-9]+)?", version):
        raise BumpError(f"{version} is not a version, such as 10.6p1 or 3.5.9")
    if not source.fingerprints and options.sha256 is None:
        raise BumpError(f"{name} has no signature: give the digest that you got from a second place with --sha256")
    url = source.url.format(version=version)
    with tempfile.TemporaryDirectory() as directory:
        archive = options.archive or download(url, Path(directory, url.rpartition("/")[2]))
        digest = sha256(archive)
        if options.sha256 not in (None, digest):
            raise BumpError(f"{archive} has sha256 {digest}, not {options.sha256}: refused")
        if source.fingerprints:
            signature = options.signature or download(f"{url}.asc", Path(directory, "signature.asc"))
            signer = verify(archive, signature, keys / f"{name}.asc", source.fingerprints)
            print(f"{archive.name}: signed by {signer}")
            signed = signature.read_bytes()
    old = edit(name, version, digest, root)
    if source.fingerprints:
        keep_signature(name, signed, f"{url.rpartition('/')[2]}.asc", root)
    print(f"{name}: {old} -> {version}, sha256 {digest}")
    print("To do:")
    if name in ("dropbear", "openssh"):
        print("  * make role-dropbear: the patches must fit; upstream may have taken some")
    for path in mentions(old, root):
        print(f"  * {path} still names {old}")
    print("  * docs/security.md: which CVEs this release fixes; changelogs/fragments: a line under security_fixes")
    print("  * make test")


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description="Upgrade a source of the role dropbear to a newer release.")
    parser.add_argument("source", choices=sorted(SOURCES))
    parser.add_argument("version")
    parser.add_argument("--archive", type=Path, help="a local copy of the release archive")
    parser.add_argument("--signature", type=Path, help="a local copy of its detached signature")
    parser.add_argument("--sha256", help="the digest that the archive must have")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Run the program; the exit status is 2 for an error, which is on stderr."""
    try:
        bump(arguments(words))
    except (BumpError, OSError) as error:
        print(f"bump: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
