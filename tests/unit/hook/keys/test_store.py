from __future__ import annotations

import base64
import fcntl
import functools
import hashlib
import os
import posix
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from ssh_hook import fast_stdlib
from ssh_hook.keys import formats, store, writer
from ssh_hook.keys.errors import KeyStoreError, MissingKeysError, MissingLibraryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST_KEYS = ["dropbear_ed25519_host_key", "dropbear_ecdsa_host_key"]
NEW = {"ecdsa": HOST_KEYS[1:], "ed25519": HOST_KEYS}  # the host keys of a new set
OTHERS = {"id_dropbear", "authorized_keys"}


@pytest.fixture
def directory(tmp_path: Path) -> str:
    """Return the key directory of a user who has a home and nothing in it."""
    (tmp_path / "alice").mkdir(mode=0o755)
    return store.key_directory(str(tmp_path), "alice")


@pytest.fixture
def keys(directory: str) -> Path:
    """Return the key directory of a user who has a set of keys."""
    writer.generate(directory, "alice")
    return Path(directory)


@pytest.fixture(params=["exchange", "two renames"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Replace sets as a file system does that can exchange names, and as one does that cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(writer, "_exchange", lambda *_arguments: False)
    return str(request.param)


def exists(directory: str) -> bool:
    """Tell whether there is a set; raises KeyStoreError where there is a bad one."""
    try:
        store.load(directory, "")
    except MissingKeysError:
        return False
    return True


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def mpint(number: int) -> bytes:
    return string(number.to_bytes((number.bit_length() + 8) // 8, "big"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def entries(keys: Path) -> set[str]:
    return {path.name for path in keys.parent.iterdir()}


def is_consistent(loaded: store.KeySet) -> bool:
    return loaded.authorized_keys.startswith(store.public_key(loaded).encode() + b" ") and bool(loaded.host_keys)


# The directory's name


def test_the_directory_is_where_the_peer_has_it() -> None:
    assert store.key_directory("/home", "alice") == "/home/alice/.oci-hooks/ssh/keys"
    assert store.key_directory("/", "alice") == "/alice/.oci-hooks/ssh/keys"
    assert store.key_directory("/x/y/", "DOM\\a b") == "/x/y/DOM\\a b/.oci-hooks/ssh/keys"


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "../root", "a\0", "a\nb", "\x7f", "\ud800"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(KeyStoreError, match="cannot be the name of a user"):
        store.key_directory("/home", name)


@pytest.mark.parametrize("base", ["", "home", "./home", "/ho\nme", "/ho\0me"])
def test_a_base_that_is_no_absolute_path_is_refused(base: str) -> None:
    with pytest.raises(KeyStoreError, match="absolute path"):
        store.key_directory(base, "alice")


@given(st.text(max_size=12))
def test_a_name_is_refused_or_stays_one_component(name: str) -> None:
    try:
        directory = store.key_directory("/home", name)
    except KeyStoreError as error:
        message = str(error)
    else:
        message = ""
        assert directory.split("/") == ["", "home", name, ".oci-hooks", "ssh", "keys"]
        assert os.path.normpath(directory) == directory
    assert "\n" not in message


@pytest.mark.parametrize("directory", ["", "/", "/tmp/keys", ".oci-hooks/ssh/keys", "x/.oci-hooks/ssh/keys"])
def test_any_other_directory_is_refused(directory: str) -> None:
    for call in (exists, writer.remove, lambda path: writer.generate(path, "alice")):
        with pytest.raises(KeyStoreError, match="must end in"):
            call(directory)


# Making sets


@pytest.mark.parametrize("key_type", writer.KEY_TYPES)
def test_a_new_set(directory: str, key_type: str) -> None:
    old_mask = os.umask(0)  # as crun starts hooks
    try:
        made, new = writer.generate(directory, "alice", key_type)
        assert os.umask(0) == 0
    finally:
        os.umask(old_mask)
    assert made
    assert list(new.host_keys) == NEW[key_type] == writer.host_key_names(key_type)
    keys = Path(directory)
    assert {path.name for path in keys.iterdir()} == {*OTHERS, *NEW[key_type]}
    assert {mode(path) for path in keys.iterdir()} == {0o600}
    assert {mode(path) for path in (keys, keys.parent, keys.parent.parent)} == {0o700}
    assert mode(keys.parents[2]) == 0o755, "the user's own directory stays as it is"
    assert entries(keys) == {"keys", "keygen.lock"}
    loaded = store.load(directory, "alice")
    for name in store.KeySet.__slots__:
        assert getattr(loaded, name) == getattr(new, name)
    assert exists(directory)
    assert len({loaded.id_dropbear, *loaded.host_keys.values()}) == 1 + len(NEW[key_type])


def kinds(keys: store.KeySet) -> list[str]:
    return [public.split()[0] for public in (store.public_key(keys), *store.host_public_keys(keys))]


def test_the_types_of_a_new_set(directory: str) -> None:
    _made, keys = writer.generate(directory, "alice")
    assert kinds(keys) == ["ssh-ed25519", "ssh-ed25519", "ecdsa-sha2-nistp256"]
    _made, keys = writer.generate(directory, "alice", "ecdsa", overwrite=True)
    assert kinds(keys) == ["ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"], "what the peer makes"


def test_the_peer_finds_the_files_that_it_looks_for_in_a_new_set(keys: Path) -> None:
    assert {path.name for path in keys.iterdir()} > {"dropbear_ecdsa_host_key", "id_dropbear", "authorized_keys"}
    host_key = (keys / "dropbear_ecdsa_host_key").read_bytes()
    assert formats.check_private_key(host_key, "") == b"ecdsa-sha2-nistp256"


def test_a_strict_umask_does_no_harm(directory: str) -> None:
    old_mask = os.umask(0o777)
    try:
        made, _keys = writer.generate(directory, "alice")
    finally:
        os.umask(old_mask)
    assert made
    assert mode(Path(directory)) == 0o700


@pytest.mark.parametrize("key_type", writer.KEY_TYPES)
def test_public_key_and_fingerprint_are_those_that_cryptography_gives(directory: str, key_type: str) -> None:
    _made, keys = writer.generate(directory, "alice", key_type)
    if key_type == "ecdsa":
        secret = int.from_bytes(keys.id_dropbear[-32:], "big")
        key: Any = ec.derive_private_key(secret, ec.SECP256R1())
    else:
        key = ed25519.Ed25519PrivateKey.from_private_bytes(keys.id_dropbear[-64:-32])
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert store.public_key(keys).encode() == line
    assert keys.authorized_keys == line + b" alice@ocihooks\n"
    digest = base64.b64encode(hashlib.sha256(base64.b64decode(line.split()[1])).digest()).decode()
    assert store.fingerprint(keys) == "SHA256:" + digest.rstrip("=")


@pytest.mark.parametrize(
    ("secret", "tail"),
    [
        (1, "0000000101"),
        (0x7F, "000000017f"),
        (0x80, "000000020080"),
        (2**247, "000000200080" + 30 * "00"),
        (2**248 - 1, "0000002000" + 31 * "ff"),
        (2**254, "0000002040" + 31 * "00"),
        (2**255, "000000210080" + 31 * "00"),
    ],
)
def test_a_secret_number_is_as_short_as_can_be_and_positive(
    directory: str, monkeypatch: pytest.MonkeyPatch, secret: int, tail: str
) -> None:
    key = ec.derive_private_key(secret, ec.SECP256R1())
    monkeypatch.setattr(ec, "generate_private_key", lambda _curve: key)
    _made, keys = writer.generate(directory, "alice", "ecdsa")
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    head = string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(point)
    assert keys.id_dropbear == head + bytes.fromhex(tail)
    assert exists(directory)


def test_an_unknown_type_of_key_is_refused(directory: str) -> None:
    with pytest.raises(KeyStoreError, match="one of ed25519, ecdsa, not 'rsa'"):
        writer.generate(directory, "alice", "rsa")
    assert not os.path.exists(os.path.dirname(directory))


def test_a_missing_library_leaves_no_trace(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> bytes:
        raise ImportError("No module named 'cryptography'")

    monkeypatch.setattr(writer, "_new_ecdsa", make)
    for key_type in writer.KEY_TYPES:
        with pytest.raises(MissingLibraryError, match="cryptography"):
            writer.generate(directory, "alice", key_type)
    assert os.listdir(os.path.dirname(os.path.dirname(os.path.dirname(directory)))) == []


def test_a_type_that_cryptography_refuses_is_told_with_the_other(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate() -> None:
        raise UnsupportedAlgorithm("ed25519 is not supported by this version of OpenSSL.")  # with FIPS

    monkeypatch.setattr(ed25519.Ed25519PrivateKey, "generate", generate)
    with pytest.raises(
        KeyStoreError, match=r"cannot create keys of type ed25519 on this host, .* FIPS mode: choose ecdsa"
    ):
        writer.generate(directory, "alice")
    assert os.listdir(os.path.dirname(os.path.dirname(os.path.dirname(directory)))) == []
    assert writer.generate(directory, "alice", "ecdsa")[0]


def test_after_the_warm_up_keys_take_no_module_more_and_are_all_different() -> None:
    program = """
import binascii, os, sys
sys.path.insert(0, sys.argv[1])
from ssh_hook.keys import writer
writer.warm_up()
before = set(sys.modules)
for number in range(20):
    if os.fork() == 0:
        fresh = writer._new_set("ed25519", "alice")
        for key in (fresh.id_dropbear, *fresh.host_keys.values()):
            os.write(1, key.hex().encode() + b"\\n")
        os.write(2, " ".join(set(sys.modules) - before).encode())
        os._exit(0)
    os.wait()
"""
    hook = str(Path(store.__file__).parents[2])
    output = subprocess.run([sys.executable, "-c", program, hook], capture_output=True, text=True, check=True)
    assert len(set(output.stdout.split())) == 3 * 20
    assert output.stderr == ""


def test_a_warm_up_without_ed25519_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_data: bytes) -> None:
        raise UnsupportedAlgorithm("ed25519 is not supported by this version of OpenSSL.")

    monkeypatch.setattr(ed25519.Ed25519PrivateKey, "from_private_bytes", refuse)
    writer.warm_up()


class OldKey:
    """A private key of cryptography before version 40."""

    def __init__(self, key: ed25519.Ed25519PrivateKey) -> None:
        self.private_bytes = key.private_bytes
        self.public_key = key.public_key


def test_an_old_cryptography_makes_the_same(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    monkeypatch.setattr(ed25519.Ed25519PrivateKey, "generate", lambda: key)
    new = writer._new_ed25519()
    monkeypatch.setattr(ed25519.Ed25519PrivateKey, "generate", lambda: OldKey(key))
    assert writer._new_ed25519() == new
    assert formats.check_private_key(new, "") == b"ssh-ed25519"


# A set that is there


def identities(keys: Path) -> dict[str, tuple[bytes, int, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in keys.iterdir()}


@pytest.mark.parametrize(
    ("old", "host_keys"),
    [("ecdsa", HOST_KEYS[1:]), ("ed25519", HOST_KEYS), ("ed25519", HOST_KEYS[:1]), ("ed25519", HOST_KEYS[1:])],
)
@pytest.mark.parametrize("new", writer.KEY_TYPES)
def test_a_set_is_kept(directory: str, old: str, host_keys: list[str], new: str) -> None:
    """Of any type, and with one host key alone: nothing is added, since running containers use the set."""
    writer.generate(directory, "alice", old)
    keys = Path(directory)
    for name in set(NEW[old]) - set(host_keys):
        (keys / name).unlink()
    before = identities(keys)
    made, _keys = writer.generate(directory, "alice", new)
    assert not made
    assert identities(keys) == before


@pytest.mark.parametrize("private", writer.KEY_TYPES)
@pytest.mark.parametrize("host_keys", [HOST_KEYS, HOST_KEYS[:1], HOST_KEYS[1:]])
def test_any_mixture_of_types_is_a_set(keys: Path, private: str, host_keys: list[str]) -> None:
    for name in set(HOST_KEYS) - set(host_keys):
        (keys / name).unlink()
    _write_private_key(keys, p256_file() if private == "ecdsa" else new_ed25519_file())
    loaded = store.load(str(keys), "alice")
    assert list(loaded.host_keys) == host_keys
    assert loaded.host_keys == {name: (keys / name).read_bytes() for name in host_keys}
    known = formats.known_hosts(store.host_public_keys(loaded), ["node1"]).decode().splitlines()
    assert [line.split()[0] for line in known] == ["oci-hooks"] * len(host_keys) + ["node1"] * len(host_keys)
    for line, name in zip(known, host_keys * 2):
        kind, encoded = line.split()[1:]
        assert kind == {HOST_KEYS[0]: "ssh-ed25519", HOST_KEYS[1]: "ecdsa-sha2-nistp256"}[name]
        assert base64.b64decode(encoded) == formats.public_blob((keys / name).read_bytes())
    assert is_consistent(loaded)


def _write_private_key(keys: Path, data: bytes) -> None:
    (keys / "id_dropbear").write_bytes(data)
    (keys / "authorized_keys").write_text(formats.public_line(formats.public_blob(data)) + " alice\n")


@pytest.mark.parametrize("key_type", writer.KEY_TYPES)
def test_overwrite_replaces_the_whole_set(keys: Path, swap: str, key_type: str) -> None:
    old = store.load(str(keys), "alice")
    (keys / "id_dropbear.pub").write_text("what a newer dropbearkey leaves")
    made, new = writer.generate(str(keys), "alice", key_type, overwrite=True)
    assert made
    assert {path.name for path in keys.iterdir()} == {*OTHERS, *NEW[key_type]}
    assert not set(old.host_keys.values()) & set(new.host_keys.values())
    assert store.fingerprint(new) != store.fingerprint(old)
    assert store.load(str(keys), "alice").id_dropbear == new.id_dropbear
    assert entries(keys) == {"keys", "keygen.lock"}


def test_a_set_as_the_peer_makes_it(keys: Path) -> None:
    for path in (keys, keys.parent, keys.parent.parent):
        path.chmod(0o755)
    (keys / "authorized_keys").chmod(0o644)
    (keys.parent / "keys.lock").touch()  # left by a peer that was killed: it must not hold us up
    assert exists(str(keys))
    assert writer.generate(str(keys), "alice", overwrite=True)[0]
    assert (keys.parent / "keys.lock").exists()


@pytest.mark.parametrize("missing", ["id_dropbear", "authorized_keys", "dropbear_ed25519_host_key"])
def test_an_incomplete_set_is_an_error_and_is_kept(keys: Path, missing: str) -> None:
    for name in HOST_KEYS if missing in HOST_KEYS else [missing]:
        (keys / name).unlink()
    kept = {path.name: path.read_bytes() for path in keys.iterdir()}
    for call in (exists, lambda path: writer.generate(path, "alice"), lambda path: store.load(path, "")):
        with pytest.raises(KeyStoreError, match=f"incomplete, {missing}.* missing: .*keygen --overwrite"):
            call(str(keys))
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == kept
    assert writer.generate(str(keys), "alice", overwrite=True)[0]


def test_an_empty_directory_counts_as_no_set(keys: Path) -> None:
    for path in keys.iterdir():
        path.unlink()
    assert not exists(str(keys))
    assert writer.generate(str(keys), "alice")[0]


def test_other_files_in_the_directory_are_not_lost_unasked(keys: Path) -> None:
    for path in keys.iterdir():
        path.unlink()
    (keys / "notes").touch()
    with pytest.raises(KeyStoreError, match="not empty, but contains no SSH keys"):
        writer.generate(str(keys), "alice")
    assert [path.name for path in keys.iterdir()] == ["notes"]
    assert writer.generate(str(keys), "alice", overwrite=True)[0]


def test_a_directory_in_the_set_is_never_removed(keys: Path) -> None:
    (keys / "precious").mkdir()
    for call in (lambda path: writer.generate(path, "alice", overwrite=True), writer.remove):
        with pytest.raises(KeyStoreError, match="precious is a directory"):
            call(str(keys))
    assert exists(str(keys))


def test_no_set_is_told_with_the_way_out(directory: str) -> None:
    assert not exists(directory)
    assert writer.examine(directory, "alice") is None
    with pytest.raises(
        MissingKeysError, match=r"^alice has no SSH keys in /.*/alice/.oci-hooks/ssh/keys: run 'ssh_hook"
    ):
        store.load(directory, "alice")
    assert os.listdir(os.path.dirname(os.path.dirname(os.path.dirname(directory)))) == []


def test_examine_foretells_and_changes_nothing(keys: Path) -> None:
    found = writer.examine(str(keys), "alice", overwrite=True)
    assert found is not None
    (keys / "authorized_keys").unlink()
    assert writer.examine(str(keys), "alice", overwrite=True) is None
    assert entries(keys) == {"keys", "keygen.lock"}


# Removing sets


def test_remove(keys: Path) -> None:
    (keys.parent / ".keys.replaced").mkdir()
    assert writer.removable(str(keys))
    assert writer.remove(str(keys))
    assert list(keys.parents[2].iterdir()) == []
    assert not writer.removable(str(keys))
    assert not writer.remove(str(keys))


def test_remove_leaves_what_is_not_its_own(keys: Path) -> None:
    (keys.parent / "keys.lock").touch()
    assert writer.remove(str(keys))
    assert entries(keys) == {"keys.lock"}


# Hostile directories and files


def replace_by_link(path: Path) -> Path:
    """Move `path` to where its owner has it as well, and put a link in its place."""
    target = path.parent.parent / f"real {path.name}"
    path.rename(target)
    path.symlink_to(target)
    return target


@pytest.mark.parametrize("step", [0, 1, 2])
def test_no_link_below_the_home_is_followed(keys: Path, step: int) -> None:
    target = replace_by_link([keys, *keys.parents][step])
    before = sorted(target.rglob("*"))
    for call in (
        exists,
        writer.remove,
        lambda path: writer.generate(path, "alice"),
        lambda path: writer.generate(path, "alice", overwrite=True),
    ):
        with pytest.raises(KeyStoreError, match="must be a directory, but is a file or a link"):
            call(str(keys))
    assert sorted(target.rglob("*")) == before


def test_the_home_may_be_a_link(keys: Path) -> None:
    replace_by_link(keys.parents[2])
    assert exists(str(keys))
    assert writer.generate(str(keys), "alice", overwrite=True)[0]


def test_a_missing_home_is_told(tmp_path: Path) -> None:
    directory = store.key_directory(str(tmp_path), "nobody")
    for call in (exists, writer.remove, lambda path: writer.generate(path, "nobody")):
        with pytest.raises(KeyStoreError, match=r"cannot open the user's directory .*/nobody: No such file"):
            call(directory)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize("bits", [0o020, 0o002])
def test_a_directory_that_others_can_write_is_refused(keys: Path, step: int, bits: int) -> None:
    path = [keys, *keys.parents][step]
    path.chmod(0o700 | bits)
    with pytest.raises(KeyStoreError, match=f"^{path} is writable by other users: run chmod go-w {path}$"):
        store.load(str(keys), "alice")


def test_what_belongs_to_another_user_is_refused(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(posix, "geteuid", lambda: owner + 1)
    for call in (exists, writer.remove, lambda path: writer.generate(path, "alice", overwrite=True)):
        with pytest.raises(KeyStoreError, match=f"alice belongs to uid {owner}, but must belong to uid {owner + 1}"):
            call(str(keys))


def status_of_another(path: Path) -> Callable[[int], os.stat_result]:
    """Return a fstat that says that `path` belongs to somebody else."""
    real, foreign = os.fstat, path.stat().st_ino

    def fstat(fd: int) -> os.stat_result:
        status = real(fd)
        if status.st_ino == foreign:
            return os.stat_result([*status[:4], status.st_uid + 1, *status[5:10]])
        return status

    return fstat


@pytest.mark.parametrize("name", ["id_dropbear", "authorized_keys", *HOST_KEYS])
def test_a_file_that_belongs_to_another_user_is_refused(keys: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(posix, "fstat", status_of_another(keys / name))
    with pytest.raises(KeyStoreError, match=f"/{name} belongs to uid"):
        store.load(str(keys), "alice")


@pytest.mark.parametrize("name", ["id_dropbear", *HOST_KEYS])
@pytest.mark.parametrize("bits", [0o040, 0o004, 0o020, 0o002, 0o010, 0o001])
def test_a_private_key_that_is_open_to_others_is_refused(keys: Path, name: str, bits: int) -> None:
    (keys / name).chmod(0o600 | bits)
    with pytest.raises(KeyStoreError, match=f"/{name} is (readable|writable) by other users: run chmod"):
        store.load(str(keys), "alice")


def test_authorized_keys_may_be_read_but_not_written_by_others(keys: Path) -> None:
    (keys / "authorized_keys").chmod(0o644)
    assert exists(str(keys))
    (keys / "authorized_keys").chmod(0o666)
    with pytest.raises(KeyStoreError, match="is writable by other users"):
        store.load(str(keys), "alice")


def plant_link(path: Path) -> None:
    path.rename(path.parent.parent / "real")
    path.symlink_to("../real")


def plant_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def plant_socket(path: Path) -> None:
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)
    path.chmod(0o600)


def plant_directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def plant_endless(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2**40)


@pytest.mark.parametrize("name", ["id_dropbear", "authorized_keys", *HOST_KEYS])
@pytest.mark.parametrize("plant", [plant_link, plant_pipe, plant_socket, plant_directory, plant_endless])
def test_only_a_small_regular_file_is_read(keys: Path, name: str, plant: Callable[[Path], None]) -> None:
    plant(keys / name)
    with pytest.raises(KeyStoreError, match=f"/{name} (must be a regular file|is larger than [0-9]+ bytes)"):
        store.load(str(keys), "alice")


@pytest.mark.parametrize("name", ["keys.tmp.0", ".keys.replaced"])
def test_a_link_in_the_place_of_a_left_set_is_removed_and_not_followed(keys: Path, name: str) -> None:
    victim = keys.parents[2] / "victim"
    victim.mkdir()
    (victim / "file").touch()
    (keys.parent / name).symlink_to(victim)
    assert writer.generate(str(keys), "alice", overwrite=True)[0]
    assert (victim / "file").exists()
    assert entries(keys) == {"keys", "keygen.lock"}


def test_a_link_in_the_place_of_the_lock_is_refused(keys: Path) -> None:
    victim = keys.parents[2] / "victim"
    (keys.parent / "keygen.lock").unlink()
    (keys.parent / "keygen.lock").symlink_to(victim)
    with pytest.raises(KeyStoreError, match=r"cannot open the lock .*keygen.lock"):
        writer.generate(str(keys), "alice", overwrite=True)
    assert not victim.exists()
    assert exists(str(keys))


# Formats


def rsa_file() -> bytes:
    key = rsa.generate_private_key(65537, 2048).private_numbers()
    numbers = (key.public_numbers.e, key.public_numbers.n, key.d, key.p, key.q)
    return string(b"ssh-rsa") + b"".join(map(mpint, numbers))


def ecdsa_file(curve: ec.EllipticCurve, name: bytes) -> bytes:
    key = ec.generate_private_key(curve)
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return string(b"ecdsa-sha2-" + name) + string(name) + string(point) + mpint(key.private_numbers().private_value)


def p256_file() -> bytes:
    return ecdsa_file(ec.SECP256R1(), b"nistp256")


def ed25519_file() -> bytes:
    return string(b"ssh-ed25519") + string(bytes(range(64)))


@pytest.mark.parametrize(
    ("make", "kind", "public_fields"),
    [
        (rsa_file, "ssh-rsa", 3),
        (lambda: ecdsa_file(ec.SECP384R1(), b"nistp384"), "ecdsa-sha2-nistp384", 3),
        (lambda: ecdsa_file(ec.SECP521R1(), b"nistp521"), "ecdsa-sha2-nistp521", 3),
    ],
)
def test_a_users_own_key_of_another_type_is_accepted(
    keys: Path, make: Callable[[], bytes], kind: str, public_fields: int
) -> None:
    data = make()
    (keys / "id_dropbear").write_bytes(data)
    loaded = store.load(str(keys), "alice")
    name, blob = store.public_key(loaded).split()
    assert name == kind
    public = base64.b64decode(blob)
    assert data.startswith(public)
    assert len(formats._strings(public) or []) == public_fields


def new_ed25519_file() -> bytes:
    key = ed25519.Ed25519PrivateKey.generate()
    raw = (serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    return string(b"ssh-ed25519") + string(key.private_bytes(*raw) + key.public_key().public_bytes_raw())


def small_secret_file() -> bytes:
    """Return a key whose secret has a zero byte at its start: its number is shorter than the others'."""
    key = ec.derive_private_key(1 << 200, ec.SECP256R1()).public_key()
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(point) + mpint(1 << 200)


def ssh_keygen(*arguments: str | Path, given: bytes = b"") -> str:
    done = subprocess.run(["ssh-keygen", *arguments], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize(
    "make",
    [
        rsa_file,
        p256_file,
        small_secret_file,
        lambda: ecdsa_file(ec.SECP384R1(), b"nistp384"),
        lambda: ecdsa_file(ec.SECP521R1(), b"nistp521"),
        new_ed25519_file,
    ],
)
def test_openssh_takes_the_private_key(keys: Path, make: Callable[[], bytes]) -> None:
    (keys / "id_dropbear").write_bytes(make())
    loaded = store.load(str(keys), "alice")
    text = formats.openssh_private_key(loaded.id_dropbear, "alice@ocihooks")
    assert text == formats.openssh_private_key(loaded.id_dropbear, "alice@ocihooks")
    key = keys.parent / "id_oci"
    key.write_bytes(text)
    key.chmod(0o600)
    public = store.public_key(loaded)
    assert ssh_keygen("-y", "-f", key).split()[:2] == public.split()
    assert ssh_keygen("-l", "-f", key).split()[1] == store.fingerprint(loaded)
    # Signing takes the secret part, and is verified with the public key that the key store names.
    (keys.parent / "signers").write_text(f"alice {public}\n")
    signature = keys.parent / "signature"
    signature.write_text(ssh_keygen("-Y", "sign", "-f", key, "-n", "test", given=b"text"))
    signers = ("-f", keys.parent / "signers", "-I", "alice")
    ssh_keygen("-Y", "verify", *signers, "-n", "test", "-s", signature, given=b"text")


def test_an_rsa_key_whose_primes_are_none_is_refused(keys: Path) -> None:
    (keys / "id_dropbear").write_bytes(string(b"ssh-rsa") + b"".join(map(mpint, (3, 15, 3, 4, 2))))
    with pytest.raises(KeyStoreError, match="the RSA key in id_dropbear is damaged"):
        formats.openssh_private_key(store.load(str(keys), "alice").id_dropbear, "alice@ocihooks")


def cut(data: bytes) -> bytes:
    return data[:-1]


DAMAGED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "zeros": lambda: bytes(140),
    "text": lambda: b"hello, world\n",
    "length beyond the end": lambda: b"\xff\xff\xff\xff" + bytes(100),
    "type only": lambda: string(b"ssh-ed25519"),
    "unknown type": lambda: string(b"ssh-magic") + string(bytes(64)),
    "ecdsa cut": lambda: cut(p256_file()),
    "ed25519 cut": lambda: cut(ed25519_file()),
    "rsa cut": lambda: cut(rsa_file()),
    "more behind": lambda: ed25519_file() + b"\0",
    "two keys": lambda: ed25519_file() + ed25519_file(),
    "public key": lambda: string(b"ssh-ed25519") + string(bytes(32)),
    "wrong curve": lambda: p256_file().replace(b"\0\0\0\x08nistp256", b"\0\0\0\x08nistp384"),
    "compressed point": lambda: p256_file().replace(b"\0\0\0\x41\x04", b"\0\0\0\x41\x02"),
    "negative secret": lambda: p256_file()[:104] + string(b"\xff" * 32),
    "no secret": lambda: p256_file()[:104] + string(b""),
    "secret of zero": lambda: p256_file()[:104] + string(bytes(32)),
    "long secret": lambda: p256_file()[:104] + string(b"\1" * 34),
}


def test_the_samples_of_damage_are_cut_where_the_secret_begins() -> None:
    assert p256_file()[104:107] == b"\0\0\0"


@pytest.mark.parametrize("name", ["id_dropbear", *HOST_KEYS])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_private_key_is_refused(keys: Path, name: str, damage: str) -> None:
    (keys / name).write_bytes(DAMAGED[damage]())
    with pytest.raises(KeyStoreError, match=f"/{name} is not a Dropbear private key, or is damaged"):
        store.load(str(keys), "alice")


def test_a_private_key_of_openssh_is_told_apart(keys: Path) -> None:
    (keys / "id_dropbear").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(KeyStoreError, match="in OpenSSH's format: convert it with dropbearconvert"):
        store.load(str(keys), "alice")


def test_a_host_key_must_be_of_the_type_in_its_name(keys: Path) -> None:
    (keys / "dropbear_ecdsa_host_key").write_bytes(ed25519_file())
    with pytest.raises(KeyStoreError, match="dropbear_ecdsa_host_key contains a key of type ssh-ed25519"):
        store.load(str(keys), "alice")
    (keys / "dropbear_ed25519_host_key").write_bytes(p256_file())
    with pytest.raises(KeyStoreError, match="dropbear_ed25519_host_key contains a key of type ecdsa-sha2-nistp256"):
        store.load(str(keys), "alice")


@pytest.mark.parametrize("text", [b"", b"\n", b"# comment only\n", b"  \n\t\n", b"ssh-ed25519 AAAA\0\n"])
def test_authorized_keys_without_a_key_is_refused(keys: Path, text: bytes) -> None:
    (keys / "authorized_keys").write_bytes(text)
    with pytest.raises(KeyStoreError, match="authorized_keys contains no public key"):
        store.load(str(keys), "alice")


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_as_a_key_with_one_line(data: bytes) -> None:
    with pytest.raises(KeyStoreError) as caught:
        formats.check_private_key(data, "/x/id_dropbear")
    assert "\n" not in str(caught.value)


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_what_is_made_of_strings_is_taken_apart_again(fields: list[bytes]) -> None:
    data = b"".join(map(string, fields))
    assert formats._strings(data) == fields
    assert formats._strings(data + b"\0") is None


@given(st.binary(max_size=60))
def test_strings_are_what_they_are_made_of(data: bytes) -> None:
    fields = formats._strings(data)
    assert fields is None or b"".join(map(string, fields)) == data


@given(st.sampled_from([p256_file(), ed25519_file()]), st.data())
def test_a_key_with_any_length_field_changed_is_refused(key: bytes, data: st.DataObject) -> None:
    position = data.draw(st.sampled_from([0, 1, 2, 3]))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != key[position]))
    with pytest.raises(KeyStoreError):
        formats.check_private_key(key[:position] + bytes([value]) + key[position + 1 :], "/x/id_dropbear")


@given(st.integers(1, 2**256))
def test_numbers_are_written_as_the_protocol_says(number: int) -> None:
    data = formats.mpint(number)
    value = data[4:]
    assert int.from_bytes(data[:4], "big") == len(value)
    assert int.from_bytes(value, "big", signed=True) == number
    assert value[0] != 0 or value[1] & 0x80, "no shorter form exists"


# Other writers and readers


def child(work: Callable[[], object]) -> int:
    """Run `work` in a child process; return the child's number. It exits with 0 if the work succeeds."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def test_first_set_without_the_lock(directory: str) -> None:
    assert writer.generate_first(directory, "alice")
    assert is_consistent(store.load(directory, "alice"))
    assert os.listdir(Path(directory).parent) == ["keys"]


def test_a_first_set_never_replaces_one(keys: Path) -> None:
    before = identities(keys)
    assert not writer.generate_first(str(keys), "alice")
    assert identities(keys) == before
    assert sorted(os.listdir(keys.parent)) == ["keygen.lock", "keys"]


def test_a_first_set_takes_the_place_of_an_empty_directory(directory: str) -> None:
    Path(directory).mkdir(parents=True, mode=0o700)
    for path in (Path(directory).parents[1], Path(directory).parent):
        path.chmod(0o700)
    assert writer.generate_first(directory, "alice")
    assert is_consistent(store.load(directory, "alice"))


def test_first_sets_at_once(directory: str) -> None:
    """Of many first sets one is left, whoever has the lock and whoever has none."""

    def make(number: int) -> None:
        if number % 3 == 0:
            writer.generate(directory, "alice")
        else:
            writer.generate_first(directory, "alice")

    for _round in range(10):
        pids = [child(functools.partial(make, number)) for number in range(8)]
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)
        assert is_consistent(store.load(directory, "alice"))
        # Who finds a set there takes no lock.
        assert {"keys"} == {*os.listdir(Path(directory).parent)} - {"keygen.lock"}
        writer.remove(directory)


def test_keygen_takes_the_set_that_came_meanwhile(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that needs no lock made it while keygen had the lock."""
    real = writer._examine

    def examine(parent: int, path: str, name: str, overwrite: bool) -> store.KeySet | None:
        found = real(parent, path, name, overwrite)
        if found is None and os.path.exists(os.path.join(os.path.dirname(path), "keygen.lock")):
            assert writer.generate_first(path, name)
        return found

    monkeypatch.setattr(writer, "_examine", examine)
    made, keys = writer.generate(directory, "alice")
    assert not made
    assert keys.id_dropbear == store.load(directory, "alice").id_dropbear
    assert sorted(os.listdir(Path(directory).parent)) == ["keygen.lock", "keys"]


@pytest.mark.parametrize(("age", "is_left"), [(0, True), (3500, True), (3700, False)])
def test_what_a_killed_first_writer_left_goes_after_an_hour(keys: Path, age: int, is_left: bool) -> None:
    left = keys.parent / "keys.first.0"
    left.mkdir(mode=0o700)
    (left / "id_dropbear").write_bytes(b"")
    then = time.time() - age
    os.utime(left, (then, then))
    writer.generate(str(keys), "alice")
    assert left.exists() == is_left
    assert is_consistent(store.load(str(keys), "alice"))


@pytest.mark.parametrize("lifetime", range(0, 60, 3))
def test_a_first_writer_that_is_killed_leaves_a_whole_set_or_none(
    directory: str, monkeypatch: pytest.MonkeyPatch, lifetime: int
) -> None:
    def make() -> None:
        monkeypatch.setattr(writer, "os", MortalPosix(lifetime))
        monkeypatch.setattr(store, "os", MortalPosix(lifetime))
        writer.generate_first(directory, "alice")

    os.waitpid(child(make), 0)
    if exists(directory):
        assert is_consistent(store.load(directory, "alice"))
    elif writer.generate_first(directory, "alice"):
        assert is_consistent(store.load(directory, "alice"))


def test_a_first_set_of_an_unknown_type_or_without_the_library(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyStoreError, match="not 'dsa'"):
        writer.generate_first(directory, "alice", "dsa")

    def make() -> bytes:
        raise ImportError("No module named 'cryptography'")

    monkeypatch.setattr(writer, "_new_ecdsa", make)
    with pytest.raises(MissingLibraryError, match="cryptography"):
        writer.generate_first(directory, "alice")
    assert os.listdir(Path(directory).parents[2]) == []


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Give a list for the numbers of children, which are ended with the test."""
    started: list[int] = []
    yield started
    for pid in started:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class MortalPosix:
    """The module posix, but the process is killed just before the given call that changes or opens something."""

    DEADLY = frozenset({"open", "mkdir", "write", "fsync", "rename", "unlink", "rmdir", "close", "fchmod", "listdir"})

    def __init__(self, lifetime: int) -> None:
        self._left = lifetime

    def __getattr__(self, name: str) -> Any:
        real = getattr(posix, name)
        if name not in self.DEADLY:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
            return real(*arguments, **options)

        return call


def dies_after(work: Callable[[], object], lifetime: int) -> bool:
    """Run `work` in a child that is killed after so many system calls; return False if it ended before that."""

    def mortal() -> None:
        vars(store)["os"] = vars(writer)["os"] = vars(fast_stdlib)["os"] = MortalPosix(lifetime)
        work()

    _pid, status = os.waitpid(child(mortal), 0)
    if os.WIFSIGNALED(status):
        return True
    assert status == 0
    return False


def test_killed_at_any_call_a_first_generation_leaves_nothing_or_a_whole_set(tmp_path: Path) -> None:
    for lifetime in range(200):
        home = tmp_path / str(lifetime)
        home.mkdir()
        directory = store.key_directory(str(tmp_path), home.name)
        died = dies_after(functools.partial(writer.generate, directory, "alice"), lifetime)
        if exists(directory):
            assert is_consistent(store.load(directory, "alice"))
        writer.generate(directory, "alice")
        assert entries(Path(directory)) == {"keys", "keygen.lock"}
        assert exists(directory)
        if not died:
            break
    assert 20 < lifetime < 199


@pytest.mark.usefixtures("swap")
def test_killed_at_any_call_a_replacement_leaves_the_old_or_the_new_set(directory: str, tmp_path: Path) -> None:
    """And the next call, whatever it is, works; each has a copy of what the kill has left."""
    home = tmp_path / "alice"

    def copied(name: str) -> str:
        shutil.copytree(home, tmp_path / name, symlinks=True)
        return store.key_directory(str(tmp_path), name)

    def remove(keys: str) -> None:
        writer.remove(keys)
        assert not exists(keys)
        owner = Path(keys).parents[2]
        assert list(owner.iterdir()) == []
        if owner != home:
            owner.rmdir()

    outcomes = set()
    for lifetime in range(200):
        writer.generate(directory, "alice", "ecdsa")
        old = store.load(directory, "alice").id_dropbear
        died = dies_after(lambda: writer.generate(directory, "alice", "ed25519", overwrite=True), lifetime)
        generated, overwritten = copied("generate"), copied("overwrite")
        left = store.load(directory, "alice")
        assert is_consistent(left)
        assert left.id_dropbear == old or b"ed25519" in left.id_dropbear
        assert list(left.host_keys) == NEW["ecdsa" if left.id_dropbear == old else "ed25519"]
        outcomes.add(left.id_dropbear == old)
        made, kept = writer.generate(generated, "alice")
        assert not made
        assert kept.id_dropbear == left.id_dropbear
        writer.generate(overwritten, "alice", overwrite=True)
        for keys in (generated, overwritten):
            assert entries(Path(keys)) == {"keys", "keygen.lock"}
            remove(keys)
        remove(directory)
        if not died:
            break
    assert outcomes == {True, False}
    assert 20 < lifetime < 199


def test_killed_at_any_call_a_removal_leaves_a_whole_set_or_none(directory: str) -> None:
    for lifetime in range(200):
        writer.generate(directory, "alice")
        died = dies_after(lambda: writer.remove(directory), lifetime)
        if exists(directory):
            assert is_consistent(store.load(directory, "alice"))
        writer.remove(directory)
        assert list(Path(directory).parents[2].iterdir()) == [] or not writer.removable(directory)
        if not died:
            break
    assert 10 < lifetime < 199


def test_readers_always_find_a_whole_set_while_it_is_replaced(keys: Path, swap: str, children: list[int]) -> None:
    def replace_for_ever() -> None:
        while True:
            writer.generate(str(keys), "alice", overwrite=True)

    children += [child(replace_for_ever), child(replace_for_ever)]
    seen: set[bytes] = set()
    deadline = time.monotonic() + 60
    while len(seen) < 30 and time.monotonic() < deadline:
        loaded = store.load(str(keys), "alice")
        assert is_consistent(loaded)
        seen.add(loaded.id_dropbear)
    assert len(seen) == 30


def test_of_several_first_writers_one_makes_the_set(directory: str) -> None:
    def generate() -> None:
        made, _keys = writer.generate(directory, "alice")
        os._exit(10 if made else 20)

    pids = [child(generate) for _number in range(8)]
    statuses = sorted(os.WEXITSTATUS(os.waitpid(pid, 0)[1]) for pid in pids)
    assert statuses == [10] + 7 * [20]
    assert exists(directory)


def test_another_writer_is_done_just_after_the_look_for_a_set(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = writer._contents

    def made_meanwhile(parent: int, path: str) -> list[str] | None:
        monkeypatch.undo()
        assert writer.generate(directory, "alice")[0]
        return contents(parent, path)

    Path(directory).parent.mkdir(parents=True)
    monkeypatch.setattr(writer, "_contents", made_meanwhile)
    made, keys = writer.generate(directory, "alice")
    assert (made, keys.id_dropbear) == (False, store.load(directory, "alice").id_dropbear)


def test_writers_and_removers_do_not_trip_over_each_other(directory: str) -> None:
    def churn() -> None:
        for turn in range(40):
            try:
                if turn % 2:
                    writer.remove(directory)
                else:
                    writer.generate(directory, "alice", overwrite=True)
            except KeyStoreError as error:
                # The directory that one was about to lock has been removed by another.
                if "No such file" not in str(error):
                    raise

    statuses = [os.waitpid(pid, 0)[1] for pid in [child(churn) for _number in range(4)]]
    assert statuses == [0, 0, 0, 0]
    writer.generate(directory, "alice")
    assert entries(Path(directory)) == {"keys", "keygen.lock"}


def test_a_held_lock_is_told_and_ends_with_its_holder(
    keys: Path, monkeypatch: pytest.MonkeyPatch, children: list[int]
) -> None:
    lock = keys.parent / "keygen.lock"
    ready, told = os.pipe()

    def hold() -> None:
        fd = os.open(lock, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(told, b"x")
        signal.pause()

    children.append(child(hold))
    os.read(ready, 1)
    os.close(ready)
    os.close(told)
    monkeypatch.setattr(writer, "_LOCK_SECONDS", 0.2)
    with pytest.raises(KeyStoreError, match=f"has held the lock {lock} for more than 0 s"):
        writer.generate(str(keys), "alice", overwrite=True)
    assert exists(str(keys)), "readers need no lock"
    assert not writer.generate(str(keys), "alice")[0], "nor does a caller who has keys already"
    os.kill(children[0], signal.SIGKILL)
    os.waitpid(children.pop(), 0)
    assert writer.generate(str(keys), "alice", overwrite=True)[0]


def test_a_lock_that_was_removed_while_it_was_awaited_is_no_lock(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    calls: list[int] = []

    def flock(fd: int, operation: int) -> None:
        if not calls:
            (keys.parent / "keygen.lock").unlink()
        calls.append(fd)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert writer.generate(str(keys), "alice", overwrite=True)[0]
    assert len(calls) == 2
    assert entries(keys) == {"keys", "keygen.lock"}


def test_a_file_of_the_old_set_that_nfs_keeps_open_is_no_obstacle(
    keys: Path, swap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rmdir(_path: str, **_options: int) -> None:
        raise OSError(39, "Directory not empty")

    with monkeypatch.context() as patch:
        patch.setattr(posix, "rmdir", rmdir)
        assert writer.generate(str(keys), "alice", overwrite=True)[0]
        assert writer.generate(str(keys), "alice", overwrite=True)[0]
    assert ".keys.replaced" not in entries(keys)
    assert writer.generate(str(keys), "alice", overwrite=True)[0]
    assert entries(keys) == {"keys", "keygen.lock"}


def test_a_file_system_without_locks_is_told(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_fd: int, _operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(KeyStoreError, match=r"cannot lock .*: Function not implemented: .* support for file locks"):
        writer.generate(str(keys), "alice", overwrite=True)
    assert exists(str(keys))


@pytest.mark.parametrize("failing", ["write", "fsync", "rename", "mkdir"])
def test_a_full_or_failing_disk_costs_nothing(
    keys: Path, swap: str, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    before = store.load(str(keys), "alice").id_dropbear
    with monkeypatch.context() as patch:

        def fail(*_arguments: object, **_options: object) -> None:
            raise OSError(122, "Disk quota exceeded")

        patch.setattr(posix, failing, fail)
        with pytest.raises(
            KeyStoreError, match=rf"cannot create SSH keys in .*: Disk quota exceeded: free space in {keys.parents[2]}$"
        ):
            writer.generate(str(keys), "alice", overwrite=True)
    assert store.load(str(keys), "alice").id_dropbear == before
    assert entries(keys) == {"keys", "keygen.lock"}


def test_a_home_that_cannot_be_written_is_named(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(posix, "mkdir", refuse)
    with pytest.raises(KeyStoreError, match=rf": Read-only file system: {keys.parents[2]} must be writable for its "):
        writer.generate(str(keys), "alice", overwrite=True)


def test_the_second_rename_failing_brings_the_old_set_back(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_exchange", lambda *_arguments: False)
    before = store.load(str(keys), "alice").id_dropbear
    real = os.rename

    def rename(source: str, target: str, **options: int) -> None:
        if source.startswith("keys.tmp.") and not keys.exists():
            raise OSError(5, "Input/output error")
        real(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(posix, "rename", rename)
        with pytest.raises(KeyStoreError, match="Input/output error"):
            writer.generate(str(keys), "alice", overwrite=True)
    assert store.load(str(keys), "alice").id_dropbear == before
    assert entries(keys) == {"keys", "keygen.lock"}


def test_a_file_system_that_keeps_no_modes_costs_nothing(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store.load(str(keys), "alice").id_dropbear
    real = os.open

    def open_for_all(name: str, flags: int, mode: int = 0o777, **options: Any) -> int:
        fd = real(name, flags, mode, **options)
        if flags & os.O_CREAT and name == "id_dropbear":
            os.chmod(fd, 0o644)
        return fd

    with monkeypatch.context() as patch:
        patch.setattr(posix, "open", open_for_all)
        with pytest.raises(KeyStoreError, match="id_dropbear is readable by other users"):
            writer.generate(str(keys), "alice", overwrite=True)
    assert store.load(str(keys), "alice").id_dropbear == before


def test_no_descriptor_is_lost(keys: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    writer.generate(str(keys), "alice", overwrite=True)
    store.load(str(keys), "alice")
    (keys / "authorized_keys").unlink()
    with pytest.raises(KeyStoreError):
        store.load(str(keys), "alice")
    writer.remove(str(keys))
    assert descriptors() == before


def test_the_start_of_a_container_imports_next_to_nothing() -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n"
    program += "import ssh_hook.keys.store, ssh_hook.keys.passwd; print(*sorted(set(sys.modules) - before))"
    hook = str(Path(store.__file__).parents[2])
    output = subprocess.run([sys.executable, "-ISc", program, hook], capture_output=True, text=True, check=True)
    extra = {name for name in output.stdout.split() if not name.startswith("ssh_hook")}
    assert extra <= {"stat", "_stat", "_signal", "__future__", "errno"}
