"""Describe and sign a release: python tools/sign.py DIRECTORY KEY

DIRECTORY has the archives of the collection and of the programs, ocihooks-ssh-VERSION.tar.gz and
ocihooks-programs-VERSION.tar.gz, which were made from this checkout. It must be clean, and its commit tagged VERSION.
Adds

    ocihooks-programs-VERSION-ARCHITECTURE.cdx.json   the bills of materials, from the programs' archive
    ocihooks-ssh-VERSION.intoto.json                  the provenance: an in-toto statement with SLSA's predicate
    SHA256SUMS, SHA256SUMS.sig                        the digests of all files, and their signature

KEY is the release key, or its public part where an agent has the key; ssh-keygen signs. If `allowed_signers` does not
know the key, nothing stays signed. docs/releases.md says what each file is for.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/ocihooks/ssh"
SIGNERS = "allowed_signers"
PRINCIPAL = "ocihooks.ssh"
NAMESPACE = "ocihooks.ssh-release"  # a signature that was made for another purpose does not count
SUMS = "SHA256SUMS"
SIGNATURE = f"{SUMS}.sig"
SBOM = "sbom.cdx.json"


class Refused(Exception):
    """The release cannot be signed; the message is one line that says why and what to do."""


def run(*command: str | Path, cwd: Path, stdin: bytes | None = None, on_terminal: bool = False) -> str:
    """Return what a command prints.

    Args:
        on_terminal: leave it this process's stderr

    Raises: Refused, with what the command reports, if it fails.
    """
    stderr = None if on_terminal else subprocess.PIPE
    done = subprocess.run(command, cwd=cwd, input=stdin, stdout=subprocess.PIPE, stderr=stderr, check=False)
    if done.returncode:
        reported = " ".join((done.stderr or done.stdout).decode(errors="replace").split())
        raise Refused(f"{command[0]} {command[1]} failed: {'see above' if on_terminal else reported}")
    return done.stdout.decode().strip()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def find_version(root: Path) -> str:
    """Return the version of the checkout. Raises: Refused, unless its commit has that tag and nothing is changed."""
    found = re.search(r"^version: (\S+)$", (root / "galaxy.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    version = found[1] if found else ""
    if version not in run("git", "tag", "--points-at", "HEAD", cwd=root).split():
        raise Refused(f"the commit has no tag {version!r}, the version in galaxy.yml: tag it, or check out the tag")
    if run("git", "status", "--porcelain", cwd=root):
        raise Refused("the checkout has changes, or files that git does not know: use a fresh clone of the tag")
    return version


def extract_sboms(programs: Path, stem: str) -> list[Path]:
    """Write the bills of materials of an archive of programs beside it, and return their paths."""
    paths = []
    with tarfile.open(programs, "r:gz") as archive:
        for member in archive:
            _release, _slash, rest = member.name.partition("/")
            architecture, _slash, name = rest.partition("/")
            content = archive.extractfile(member)
            if name == SBOM and content is not None and re.fullmatch(r"\w+", architecture):
                path = programs.with_name(f"{stem}-{architecture}.cdx.json")
                path.write_bytes(content.read())
                paths.append(path)
    if not paths:
        raise Refused(f"{programs} has no bill of materials: make it with tools/programs.yml")
    return paths


def sources(bill: Mapping[str, object]) -> list[dict[str, object]]:
    """Return what a bill of materials says the programs were built from, as resolved dependencies of a provenance."""
    found: list[dict[str, object]] = []
    components = bill["components"]
    assert isinstance(components, list)
    for component in components:
        for reference in component.get("externalReferences", []):
            hashes = {entry["alg"]: entry["content"] for entry in reference["hashes"]}
            found.append({"uri": component["purl"], "name": reference["url"], "digest": {"sha256": hashes["SHA-256"]}})
        if component["name"] == "musl" and "purl" in component:
            found.append({"uri": component["purl"], "name": "musl"})
    return found


def provenance(
    version: str, commit: str, zig: str, subjects: Sequence[Path], bills: Sequence[Path]
) -> dict[str, object]:
    """Return an in-toto statement about `subjects`. It has no time, so that equal builds have an equal statement.

    Args:
        commit: of the checkout
        zig: the compiler for other architectures, as pip names it
        bills: the bills of materials among the subjects
    """
    described = [json.loads(path.read_text(encoding="utf-8")) for path in bills]
    dependencies = {json.dumps(source, sort_keys=True): source for bill in described for source in sources(bill)}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": path.name, "digest": {"sha256": digest(path)}} for path in subjects],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": f"{REPOSITORY}/blob/{version}/docs/releases.md#provenance",
                "externalParameters": {"repository": REPOSITORY, "ref": f"refs/tags/{version}"},
                "internalParameters": {
                    "programs": [bill["metadata"]["component"]["description"] for bill in described]
                },
                "resolvedDependencies": [
                    {"uri": f"git+{REPOSITORY}@refs/tags/{version}", "digest": {"gitCommit": commit}},
                    *dependencies.values(),
                    {"uri": f"pkg:pypi/{zig.replace('==', '@')}", "name": "zig"},
                ],
            },
            "runDetails": {"builder": {"id": f"{REPOSITORY}/blob/{version}/docs/releasing.md#release"}},
        },
    }


def write_statement(root: Path, version: str, archives: Sequence[Path], bills: Sequence[Path]) -> Path:
    """Write the provenance of the archives and the bills of materials, and return its path."""
    requirements = (root / "roles/dropbear/files/zig-requirements.txt").read_text(encoding="utf-8")
    zig = next(line.split()[0] for line in requirements.splitlines() if line.startswith("ziglang=="))
    commit = run("git", "rev-parse", "HEAD", cwd=root)
    statement = provenance(version, commit, zig, [*archives, *bills], bills)
    path = archives[0].with_name(f"ocihooks-ssh-{version}.intoto.json")
    path.write_text(json.dumps(statement, indent=2) + "\n", encoding="utf-8")
    return path


def sign(root: Path, directory: Path, key: Path) -> str:
    """Do what the module's docstring says, and return what ssh-keygen says of the signature. Raises: Refused."""
    version = find_version(root)
    archives = [directory / f"ocihooks-{kind}-{version}.tar.gz" for kind in ("ssh", "programs")]
    for archive in archives:
        if not archive.is_file():
            raise Refused(f"{archive} does not exist: docs/releasing.md says how it is made")
    bills = extract_sboms(archives[1], f"ocihooks-programs-{version}")
    files = [*archives, *bills, write_statement(root, version, archives, bills)]
    sums, signature = directory / SUMS, directory / SIGNATURE
    sums.write_text("".join(f"{digest(path)}  {path.name}\n" for path in sorted(files)), encoding="ascii")
    signature.unlink(missing_ok=True)
    # If the key is on a token, ssh-keygen asks for a touch, and only where its stderr is a terminal.
    run("ssh-keygen", "-Y", "sign", "-f", key.resolve(), "-n", NAMESPACE, sums.name, cwd=directory, on_terminal=True)
    verify: list[str | Path] = ["-Y", "verify", "-f", root.resolve() / SIGNERS, "-I", PRINCIPAL, "-n", NAMESPACE]
    try:
        return run("ssh-keygen", *verify, "-s", signature.name, cwd=directory, stdin=sums.read_bytes())
    except Refused as refusal:
        signature.unlink()
        raise Refused(f"{root / SIGNERS} does not know the key {key}: add it before the tag ({refusal})") from None


def main(arguments: Sequence[str]) -> int:
    """Sign the release; the exit status is 1 if it is refused, and 2 for wrong arguments."""
    if len(arguments) != 2:
        print("usage: python tools/sign.py DIRECTORY KEY", file=sys.stderr)
        return 2
    try:
        print(sign(ROOT, Path(arguments[0]), Path(arguments[1])))
    except Refused as refusal:
        print(f"sign: {refusal}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
