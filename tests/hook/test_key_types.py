"""Sessions with key sets of every mixture of types: as the hook makes them, as Sarus does, and with one host key."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cable import address, near_address, plug
from containers import ALICE, LAUNCHER, PORT, SETTINGS, Container, Result, as_user, keys, run
from programs import with_openssh
from starter import Start, Starter

BINARIES = Path(SETTINGS["DROPBEAR_DIR"]) / "bin"
HOME = Path("/home/alice")
BASE = "/opt/oci-hooks/ssh"
SSH = ("ssh",)  # the hook's
IMAGES_SSH = (
    f"{BASE}/bin/ssh.image",
    *("-F", "none", "-p", str(PORT), "-i", f"{BASE}/id_openssh"),
    *("-o", f"UserKnownHostsFile={BASE}/known_hosts", "-o", "HostKeyAlias=oci-hooks"),
    *("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"),
)
KINDS = {"ed25519": "ssh-ed25519", "ecdsa": "ecdsa-sha2-nistp256"}


class Set(NamedTuple):
    """Types of the keys of a set; of host keys the preferred one first."""

    private: str
    host: tuple[str, ...]

    def files(self) -> list[str]:
        return [f"dropbear_{key_type}_host_key" for key_type in self.host]


NEW = Set("ed25519", ("ed25519", "ecdsa"))
SARUS = Set("ecdsa", ("ecdsa",))
SETS = {
    "new": NEW,
    "as-sarus": SARUS,
    "without-ecdsa": Set("ed25519", ("ed25519",)),  # as the key type Ed25519 meant it before
    "without-ed25519-host-key": Set("ed25519", ("ecdsa",)),
    "ecdsa-login": Set("ecdsa", ("ed25519", "ecdsa")),
}


def public_key(path: Path) -> str:
    """``<type> <base64>``, by Dropbear's own program."""
    said = run([BINARIES / "dropbearkey", "-y", "-f", path]).checked().text
    return " ".join(next(line for line in said.splitlines() if line.startswith(("ssh-", "ecdsa-"))).split()[:2])


def files() -> dict[str, tuple[bytes, int, int]]:
    """What changes when a file of alice's set is written or replaced."""
    found = [(path, path.stat()) for path in keys().iterdir()]
    return {path.name: (path.read_bytes(), status.st_ino, status.st_mtime_ns) for path, status in found}


def make(wanted: Set) -> None:
    """Give alice a set that Dropbear's own program makes."""
    shutil.rmtree(keys(), ignore_errors=True)
    keys().mkdir(mode=0o700)
    for name, key_type in [("id_dropbear", wanted.private), *zip(wanted.files(), wanted.host)]:
        run([BINARIES / "dropbearkey", "-t", key_type, "-f", keys() / name]).checked()
        (keys() / f"{name}.pub").unlink(missing_ok=True)
    (keys() / "authorized_keys").write_text(f"{public_key(keys() / 'id_dropbear')}\n", encoding="ascii")
    for path in (keys(), *keys().iterdir()):
        os.chown(path, ALICE, ALICE)
        path.chmod(0o700 if path.is_dir() else 0o600)


@pytest.fixture(scope="module", autouse=True)
def own_set() -> Iterator[None]:
    """Alice has her own set again at the end."""
    aside = HOME / "keys.aside"
    keys().rename(aside)
    yield
    shutil.rmtree(keys(), ignore_errors=True)
    aside.rename(keys())


def keygen(**settings: str) -> str:
    variables = [f"{name}={value}" for name, value in settings.items()]
    return run(as_user(ALICE, "env", *variables, LAUNCHER, "keygen")).checked().text


@pytest.mark.parametrize("left", SETS["new"].host)
def test_a_container_with_one_host_key_of_the_set(start: Start, left: str) -> None:
    """As on a node with Sarus's hook, or an older version of this one: containers with the whole set know its key."""
    make(NEW)
    near = start("crun", "debian", prepare=with_openssh)
    for name in set(NEW.files()) - {f"dropbear_{left}_host_key"}:
        (keys() / name).unlink()
    far = start("crun", "busybox", network="private")
    plug(far.init(), 0)
    for ssh in (SSH, IMAGES_SSH):
        assert near.exec(*ssh, address(0), "echo in").checked().text == "in"


@pytest.mark.parametrize("name", SETS)
def test_keygen_keeps_a_set(name: str) -> None:
    make(SETS[name])
    before = files()
    for settings in ({}, {"SSH_KEY_TYPE": "ed25519"}, {"SSH_KEY_TYPE": "ecdsa"}):
        assert keygen(**settings).startswith("alice already has SSH keys in ")
        assert files() == before


@pytest.mark.parametrize(("key_type", "made"), [("", NEW), ("ed25519", NEW), ("ecdsa", SARUS)])
def test_keygen(key_type: str, made: Set) -> None:
    shutil.rmtree(keys())
    assert f": {KINDS[made.private]} SHA256:" in keygen(**({"SSH_KEY_TYPE": key_type} if key_type else {}))
    assert {path.name for path in keys().iterdir()} == {"id_dropbear", "authorized_keys", *made.files()}
    for name, kind in [("id_dropbear", made.private), *zip(made.files(), made.host)]:
        assert public_key(keys() / name).split()[0] == KINDS[kind]


# Two containers with one set: last, since they run until the module's end


class Pair(NamedTuple):
    """Two containers with one set."""

    keys: Set
    near: Container  # an image without a client; in the bed's network
    far: Container  # an image with OpenSSH's client


@pytest.fixture(scope="module", params=SETS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    make(SETS[request.param])
    before = files()
    starter = Starter()
    near = starter("crun", "busybox")
    far = starter("crun", "debian", network="private", prepare=with_openssh)
    plug(far.init(), 0)
    yield Pair(SETS[request.param], near, far)
    starter.remove_all()
    assert files() == before


def test_logins(pair: Pair) -> None:
    """Each to the other and to itself, by the hook's client and by the image's."""
    for container, host, ssh in (
        (pair.near, address(0), SSH),
        (pair.far, near_address(0), SSH),
        (pair.far, near_address(0), IMAGES_SSH),
        (pair.near, "127.0.0.1", SSH),
        (pair.far, "127.0.0.1", SSH),
        (pair.far, "127.0.0.1", IMAGES_SSH),
    ):
        result = container.exec(*ssh, host, "cat; exit 3", stdin=b"\0\xff")
        assert (result.status, result.out, result.err) == (3, b"\0\xff", b""), (host, ssh)


def test_the_files_in_the_container(pair: Pair) -> None:
    for container in (pair.near, pair.far):
        ssh, dropbear = (container.path(path) for path in (f"{HOME}/.ssh", f"{BASE}/dropbear"))
        assert {path.name for path in ssh.iterdir()} == {"id_dropbear", "authorized_keys", *pair.keys.files()}
        assert sorted(path.name for path in dropbear.glob("*_host_key")) == sorted(pair.keys.files())
        for name in pair.keys.files():
            assert (ssh / name).read_bytes() == (dropbear / name).read_bytes() == (keys() / name).read_bytes()
            assert {path.stat().st_mode & 0o777 for path in (ssh / name, dropbear / name)} == {0o600}
        public = [public_key(keys() / name) for name in pair.keys.files()]
        assert [line.split()[0] for line in public] == [KINDS[key_type] for key_type in pair.keys.host]
        known = container.path(f"{BASE}/known_hosts").read_text(encoding="ascii")
        assert known == "".join(f"{name} {line}\n" for name in ("oci-hooks", f"[*]:{PORT}") for line in public)
        command = Path(f"/proc/{container.daemon()}/cmdline").read_bytes().split(b"\0")
        given = [after.decode() for option, after in zip(command, command[1:]) if option == b"-r"]
        assert given == [f"../../dropbear/{name}" for name in pair.keys.files()]
    public_line = run(["ssh-keygen", "-y", "-f", pair.far.path(f"{BASE}/id_openssh")]).checked().text
    assert public_line == f"{public_key(keys() / 'id_dropbear')} alice@ocihooks"


def test_client_config(pair: Pair) -> None:
    """OpenSSH outside of containers takes the preferred host key, and the others where it is told so."""
    run(as_user(ALICE, LAUNCHER, "client-config", address(0))).checked()
    client = HOME / ".oci-hooks/ssh/client"
    try:
        for option, expected in [((), pair.keys.host[0])] + [
            (("-o", f"HostKeyAlgorithms={KINDS[key_type]}"), key_type) for key_type in pair.keys.host
        ]:
            result = nodes_ssh(client / "config", "-v", *option)
            assert result.checked().text == "in"
            fingerprint = run([BINARIES / "dropbearkey", "-y", "-f", keys() / f"dropbear_{expected}_host_key"]).text
            said = next(line for line in result.err.decode().splitlines() if "Server host key:" in line).split()
            assert said[-2] == KINDS[expected]
            assert said[-1].strip() in fingerprint
    finally:
        shutil.rmtree(client)


def nodes_ssh(config: Path, *options: str) -> Result:
    return run(as_user(ALICE, "ssh", "-F", str(config), *options, f"container-{address(0)}", "echo in"))
