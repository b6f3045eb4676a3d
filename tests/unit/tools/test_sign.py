"""What tools/sign.py and the commands of docs/releases.md refuse, and what tools/repack.py makes equal.

`make release-test` runs all of them in full.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[3] / "tools"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(TOOLS))  # for what a tool imports of another
repack, sign, verify_sources = load("repack"), load("sign"), load("verify_sources")


def git(checkout: Path, *arguments: str) -> None:
    command = ["git", "-C", str(checkout), "-c", "user.name=a", "-c", "user.email=a@localhost", *arguments]
    subprocess.run(command, check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "galaxy.yml").write_text("name: ssh\nversion: 1.9.0\n", encoding="utf-8")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "release")
    return root


def test_a_commit_without_the_tag_is_refused(checkout: Path) -> None:
    with pytest.raises(sign.Refused, match=r"^the commit has no tag '1\.9\.0'"):
        sign.find_version(checkout)


def test_a_checkout_with_changes_is_refused(checkout: Path) -> None:
    git(checkout, "tag", "1.9.0")
    assert sign.find_version(checkout) == "1.9.0"
    (checkout / "more").write_text("", encoding="utf-8")
    with pytest.raises(sign.Refused, match=r"^the checkout has changes, or files that git does not know"):
        sign.find_version(checkout)


def test_a_release_without_its_archives_is_refused(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "tag", "1.9.0")
    with pytest.raises(sign.Refused, match=r"ocihooks-ssh-1\.9\.0\.tar\.gz does not exist"):
        sign.sign(checkout, tmp_path, tmp_path / "key")
    for kind in ("ssh", "programs"):
        with tarfile.open(tmp_path / f"ocihooks-{kind}-1.9.0.tar.gz", "w:gz"):
            pass
    with pytest.raises(sign.Refused, match="has no bill of materials"):
        sign.sign(checkout, tmp_path, tmp_path / "key")


def make_key(key: Path) -> Path:
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return key


def publish(directory: Path, key: Path, version: str) -> None:
    """Write a release, with empty archives, which the key signs."""
    directory.mkdir()
    make_key(key)
    names = [f"ocihooks-{kind}-{version}.tar.gz" for kind in ("programs", "ssh")]
    for name in names:
        (directory / name).write_bytes(b"")
    sums = directory / sign.SUMS
    sums.write_text("".join(f"{sign.digest(directory / name)}  {name}\n" for name in names), encoding="ascii")
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", sign.NAMESPACE, sums], check=True)


def signer(key: Path) -> str:
    return f'{sign.PRINCIPAL} namespaces="{sign.NAMESPACE}" {key.with_suffix(".pub").read_text(encoding="ascii")}'


def is_installed(release: Path, version: str) -> bool:
    """Run the commands of docs/releases.md in the directory of a release; tell whether they install an archive."""
    programs = release.parent / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "ansible-galaxy").write_text('#!/bin/sh\necho "$4" >../installed\n', encoding="ascii")
    (programs / "ansible-galaxy").chmod(0o755)
    text = (TOOLS.parent / "docs/releases.md").read_text(encoding="utf-8")
    block = re.search(r"```console\n(\$ archive=(?:.*\n)+?)```", text)
    assert block is not None
    shown = "\n".join(re.findall(r"^\$ (.*)$", block[1], re.MULTILINE))
    commands = re.sub(r"ocihooks-ssh-\d+\.\d+\.\d+", f"ocihooks-ssh-{version}", shown)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    installed = release.with_name("installed")
    installed.unlink(missing_ok=True)  # of a release before
    done = subprocess.run(["bash", "-eu", "-c", commands], cwd=release, env=environment, check=False)
    assert installed.exists() == (done.returncode == 0)
    return installed.exists() and installed.read_text(encoding="ascii") == f"./ocihooks-ssh-{version}.tar.gz\n"


def test_the_pages_commands_install_a_signed_release(tmp_path: Path) -> None:
    publish(tmp_path / "release", tmp_path / "key", "1.0.0")
    (tmp_path / "allowed_signers").write_text(signer(tmp_path / "key"), encoding="ascii")
    assert is_installed(tmp_path / "release", "1.0.0")


def test_the_pages_commands_refuse_the_signed_list_of_an_older_release(tmp_path: Path) -> None:
    """Of which an archive is there and right, while that of the version that is installed is in no list."""
    publish(tmp_path / "release", tmp_path / "key", "1.0.0")
    (tmp_path / "allowed_signers").write_text(signer(tmp_path / "key"), encoding="ascii")
    (tmp_path / "release" / "ocihooks-ssh-1.0.0.tar.gz").rename(tmp_path / "release" / "ocihooks-ssh-1.0.1.tar.gz")
    assert not is_installed(tmp_path / "release", "1.0.1")


def test_the_pages_commands_do_not_believe_the_releases_own_signers(tmp_path: Path) -> None:
    publish(tmp_path / "genuine", tmp_path / "key", "1.0.0")
    publish(tmp_path / "release", tmp_path / "other", "1.0.0")
    (tmp_path / "allowed_signers").write_text(signer(tmp_path / "key"), encoding="ascii")
    (tmp_path / "release" / "allowed_signers").write_text(signer(tmp_path / "other"), encoding="ascii")
    assert not is_installed(tmp_path / "release", "1.0.0")


@pytest.fixture
def release(checkout: Path, tmp_path: Path) -> Path:
    """The directory with the archives of release 1.9.0, whose tag is the commit of `checkout`.

    `allowed_signers` has a line for each of the keys `first` and `second`, in the tag and in a site's copy.
    """
    (checkout / "roles/dropbear/files").mkdir(parents=True)
    (checkout / "roles/dropbear/files/zig-requirements.txt").write_text("ziglang==1.0 \\\n", encoding="ascii")
    lines = "".join(signer(make_key(tmp_path / key)) for key in ("first", "second"))
    for directory in (checkout, tmp_path):
        (directory / sign.SIGNERS).write_text(lines, encoding="ascii")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "release 1.9.0")
    git(checkout, "tag", "1.9.0")
    directory = tmp_path / "release"
    directory.mkdir()
    bill = json.dumps({"metadata": {"component": {"description": "programs"}}, "components": []}).encode()
    for kind, name in (("ssh", "README.md"), ("programs", f"dropbear/x86_64/{sign.SBOM}")):
        with tarfile.open(directory / f"ocihooks-{kind}-1.9.0.tar.gz", "w:gz") as archive:
            member = tarfile.TarInfo(name)
            member.size = len(bill)
            archive.addfile(member, io.BytesIO(bill))
    return directory


def test_what_ssh_keygen_asks_for_reaches_the_terminal(
    checkout: Path, release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As "Confirm user presence" of a key on a token."""
    sign.sign(checkout, release, tmp_path / "first")
    assert "Signing file SHA256SUMS" in capfd.readouterr().err
    with pytest.raises(sign.Refused) as refused:
        sign.sign(checkout, release, tmp_path / "none")
    assert str(refused.value) == "ssh-keygen -Y failed: see above"
    assert f"{tmp_path / 'none'}: No such file or directory" in capfd.readouterr().err


def test_if_the_key_is_lost_the_second_one_signs_for_sites_with_an_older_list(
    checkout: Path, release: Path, tmp_path: Path
) -> None:
    """The release's own list has no line for the lost key, and one for a new second key."""
    lines = [signer(make_key(tmp_path / key)) for key in ("second", "third")]
    (checkout / sign.SIGNERS).write_text("".join(lines), encoding="ascii")
    git(checkout, "commit", "--quiet", "--all", "--message", "release 1.9.0 with other keys")
    git(checkout, "tag", "--force", "1.9.0")
    sign.sign(checkout, release, tmp_path / "second")
    assert is_installed(release, "1.9.0")
    with pytest.raises(sign.Refused, match="does not know the key"):
        sign.sign(checkout, release, tmp_path / "first")


def test_if_the_key_is_stolen_its_signatures_are_refused_and_older_releases_are_signed_again(
    checkout: Path, release: Path, tmp_path: Path
) -> None:
    sign.sign(checkout, release, tmp_path / "first")
    signed = (release / sign.SUMS).read_bytes()
    assert is_installed(release, "1.9.0")

    older_list = (tmp_path / sign.SIGNERS).read_text(encoding="ascii")
    (tmp_path / sign.SIGNERS).write_text(older_list.replace(signer(tmp_path / "first"), ""), encoding="ascii")
    assert not is_installed(release, "1.9.0")

    sign.sign(checkout, release, tmp_path / "second")
    assert (release / sign.SUMS).read_bytes() == signed
    assert is_installed(release, "1.9.0")
    (tmp_path / sign.SIGNERS).write_text(older_list, encoding="ascii")  # a site that does not know of the theft yet
    assert is_installed(release, "1.9.0")


def test_a_key_newer_than_the_tag_signs_with_the_command_of_the_page(
    checkout: Path, release: Path, tmp_path: Path
) -> None:
    third = make_key(tmp_path / "third")
    with pytest.raises(sign.Refused, match="does not know the key"):
        sign.sign(checkout, release, third)
    text = (TOOLS.parent / "docs/releasing.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ssh-keygen -Y sign .*$", text, re.MULTILINE)
    words = command.replace("DIRECTORY", str(release)).replace("SECOND_KEY", str(third)).split()
    subprocess.run(words, check=True)
    (tmp_path / sign.SIGNERS).write_text(signer(third), encoding="ascii")
    assert is_installed(release, "1.9.0")


def write_archive(path: Path, names: list[str], mtime: int) -> Path:
    """Write an archive as ansible-galaxy does, of files that it finds in this order at that time."""
    files = json.dumps({"files": [{"name": name} for name in names], "format": 1}).encode()
    manifest = json.dumps({"file_manifest_file": {"name": "FILES.json", "chksum_sha256": "0"}}).encode()
    with tarfile.open(path, "w:gz") as archive:
        for name in [repack.FILES, repack.MANIFEST, *names]:
            data = {repack.FILES: files, repack.MANIFEST: manifest}.get(name, name.encode())
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), mtime
            archive.addfile(member, io.BytesIO(data))
    return path


def test_archives_of_equal_files_are_equal(tmp_path: Path) -> None:
    one, other = write_archive(tmp_path / "one", ["b", "a"], 1), write_archive(tmp_path / "other", ["a", "b"], 2)
    for path in (one, other):
        repack.repack(path, 5)
    assert one.read_bytes() == other.read_bytes()
    with tarfile.open(one) as archive:
        assert [(member.name, member.mtime) for member in archive] == [
            (name, 5) for name in ("FILES.json", "MANIFEST.json", "a", "b")
        ]


def test_a_pinned_source_with_another_digest_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "dropbear-1.0.tar.bz2"
    with pytest.raises(verify_sources.BumpError, match="does not exist: put the release archive there"):
        verify_sources.verified("dropbear", "1.0", "0" * 64, tmp_path)
    archive.write_bytes(b"")
    with pytest.raises(verify_sources.BumpError, match=r"and the role pins 0{64}: refused"):
        verify_sources.verified("dropbear", "1.0", "0" * 64, tmp_path)


def test_a_pinned_source_with_a_wrong_signature_is_refused(tmp_path: Path) -> None:
    archive, kept = tmp_path / "dropbear-1.0.tar.bz2", tmp_path / "tools" / "sources"
    archive.write_bytes(b"")
    kept.mkdir(parents=True)
    digest = verify_sources.sha256(archive)
    assert "no signature" in verify_sources.verified("dropbear", "1.0", digest, tmp_path, tmp_path)
    signature = TOOLS / "sources" / "dropbear-2026.94.tar.bz2.asc"
    (kept / f"{archive.name}.asc").write_bytes(signature.read_bytes())
    with pytest.raises(verify_sources.BumpError, match="is no valid signature of"):
        verify_sources.verified("dropbear", "1.0", digest, tmp_path, tmp_path)


def test_the_signatures_that_are_kept_are_those_of_pinned_versions() -> None:
    versions = {f"{name}-{version}" for name, version, _digest in verify_sources.pins(TOOLS.parent)}
    kept = {path.name.partition(".tar.")[0] for path in (TOOLS / "sources").glob("*.asc")}
    assert kept
    assert kept <= versions
