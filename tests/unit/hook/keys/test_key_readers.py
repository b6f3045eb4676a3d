"""The private key in OpenSSH's format, as other programs and libraries read it: fifty fresh keys each."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import paramiko
import pytest
from ssh_hook.keys import formats, store, writer

KEYS = 50
PARAMIKO = {"ecdsa": paramiko.ECDSAKey, "ed25519": paramiko.Ed25519Key}


@pytest.fixture(scope="module", params=writer.KEY_TYPES)
def keys(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Path, str]]]:
    """Files with fresh private keys of one type, and the public key of each, ``<type> <base64>``."""
    directory = tmp_path_factory.mktemp(request.param)
    found = []
    for number in range(KEYS):
        fresh = writer._new_set(request.param, "alice")
        path = directory / str(number)
        path.write_bytes(formats.openssh_private_key(fresh.id_dropbear, formats.key_comment("alice")))
        path.chmod(0o600)
        found.append((path, store.public_key(fresh)))
    yield found


def test_openssh_and_the_comment(keys: list[tuple[Path, str]]) -> None:
    for path, public in keys:
        output = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True).stdout
        assert output.rstrip("\n") == f"{public} alice@ocihooks"


def test_paramiko(keys: list[tuple[Path, str]]) -> None:
    read = []
    for path, _public in keys:
        key = PARAMIKO["ed25519" if "ed25519" in str(path) else "ecdsa"](filename=str(path))
        read.append(f"{key.get_name()} {key.get_base64()}")
    assert read == [public for _path, public in keys]


def test_asyncssh(keys: list[tuple[Path, str]]) -> None:
    read = [asyncssh.read_private_key(str(path)) for path, _public in keys]
    assert [key.export_public_key().decode().split()[:2] for key in read] == [public.split() for _path, public in keys]
    assert {key.get_comment() for key in read} == {"alice@ocihooks"}


def test_putty(keys: list[tuple[Path, str]]) -> None:
    read = []
    for path, _public in keys:
        command = ["puttygen", path, "-O", "public-openssh", "-o", "/dev/stdout"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        read.append(output.rstrip("\n"))
    assert read == [f"{public} alice@ocihooks" for _path, public in keys]


def test_libssh(keys: list[tuple[Path, str]]) -> None:
    library = ctypes.CDLL("libssh.so.4")
    library.ssh_key_type_to_char.restype = ctypes.c_char_p
    read = []
    for path, _public in keys:
        key, text = ctypes.c_void_p(), ctypes.c_char_p()
        assert library.ssh_pki_import_privkey_file(str(path).encode(), None, None, None, ctypes.byref(key)) == 0
        assert library.ssh_pki_export_pubkey_base64(key, ctypes.byref(text)) == 0
        read.append((text.value or b"").decode())
    assert read == [public.split()[1] for _path, public in keys]


def test_paramiko_knows_the_hosts(tmp_path: Path, keys: list[tuple[Path, str]]) -> None:
    path = tmp_path / "known_hosts"
    path.write_bytes(formats.known_hosts([keys[0][1]], ["[node1]:15263", "[fd00::1]:15263"]))
    known = paramiko.HostKeys(str(path))
    for host in ("[node1]:15263", "[fd00::1]:15263"):
        (key,) = (known.lookup(host) or {}).values()
        assert f"{key.get_name()} {key.get_base64()}" == keys[0][1]
    assert known.lookup("node1") is None


def test_the_hosts_are_known_by_all_of_their_keys(tmp_path: Path) -> None:
    public = store.host_public_keys(writer._new_set("ed25519", "alice"))
    assert len(public) == 2
    path = tmp_path / "known_hosts"
    path.write_bytes(formats.known_hosts(public, ["[node1]:15263"]))
    entries = paramiko.HostKeys(str(path)).lookup("[node1]:15263") or {}
    assert [f"{key.get_name()} {key.get_base64()}" for key in entries.values()] == public
    trusted = asyncssh.read_known_hosts(str(path)).match("node1", "", 15263)[0]
    assert [key.export_public_key().decode().split() for key in trusted] == [key.split() for key in public]
    for host in ("oci-hooks", "[node1]:15263"):
        found = subprocess.run(
            ["ssh-keygen", "-F", host, "-f", path], capture_output=True, text=True, check=True
        ).stdout
        assert [line.split(" ", 1)[1] for line in found.splitlines() if not line.startswith("#")] == public
