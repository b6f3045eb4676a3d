"""The bill of materials."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils._build import sbom, store
from build_jobs import LIBRARY, PACKED, job, kept, made, source
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def all_sources(**changes: object) -> dict[str, object]:
    return {
        "dropbear": source(patches={"01-a.patch": "text"}),
        "libsodium": {**LIBRARY, "archive": "libsodium-1.0.22.tar.gz"},
        "openssh": source(archive="openssh-10.3p1.tar.gz", sha256="3" * 64),
        "openssl": {**LIBRARY, "archive": "openssl-3.5.7.tar.gz", "sha256": "4" * 64},
        **changes,
    }


def bill_of(directory: Path, **changes: object) -> sbom.Sbom:
    """Return the bill of materials of programs that are in the store, each with its name as its content."""
    directory.mkdir(exist_ok=True)
    fields = job(directory, sources=all_sources(), **changes)
    for wanted in store.look(made(fields)):
        if wanted.digests is None:
            kept(directory, wanted, *PACKED[wanted.source])
    (bill,) = sbom.sboms(made(fields), store.look(made(fields)))
    return bill


def test_the_bill_of_materials_is_valid(tmp_path: Path) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    text = bill_of(tmp_path).text
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"SHA-256"', '"SHA-1000"')) is not None  # it does look


def test_the_bill_of_materials_names_what_the_programs_are_made_of(tmp_path: Path) -> None:
    bill = json.loads(bill_of(tmp_path).text)
    parts = {part["name"]: part for part in bill["components"]}
    assert {name: part.get("version") for name, part in parts.items()} == {
        "dropbear": "2026.94",
        "openssh": "10.3p1",
        "libsodium": "1.0.22",
        "openssl": "3.5.7",
        "libtomcrypt": None,  # what Dropbear brings depends on its version
        "libtommath": None,
        "musl": None,  # zig does not tell its version
    }
    assert parts["openssh"]["cpe"] == "cpe:2.3:a:openbsd:openssh:10.3:p1:*:*:*:*:*:*"
    assert parts["openssl"]["cpe"] == "cpe:2.3:a:openssl:openssl:3.5.7:*:*:*:*:*:*:*"
    assert parts["dropbear"]["purl"] == "pkg:generic/dropbear@2026.94"
    assert parts["openssl"]["externalReferences"][0]["hashes"] == [{"alg": "SHA-256", "content": "4" * 64}]
    assert [patch["diff"]["url"] for patch in parts["dropbear"]["pedigree"]["patches"]] == [
        "patches/dropbear/01-a.patch"
    ]
    notes = parts["dropbear"]["pedigree"]["notes"]
    assert f"a.h {hashlib.sha256(b'text').hexdigest()}" in notes
    assert [part["name"] for part in parts["openssh"]["components"]] == [
        "bin/scp",
        "bin/sftp",
        "bin/sftp-server",
        "bin/ssh",
    ]
    (multi,) = parts["dropbear"]["components"]
    assert multi["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"dropbearmulti").hexdigest()}]
    assert {entry["ref"]: entry.get("dependsOn") for entry in bill["dependencies"]} == {
        "programs": ["dropbear", "openssh"],
        "dropbear": ["libsodium", "libtomcrypt", "libtommath", "musl"],
        "openssh": ["openssl", "musl"],
        "libsodium": ["musl"],
        "openssl": ["musl"],
        "libtomcrypt": None,
        "libtommath": None,
        "musl": None,
    }


def test_equal_builds_have_an_equal_bill_of_materials(tmp_path: Path) -> None:
    one, two = bill_of(tmp_path / "one"), bill_of(tmp_path / "two")
    assert one.text == two.text
    other = bill_of(tmp_path / "one", architectures=["ppc64le"])
    assert json.loads(other.text)["serialNumber"] != json.loads(one.text)["serialNumber"]


def test_the_version_of_musl_is_that_of_its_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbom, "musl_version", {platform.machine(): "1.2.5"}.get)
    fields = job(tmp_path, native_compiler="musl-gcc", sources=all_sources())
    component = sbom.libc_component(made(fields), platform.machine())
    assert component["cpe"] == "cpe:2.3:a:musl-libc:musl:1.2.5:*:*:*:*:*:*:*"
    other = sbom.libc_component(made(fields), "riscv64" if platform.machine() != "riscv64" else "x86_64")
    assert (other.get("version"), other["description"]) == (None, "As ziglang==0 brings it")
