from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[3]


def load() -> Any:
    spec = importlib.util.spec_from_file_location("bump", ROOT / "tools" / "bump.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bump"] = module
    spec.loader.exec_module(module)
    return module


bump = load()


class Signer(NamedTuple):
    """Who signs releases in these tests."""

    home: Path
    fingerprint: str
    key: bytes

    def sign(self, archive: Path, *options: str) -> Path:
        signature = archive.with_name(f"{archive.name}.asc")
        signature.unlink(missing_ok=True)
        self.gpg(*options, "--armor", "--detach-sign", "--output", str(signature), str(archive))
        return signature

    def gpg(self, *arguments: str) -> bytes:
        command = ["gpg", "--batch", "--quiet", "--homedir", str(self.home), "--passphrase", "", *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout


def make_signer(home: Path, name: str, expiry: str = "never", options: tuple[str, ...] = ()) -> Signer:
    home.mkdir(mode=0o700)
    signer = Signer(home, "", b"")
    signer.gpg("--pinentry-mode", "loopback", *options, "--quick-generate-key", name, "ed25519", "sign", expiry)
    listing = signer.gpg("--with-colons", "--list-keys").decode()
    found = re.search(r"^fpr:+([0-9A-F]{40}):", listing, flags=re.MULTILINE)
    assert found is not None
    return Signer(home, found[1], signer.gpg("--armor", "--export"))


@pytest.fixture(scope="module")
def signers() -> Iterator[tuple[Signer, Signer]]:
    """Upstream, and somebody else."""
    # Not below pytest's own directory: the path of the agent's socket must be short.
    with tempfile.TemporaryDirectory() as directory:
        homes = Path(directory, "a"), Path(directory, "b")
        yield make_signer(homes[0], "Upstream"), make_signer(homes[1], "Another")
        for home in homes:
            subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


class Checkout(NamedTuple):
    root: Path
    keys: Path
    archive: Path

    def texts(self) -> list[str]:
        """Defaults, argument specs and variables of the role."""
        names = ("defaults/main.yml", "meta/argument_specs.yml", "vars/main.yml")
        return [(self.root / "roles/dropbear" / name).read_text() for name in names]


@pytest.fixture
def checkout(tmp_path: Path, signers: tuple[Signer, Signer], monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """The role's files, a release archive, upstream's key, and the signatures of the versions before."""
    root = tmp_path / "checkout"
    (root / "tools" / "sources").mkdir(parents=True)
    for name in ("defaults", "meta", "vars"):
        shutil.copytree(ROOT / "roles/dropbear" / name, root / "roles/dropbear" / name)
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in bump.SOURCES:
        (keys / f"{name}.asc").write_bytes(signers[0].key)
        if bump.SOURCES[name].fingerprints:
            changed = bump.dataclasses.replace(bump.SOURCES[name], fingerprints=(signers[0].fingerprint,))
            monkeypatch.setitem(bump.SOURCES, name, changed)
    archive = tmp_path / "release.tar.gz"
    archive.write_bytes(b"the release")
    return Checkout(root, keys, archive)


def run(checkout: Checkout, *arguments: str | Path) -> None:
    parser_input = [str(argument) for argument in arguments]
    bump.bump(bump.arguments(parser_input), checkout.root, checkout.keys)


@pytest.mark.parametrize(
    ("name", "version", "line"),
    [
        ("openssh", "10.6p1", "dropbear_openssh_version: 10.6p1"),
        ("openssl", "3.5.9", "dropbear_openssl_version: 3.5.9"),
        ("dropbear", "2026.95", 'dropbear_version: "2026.95"'),  # a number without the quotes
    ],
)
def test_a_signed_release_is_taken(
    checkout: Checkout,
    signers: tuple[Signer, Signer],
    capsys: pytest.CaptureFixture[str],
    name: str,
    version: str,
    line: str,
) -> None:
    (checkout.root / "tools" / "sources" / f"{name}-0.9.tar.gz.asc").write_text("The signature of the version before.")
    run(checkout, name, version, "--archive", checkout.archive, "--signature", signers[0].sign(checkout.archive))
    digest = bump.sha256(checkout.archive)
    defaults, specs, variables = checkout.texts()
    assert line in defaults.splitlines()
    assert f'  {name}:\n    "{version}": {digest}\n' in variables
    assert f'default: "{version}"' in specs
    assert f"V({version})" in specs
    changed = sum(
        len(set(new.splitlines()) - set(old.splitlines()))
        for new, old in zip(checkout.texts(), checkout._replace(root=ROOT).texts())
    )
    assert changed == 4
    said = capsys.readouterr().out
    assert f"release.tar.gz: signed by {signers[0].fingerprint}\n" in said
    assert f" -> {version}, sha256 {digest}\n" in said
    (kept,) = (checkout.root / "tools" / "sources").iterdir()
    assert kept.name.startswith(f"{name}-{version}.tar.")
    assert kept.read_bytes() == checkout.archive.with_name("release.tar.gz.asc").read_bytes()


def refused(checkout: Checkout, *arguments: str | Path) -> str:
    """Return why; nothing must have changed."""
    before = checkout.texts()
    with pytest.raises(bump.BumpError) as refusal:
        run(checkout, *arguments)
    assert checkout.texts() == before
    return str(refusal.value)


def test_a_changed_archive_is_refused(checkout: Checkout, signers: tuple[Signer, Signer]) -> None:
    signature = signers[0].sign(checkout.archive)
    checkout.archive.write_bytes(b"the release, and more")
    words = refused(checkout, "openssl", "3.5.9", "--archive", checkout.archive, "--signature", signature)
    assert words == f"{signature} is no valid signature of {checkout.archive}: refused"


def test_the_signature_of_an_unknown_key_is_refused(checkout: Checkout, signers: tuple[Signer, Signer]) -> None:
    signature = signers[1].sign(checkout.archive)
    words = refused(checkout, "openssl", "3.5.9", "--archive", checkout.archive, "--signature", signature)
    assert f": no key {signers[1].fingerprint[-16:]} in {checkout.keys}/openssl.asc: refused" in words


def test_a_key_that_is_not_pinned_is_refused(checkout: Checkout, signers: tuple[Signer, Signer]) -> None:
    """Also if somebody put it into the directory of keys."""
    (checkout.keys / "openssl.asc").write_bytes(signers[0].key + signers[1].key)
    signature = signers[1].sign(checkout.archive)
    words = refused(checkout, "openssl", "3.5.9", "--archive", checkout.archive, "--signature", signature)
    assert f"is signed by {signers[1].fingerprint}, which is not one of {signers[0].fingerprint}: refused" in words


def test_a_key_that_has_expired_counts_for_what_it_signed_before(tmp_path: Path) -> None:
    archive, key = tmp_path / "release", tmp_path / "key"
    archive.write_bytes(b"the release")
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory, "a")
        signer = make_signer(home, "Upstream", "1y", ("--faked-system-time", "20200101T000000"))
        key.write_bytes(signer.key)
        # That time goes on: on a busy machine the key is made some seconds later.
        signature = signer.sign(archive, "--faked-system-time", "20200102T000000")
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    assert bump.verify(archive, signature, key, [signer.fingerprint]) == signer.fingerprint


def test_no_signature_is_refused(checkout: Checkout) -> None:
    (checkout.keys / "junk").write_text("junk")
    arguments = ("openssl", "3.5.9", "--archive", checkout.archive, "--signature", checkout.keys / "junk")
    assert "is no valid signature" in refused(checkout, *arguments)
    (checkout.keys / "openssl.asc").unlink()
    assert "add the key of whoever signs" in refused(checkout, *arguments)


def test_a_source_without_signatures_needs_a_digest(checkout: Checkout) -> None:
    archive = ("--archive", checkout.archive)
    assert "libsodium has no signature" in refused(checkout, "libsodium", "1.0.23", *archive)
    assert "not 000" in refused(checkout, "libsodium", "1.0.23", *archive, "--sha256", "0" * 64)
    run(checkout, "libsodium", "1.0.23", *archive, "--sha256", bump.sha256(checkout.archive))
    assert "dropbear_libsodium_version: 1.0.23" in checkout.texts()[0]


def test_what_is_no_version_is_refused(checkout: Checkout) -> None:
    assert "is not a version" in refused(checkout, "openssl", "3.5.9/../x", "--archive", checkout.archive)


def test_the_keys_in_the_repository_are_those_that_are_pinned(tmp_path: Path) -> None:
    fresh = load()
    for name, source in fresh.SOURCES.items():
        key = ROOT / "tools" / "keys" / f"{name}.asc"
        assert key.is_file() == bool(source.fingerprints)
        if source.fingerprints:
            listing = fresh.gpg(tmp_path, "--with-colons", "--show-keys", key).stdout
            assert set(source.fingerprints) <= set(re.findall(r"^fpr:+([0-9A-F]{40}):", listing, flags=re.MULTILINE))
