# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key store: one user's SSH keys in ``<base>/<name>/.oci-hooks/ssh/keys``.

A *set* is three files in that directory, in Dropbear's own formats:

``id_dropbear``
    the private key that the user's client logs in with;
``authorized_keys``
    its public key, one line;
``dropbear_ecdsa_host_key`` or ``dropbear_ed25519_host_key``
    the private key of the user's own server. If both are there the first one counts.

``<base>/<name>/.oci-hooks/ssh/client``, beside it, holds what an OpenSSH client outside of containers needs, the private
key in that client's format too; it goes when the set is removed.

Everything here acts with the caller's effective identity, which must be the user's: so it works on
an NFS home with root_squash, and a link or a pipe that the user has planted can harm nobody else.
``<base>/<name>`` may be a link, that is the site's business; below it none is followed. Every
directory must belong to the user and be writable by nobody else.

A set is only ever replaced as a whole. A new one is made in ``keys.tmp.<random>`` beside ``keys``,
flushed to disk, read back, and then put in place

* by one rename, if there is no set yet;
* by renameat2(RENAME_EXCHANGE), one step too, where the file system can do that;
* else (NFS, Lustre, ...) by two renames, ``keys`` to ``keys.old`` and the new one to ``keys``. Who
  finds ``keys`` missing between the two, or after a crash there, uses ``keys.old``: `load` reads
  it, and the next `generate` or `remove` moves it back first.

So at every instant a complete set can be loaded, and after a crash it is the old or the new one.
Writers exclude each other with flock(2) on ``keygen.lock``, which the kernel releases when its
holder dies. (Linux NFS clients turn it into a lock on the server, so it holds across nodes too,
unless the mount says ``nolock`` or ``local_lock``.) Readers need no lock. What a killed writer left
is removed by the next one. ``keys.lock`` is not used: to the peer hook that file's mere existence
means "locked".

The start of every container imports this file, so it imports next to nothing; what only key
generation needs is imported there. The hook and the Ansible modules share it: it imports nothing
of theirs.
"""

from __future__ import annotations

import _stat as stat
import errno
import posix

KEY_TYPES = ("ecdsa", "ed25519")  # the first is the default
KEY_LIBRARIES = (  # what `generate` imports; a program that forks for each user does it once before
    "cryptography.hazmat.primitives.serialization",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
)
PRIVATE_KEY = "id_dropbear"
AUTHORIZED_KEYS = "authorized_keys"
HOST_KEYS = {"ecdsa": "dropbear_ecdsa_host_key", "ed25519": "dropbear_ed25519_host_key"}

_BELOW_HOME = (".oci-hooks", "ssh")
_CURRENT = "keys"
_CLIENT = "client"
_OLD = "keys.old"
_TEMPORARY = "keys.tmp."
_LOCK = "keygen.lock"
_LOCK_SECONDS = 30.0
_REPLACE = "to replace the set run 'ssh_hook keygen --overwrite'"

_PRIVATE_KEY_LIMIT = 16 * 1024  # bytes; an RSA key of 16384 bits takes 9 KiB
_AUTHORIZED_KEYS_LIMIT = 64 * 1024

_CURVES = {b"nistp256": 32, b"nistp384": 48, b"nistp521": 66}  # bytes of one coordinate
_RENAME_EXCHANGE = 2  # linux/fs.h


class KeyStoreError(Exception):
    """Something is wrong with a key set; the text is one whole line, ready for the user."""


class MissingKeysError(KeyStoreError):
    """There is no key set at all."""


class MissingLibraryError(KeyStoreError):
    """Keys cannot be made, because the Python package cryptography cannot be imported."""


class KeySet:
    """The contents of one key set.

    ``id_dropbear``, ``authorized_keys`` and ``host_key`` are the files' bytes; ``host_key_name``
    is the name of the host key's file.
    """

    __slots__ = ("authorized_keys", "host_key", "host_key_name", "id_dropbear")

    def __init__(self, id_dropbear: bytes, authorized_keys: bytes, host_key: bytes, host_key_name: str) -> None:
        self.id_dropbear = id_dropbear
        self.authorized_keys = authorized_keys
        self.host_key = host_key
        self.host_key_name = host_key_name


def key_directory(base_dir: str, name: str) -> str:
    """Return the path of the key directory of the user `name`: ``<base_dir>/<name>/.oci-hooks/ssh/keys``.

    Raises KeyStoreError if the base is no absolute path, or the name cannot name a directory.
    """
    if not base_dir.startswith("/") or not _printable(base_dir):
        raise KeyStoreError(f"the base directory of the users' keys must be an absolute path, not {base_dir!r}")
    if name in ("", ".", "..") or "/" in name or not _printable(name):
        raise KeyStoreError(f"{name!r} cannot be the name of a user who has SSH keys")
    return "/".join((base_dir.rstrip("/"), name, *_BELOW_HOME, _CURRENT))


def load(directory: str, name: str) -> KeySet:
    """Read and check the key set in `directory`, which `key_directory` gave for the user `name`.

    Raises MissingKeysError if there is none (the text says how to make one), and KeyStoreError if
    it is incomplete, malformed, not the user's own, or open to others.
    """
    try:
        parent = _open_parent(directory)
    except FileNotFoundError:
        raise _missing(directory, name) from None
    try:
        return _load(parent, directory, name)
    finally:
        posix.close(parent)


def exists(directory: str) -> bool:
    """Tell whether `directory` holds a complete, valid set; raises KeyStoreError if it holds a bad one."""
    try:
        load(directory, "")
    except MissingKeysError:
        return False
    return True


def examine(directory: str, name: str, overwrite: bool = False) -> KeySet | None:
    """Return the set that `generate` would find, or None if there is none, or (if `overwrite`) a bad one.

    Changes nothing. Raises KeyStoreError where `generate` would, as far as that can be known before.
    """
    try:
        parent = _open_parent(directory)
    except FileNotFoundError:
        return None
    try:
        return _examine(parent, directory, name, overwrite)
    finally:
        posix.close(parent)


def generate(directory: str, name: str, key_type: str = KEY_TYPES[0], overwrite: bool = False) -> tuple[bool, KeySet]:
    """Make sure that `directory` holds a key set; return whether one was made, and the set.

    An existing set is kept, whatever its type, unless `overwrite`. An incomplete or broken one is
    an error unless `overwrite`: it may hold the only copy of a private key.

    Raises KeyStoreError, or MissingLibraryError, and then the set that was there is still there.
    """
    if key_type not in KEY_TYPES:
        raise KeyStoreError(f"the type of SSH keys must be one of {', '.join(KEY_TYPES)}, not {key_type!r}")
    existing = examine(directory, name, overwrite)
    if existing and not overwrite and not _left_behind(directory):
        return False, existing
    # Made before anything is touched, so that a missing library leaves no trace.
    fresh = None if existing and not overwrite else _new_set(key_type, name)
    mask = posix.umask(0o077)  # a stricter one, of the user's, would keep us out of our own new directories
    try:
        with _Locked(directory, create=True) as parent:
            _tidy(parent, directory)
            existing = _examine(parent, directory, name, overwrite)
            if existing and not overwrite:
                return False, existing
            fresh = fresh or _new_set(key_type, name)
            _install(parent, directory, fresh)
            return True, fresh
    except OSError as error:
        raise KeyStoreError(f"cannot make SSH keys in {directory}: {error.strerror}") from error
    finally:
        posix.umask(mask)


def removable(directory: str) -> bool:
    """Tell whether there is anything that `remove` would remove. Raises KeyStoreError if it would."""
    try:
        parent = _open_parent(directory)
    except FileNotFoundError:
        return False
    try:
        left = _contents(parent, directory) is not None or bool(_leftovers(parent))
        return left or _CLIENT in posix.listdir(parent)
    finally:
        posix.close(parent)


def remove(directory: str) -> bool:
    """Remove the key set in `directory`, and the directories above it that are then empty, up to the home.

    Returns whether there was anything to remove. Raises KeyStoreError.
    """
    if not removable(directory):
        return False
    try:
        with _Locked(directory) as parent:
            _tidy(parent, directory)
            if _contents(parent, directory) is not None:
                # Out of sight first, in one step: half a set must never be seen under its own name.
                trash = _temporary_name()
                _rename(parent, _CURRENT, trash)
                _discard(parent, directory, trash)
            _discard(parent, directory, _CLIENT)
            posix.unlink(_LOCK, dir_fd=parent)
        _remove_empty_parents(directory)
    except OSError as error:
        raise KeyStoreError(f"cannot remove the SSH keys in {directory}: {error.strerror}") from error
    return True


def client_directory(directory: str) -> str:
    """Return the path of the directory, beside the key directory, for a client outside of containers."""
    return f"{_home(directory)}/{'/'.join(_BELOW_HOME)}/{_CLIENT}"


def write_client(directory: str, files: dict[str, bytes]) -> None:
    """Write files into the client's directory beside the key directory, in this order; what is there already stays.

    Each is replaced in one step, and is for the user alone. Raises KeyStoreError.
    """
    path = client_directory(directory)
    mask = posix.umask(0o077)
    try:
        with _Locked(directory) as parent:
            _make_directory(parent, _CLIENT)
            fd = _open_directory(parent, _CLIENT, path)
            try:
                posix.fchmod(fd, 0o700)
                for name, data in files.items():
                    _write_client_file(fd, name, data)
            finally:
                posix.close(fd)
    except OSError as error:
        raise KeyStoreError(f"cannot write into {path}: {error.strerror}") from error
    finally:
        posix.umask(mask)


def public_key(keys: KeySet) -> str:
    """Return the user's public key as OpenSSH writes it, without a comment: ``<type> <base64>``."""
    return _public_line(_public_blob(keys.id_dropbear))


def host_public_key(keys: KeySet) -> str:
    """Return the public key of the user's containers as OpenSSH writes it, without a comment: ``<type> <base64>``."""
    return _public_line(_public_blob(keys.host_key))


def openssh_private_key(keys: KeySet) -> bytes:
    """Return the user's private key as a file of OpenSSH (openssh-key-v1), without a passphrase.

    The same key always gives the same bytes. Raises KeyStoreError for what OpenSSH no longer takes.
    """
    import binascii

    fields = _openssh_fields(_strings(keys.id_dropbear) or [])
    # Two equal numbers tell a right passphrase from a wrong one; with none, any do. Then the key, and an empty comment.
    private = bytes(8) + b"".join(map(_string, [*fields, b""]))
    private += bytes(range(1, 1 + -len(private) % 8))
    one_key = (1).to_bytes(4, "big")
    header = b"openssh-key-v1\0" + _string(b"none") + _string(b"none") + _string(b"") + one_key
    data = header + _string(_public_blob(keys.id_dropbear)) + _string(private)
    lines = [binascii.b2a_base64(data[start : start + 48]) for start in range(0, len(data), 48)]
    return b"".join([b"-----BEGIN OPENSSH PRIVATE KEY-----\n", *lines, b"-----END OPENSSH PRIVATE KEY-----\n"])


def fingerprint(keys: KeySet) -> str:
    """Return the fingerprint of the user's public key as ``ssh-keygen -l`` writes it: ``SHA256:<base64>``."""
    import binascii
    import hashlib

    digest = hashlib.sha256(_public_blob(keys.id_dropbear)).digest()
    return "SHA256:" + binascii.b2a_base64(digest, newline=False).decode().rstrip("=")


# Directories and files


def _printable(text: str) -> bool:
    """Tell whether `text` can stand in a path and in a message of one line."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return not any(character < " " or character == "\x7f" for character in text)


def _missing(directory: str, name: str) -> MissingKeysError:
    return MissingKeysError(f"{name} has no SSH keys in {directory}: run 'ssh_hook keygen'")


def _home(directory: str) -> str:
    """Return the part of a key directory's path that is the site's: ``<base>/<name>``."""
    tail = "/".join(("", *_BELOW_HOME, _CURRENT))
    if not directory.startswith("/") or not directory.endswith(tail):
        raise KeyStoreError(f"{directory} is not the path of a key directory: it must end in {tail}")
    return directory[: -len(tail)]


def _open_parent(directory: str, create: bool = False) -> int:
    """Open the directory that holds the key directory; return its descriptor.

    Raises FileNotFoundError if a step below the home is missing (unless `create`), else KeyStoreError.
    """
    path = _home(directory)
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY)
    except OSError as error:
        raise KeyStoreError(f"cannot open the user's directory {path}: {error.strerror}") from error
    try:
        _check_owner(posix.fstat(fd), path, 0o022)
        for step in _BELOW_HOME:
            path = f"{path}/{step}"
            if create:
                _make_directory(fd, step)
            below = _open_directory(fd, step, path)
            posix.close(fd)
            fd = below
    except BaseException:
        posix.close(fd)
        raise
    return fd


def _make_directory(parent: int, name: str) -> None:
    try:
        posix.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return


def _open_directory(parent: int, name: str, path: str) -> int:
    """Open the directory `name` in `parent`, which may be no link; raises FileNotFoundError if it is missing."""
    try:
        fd = posix.open(name, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        raise
    except NotADirectoryError:
        raise KeyStoreError(f"{path} must be a directory, and is a file or a link: move it away") from None
    except OSError as error:
        raise KeyStoreError(f"cannot open {path}: {error.strerror}") from error
    try:
        _check_owner(posix.fstat(fd), path, 0o022)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def _check_owner(status: posix.stat_result, path: str, forbidden: int) -> None:
    """Raise KeyStoreError unless the caller owns what has this status, and no bit in `forbidden` is set."""
    if status.st_uid != posix.geteuid():
        raise KeyStoreError(f"{path} belongs to uid {status.st_uid}, and must belong to uid {posix.geteuid()}")
    if status.st_mode & forbidden & 0o022:
        raise KeyStoreError(f"{path} can be written by others: run chmod go-w {path}")
    if status.st_mode & forbidden:
        raise KeyStoreError(f"{path} can be read by others: run chmod go= {path}")


def _read_file(parent: int, name: str, directory: str, limit: int, forbidden: int) -> bytes | None:
    """Return the bytes of the file `name` in the set `parent`, or None if there is no such file."""
    path = f"{directory}/{name}"
    try:
        # O_NONBLOCK: a pipe planted here must not hold up the start of a container.
        fd = posix.open(name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise KeyStoreError(f"{path} must be a regular file, and is a link or a socket: {_REPLACE}") from None
        raise KeyStoreError(f"cannot open {path}: {error.strerror}") from error
    try:
        status = posix.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise KeyStoreError(f"{path} must be a regular file: {_REPLACE}")
        _check_owner(status, path, forbidden)
        data = b""
        while len(data) <= limit:
            more = posix.read(fd, limit + 1 - len(data))
            if not more:
                return data
            data += more
    except OSError as error:
        raise KeyStoreError(f"cannot read {path}: {error.strerror}") from error
    finally:
        posix.close(fd)
    raise KeyStoreError(f"{path} is larger than {limit} bytes: {_REPLACE}")


# Reading a set


def _load(parent: int, directory: str, name: str) -> KeySet:
    # A writer may put another set in place while this one is being read; the second look then finds that one.
    for _attempt in range(3):
        for entry in (_CURRENT, _OLD):
            try:
                fd = _open_directory(parent, entry, f"{directory[: -len(_CURRENT)]}{entry}")
            except FileNotFoundError:
                continue
            try:
                return _read_set(fd, directory, name)
            except MissingKeysError:
                continue
            except KeyStoreError:
                if _is_entry(fd, parent, entry):
                    raise
            finally:
                posix.close(fd)
    raise _missing(directory, name)


def _is_entry(fd: int, parent: int, entry: str) -> bool:
    """Tell whether `entry` in `parent` is still what was opened as `fd`."""
    try:
        present = posix.stat(entry, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = posix.fstat(fd)
    return (opened.st_dev, opened.st_ino) == (present.st_dev, present.st_ino)


def _read_set(fd: int, directory: str, name: str) -> KeySet:
    """Read and check the files in the directory `fd`; raises MissingKeysError if it has none of them."""
    private = _read_file(fd, PRIVATE_KEY, directory, _PRIVATE_KEY_LIMIT, 0o077)
    authorized = _read_file(fd, AUTHORIZED_KEYS, directory, _AUTHORIZED_KEYS_LIMIT, 0o022)
    host_key = _read_host_key(fd, directory)
    if private is None and authorized is None and host_key is None:
        raise _missing(directory, name)
    if private is None:
        raise _incomplete(directory, PRIVATE_KEY)
    if authorized is None:
        raise _incomplete(directory, AUTHORIZED_KEYS)
    if host_key is None:
        raise _incomplete(directory, " or ".join(HOST_KEYS.values()))
    _check_private_key(private, f"{directory}/{PRIVATE_KEY}")
    if not _has_public_key(authorized):
        raise KeyStoreError(f"{directory}/{AUTHORIZED_KEYS} holds no public key: {_REPLACE}")
    return KeySet(private, authorized, *host_key)


def _read_host_key(fd: int, directory: str) -> tuple[bytes, str] | None:
    """Return the bytes and the file name of the host key in the directory `fd`, or None if there is none."""
    for key_type, name in HOST_KEYS.items():
        data = _read_file(fd, name, directory, _PRIVATE_KEY_LIMIT, 0o077)
        if data is not None:
            kind = _check_private_key(data, f"{directory}/{name}").decode()
            if key_type not in kind:
                raise KeyStoreError(f"{directory}/{name} holds a key of type {kind}: {_REPLACE}")
            return data, name
    return None


def _incomplete(directory: str, file_name: str) -> KeyStoreError:
    return KeyStoreError(f"the SSH keys in {directory} are not complete, {file_name} is missing: {_REPLACE}")


def _has_public_key(text: bytes) -> bool:
    """Tell whether an authorized_keys file has a line that is neither blank nor a comment, and no binary data."""
    return b"\0" not in text and any(
        line and not line.startswith(b"#") for line in (line.strip() for line in text.split(b"\n"))
    )


# Formats. A string is a 32-bit big-endian length and that many bytes; an mpint is a string that holds a number,
# big-endian, signed, as short as can be (RFC 4251, section 5).


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _mpint(number: int) -> bytes:
    """Return a positive number as an mpint: one more zero byte where the top bit would make it negative."""
    return _string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _strings(data: bytes) -> list[bytes] | None:
    """Return the strings that `data` is made of, or None if it is not a sequence of strings."""
    fields = []
    position = 0
    while position < len(data):
        start = position + 4
        position = start + int.from_bytes(data[position:start], "big")
        fields.append(data[start:position])
    return fields if position == len(data) else None


def _check_private_key(data: bytes, path: str) -> bytes:
    """Return the type of the private key in `data`; raises KeyStoreError if Dropbear could not read it."""
    if data.startswith(b"-----BEGIN"):
        raise KeyStoreError(f"{path} is in the format of OpenSSH: convert it with dropbearconvert, or {_REPLACE}")
    fields = _strings(data)
    if not fields or not _well_formed(fields):
        raise KeyStoreError(f"{path} is not a private key of Dropbear, or is damaged: {_REPLACE}")
    return fields[0]


def _well_formed(fields: list[bytes]) -> bool:
    """Tell whether these are the fields of a private key in Dropbear's format."""
    kind, values = fields[0], fields[1:]
    if kind == b"ssh-ed25519":
        return len(values) == 1 and len(values[0]) == 64
    if kind == b"ssh-rsa":
        return len(values) == 5 and all(values)
    if kind == b"ssh-dss":
        return len(values) == 5 and all(values)
    if len(values) != 3 or kind != b"ecdsa-sha2-" + values[0] or values[0] not in _CURVES:
        return False
    size = _CURVES[values[0]]
    point, secret = values[1], values[2]
    return (
        len(point) == 1 + 2 * size and point[0] == 4 and 0 < len(secret) <= size + 1 and secret[0] < 128 and any(secret)
    )


def _public_blob(private: bytes) -> bytes:
    """Return the public key, in the format of the SSH protocol, that belongs to a well-formed private key."""
    fields = _strings(private) or []
    kind = fields[0]
    if kind == b"ssh-ed25519":
        public = [kind, fields[1][32:]]
    elif kind == b"ssh-dss":
        public = fields[:5]
    else:
        public = fields[:3]
    return b"".join(map(_string, public))


def _openssh_fields(fields: list[bytes]) -> list[bytes]:
    """Return the fields of a well-formed private key as OpenSSH orders them."""
    kind, values = fields[0], fields[1:]
    if kind == b"ssh-ed25519":
        return [kind, values[0][32:], values[0]]
    if kind == b"ssh-rsa":
        e, n, d, p, q = values
        return [kind, n, e, d, _inverse(q, p), p, q]
    if kind == b"ssh-dss":
        raise KeyStoreError(f"OpenSSH does not take keys of type ssh-dss any more: {_REPLACE}")
    return fields


def _inverse(number: bytes, modulus: bytes) -> bytes:
    try:
        return _mpint(pow(int.from_bytes(number, "big"), -1, int.from_bytes(modulus, "big")))[4:]
    except ValueError:
        raise KeyStoreError(f"the RSA key in {PRIVATE_KEY} is damaged: {_REPLACE}") from None


def _public_line(blob: bytes) -> str:
    import binascii

    kind = (_strings(blob) or [])[0]
    return f"{kind.decode()} {binascii.b2a_base64(blob, newline=False).decode()}"


# Making a set


def _new_set(key_type: str, name: str) -> KeySet:
    make = _new_ed25519 if key_type == "ed25519" else _new_ecdsa
    try:
        private, host_key = make(), make()
    except ImportError as error:
        raise MissingLibraryError(f"cannot make SSH keys without the Python package cryptography: {error}") from error
    line = f"{_public_line(_public_blob(private))} {name}@ocihooks\n"
    return KeySet(private, line.encode("utf-8", "surrogateescape"), host_key, HOST_KEYS[key_type])


def _new_ecdsa() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    point = b"\x04" + key.public_numbers.x.to_bytes(32, "big") + key.public_numbers.y.to_bytes(32, "big")
    return _string(b"ecdsa-sha2-nistp256") + _string(b"nistp256") + _string(point) + _mpint(key.private_value)


def _new_ed25519() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    seed = key.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return _string(b"ssh-ed25519") + _string(seed + public)


# Putting a set in place. What follows needs the lock, except for what only looks.


class _Locked:
    """Context manager: a descriptor of the directory above a key directory, in which nobody else writes meanwhile."""

    def __init__(self, directory: str, create: bool = False) -> None:
        self._directory = directory
        self._create = create
        self._descriptors: list[int] = []

    def __enter__(self) -> int:
        parent = _open_parent(self._directory, self._create)
        try:
            self._descriptors = [_lock(parent, self._directory), parent]
        except BaseException:
            posix.close(parent)
            raise
        return parent

    def __exit__(self, *_exception: object) -> None:
        for descriptor in self._descriptors:
            posix.close(descriptor)


def _lock(parent: int, directory: str) -> int:
    """Take the writers' lock; return the descriptor that holds it until it is closed.

    Raises KeyStoreError if another process holds it for too long, or the file system has no locks.
    """
    import fcntl
    import time

    path = f"{directory[: -len(_CURRENT)]}{_LOCK}"
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fd = posix.open(
                _LOCK, posix.O_RDWR | posix.O_CREAT | posix.O_NOFOLLOW | posix.O_NONBLOCK, 0o600, dir_fd=parent
            )
        except OSError as error:
            raise KeyStoreError(f"cannot open the lock {path}: {error.strerror}") from error
        try:
            _check_owner(posix.fstat(fd), path, 0o022)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_entry(fd, parent, _LOCK):  # and not one that `remove` has just unlinked
                return fd
        except BlockingIOError:
            pass
        except OSError as error:
            posix.close(fd)
            raise KeyStoreError(
                f"cannot lock {path}: {error.strerror}: its file system must be mounted with support for file locks"
            ) from error
        except BaseException:
            posix.close(fd)
            raise
        posix.close(fd)
        if time.monotonic() > deadline:
            raise KeyStoreError(
                f"another process is changing these SSH keys and holds the lock {path} for more than"
                f" {_LOCK_SECONDS:.0f} s: wait for it, or end it"
            )
        time.sleep(0.05)


def _examine(parent: int, directory: str, name: str, overwrite: bool) -> KeySet | None:
    if overwrite:
        _contents(parent, directory)
    try:
        return _load(parent, directory, name)
    except MissingKeysError:
        if not overwrite and _contents(parent, directory):
            raise KeyStoreError(f"{directory} is not empty, yet holds no SSH keys: {_REPLACE}") from None
        return None
    except KeyStoreError:
        if overwrite:
            return None
        raise


def _contents(parent: int, directory: str) -> list[str] | None:
    """Return the names of the files in the key directory, or None if it is missing.

    Raises KeyStoreError if it is nothing that may be replaced or removed.
    """
    try:
        fd = posix.open(_CURRENT, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise KeyStoreError(f"{directory} must be a directory, and is a file or a link: move it away") from None
    except OSError as error:
        raise KeyStoreError(f"cannot open {directory}: {error.strerror}") from error
    try:
        _check_owner(posix.fstat(fd), directory, 0)
        names = posix.listdir(fd)
        for name in names:
            if stat.S_ISDIR(posix.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                raise KeyStoreError(f"{directory}/{name} is a directory, and no part of a key set: move it away")
        return names
    except OSError as error:
        raise KeyStoreError(f"cannot read {directory}: {error.strerror}") from error
    finally:
        posix.close(fd)


def _install(parent: int, directory: str, keys: KeySet) -> None:
    """Put `keys` in place of whatever set there is, as the description of this module says."""
    fresh = _temporary_name()
    try:
        _write_set(parent, directory, fresh, keys)
        replaced = _put_in_place(parent, fresh)
    except BaseException:
        _discard(parent, directory, fresh)
        raise
    posix.fsync(parent)
    if replaced:
        _discard(parent, directory, replaced)


def _temporary_name() -> str:
    return _TEMPORARY + posix.urandom(8).hex()


def _write_set(parent: int, directory: str, entry: str, keys: KeySet) -> None:
    """Make the directory `entry` with the files of `keys`, on disk, and check that they can be read back."""
    posix.mkdir(entry, 0o700, dir_fd=parent)
    fd = posix.open(entry, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW, dir_fd=parent)
    try:
        _write_file(fd, PRIVATE_KEY, keys.id_dropbear)
        _write_file(fd, AUTHORIZED_KEYS, keys.authorized_keys)
        _write_file(fd, keys.host_key_name, keys.host_key)
        posix.fsync(fd)
        # A file system that keeps no modes, say, must not cost the user the old set.
        _read_set(fd, directory, "")
    finally:
        posix.close(fd)


def _write_file(parent: int, name: str, data: bytes) -> None:
    fd = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL, 0o600, dir_fd=parent)
    try:
        while data:
            data = data[posix.write(fd, data) :]
        posix.fsync(fd)
    finally:
        posix.close(fd)


def _write_client_file(parent: int, name: str, data: bytes) -> None:
    """Give the file `name` this content, unless it has it already. Whatever else has that name is replaced."""
    if _holds(parent, name, data):
        return
    fresh = f".{name}.new"
    try:
        posix.unlink(fresh, dir_fd=parent)  # of a killed writer
    except FileNotFoundError:
        pass
    _write_file(parent, fresh, data)
    _rename(parent, fresh, name)


def _holds(parent: int, name: str, data: bytes) -> bool:
    try:
        fd = posix.open(name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY, dir_fd=parent)
    except OSError:
        return False
    try:
        status = posix.fstat(fd)
        if status.st_mode != stat.S_IFREG | 0o600 or status.st_uid != posix.geteuid() or status.st_size != len(data):
            return False
        return posix.pread(fd, len(data), 0) == data
    finally:
        posix.close(fd)


def _put_in_place(parent: int, fresh: str) -> str | None:
    """Give the set `fresh` its final name; return the name under which the set that it replaced now is."""
    try:
        _rename(parent, fresh, _CURRENT)  # replaces an empty directory, too
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    else:
        return None
    if _exchange(parent, fresh, _CURRENT):
        return fresh
    _rename(parent, _CURRENT, _OLD)
    try:
        _rename(parent, fresh, _CURRENT)
    except BaseException:
        _rename(parent, _OLD, _CURRENT)
        raise
    return _OLD


def _rename(parent: int, source: str, target: str) -> None:
    posix.rename(source, target, src_dir_fd=parent, dst_dir_fd=parent)


def _exchange(parent: int, first: str, second: str) -> bool:
    """Swap two names in one step; return False where libc, kernel or file system cannot."""
    try:
        import ctypes

        renameat2 = ctypes.CDLL(None).renameat2
    except (ImportError, AttributeError):
        return False
    return bool(renameat2(parent, first.encode(), parent, second.encode(), _RENAME_EXCHANGE) == 0)


def _left_behind(directory: str) -> bool:
    """Tell whether a writer was killed here, or is at work."""
    parent = _open_parent(directory)
    try:
        return bool(_leftovers(parent))
    finally:
        posix.close(parent)


def _leftovers(parent: int) -> list[str]:
    return [entry for entry in posix.listdir(parent) if entry == _OLD or entry.startswith(_TEMPORARY)]


def _tidy(parent: int, directory: str) -> None:
    """Bring back the set that a killed writer had moved aside, and remove whatever else it left."""
    for entry in _leftovers(parent):
        if entry == _OLD and _moved_back(parent):
            continue
        _discard(parent, directory, entry)


def _moved_back(parent: int) -> bool:
    if not stat.S_ISDIR(posix.stat(_OLD, dir_fd=parent, follow_symlinks=False).st_mode):
        return False
    try:
        _rename(parent, _OLD, _CURRENT)  # only where nothing, or an empty directory, is in its place
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _discard(parent: int, directory: str, entry: str) -> None:
    """Remove the directory `entry` and the files in it."""
    if entry == _OLD:
        # This name must be free for the next one, whatever NFS may keep in the directory (see below).
        entry = _temporary_name()
        _rename(parent, _OLD, entry)
    try:
        fd = posix.open(entry, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        posix.unlink(entry, dir_fd=parent)
        return
    try:
        posix.fchmod(fd, 0o700)
        for name in posix.listdir(fd):
            posix.unlink(name, dir_fd=fd)
        posix.rmdir(entry, dir_fd=parent)
    except OSError as error:
        # NFS keeps a file that somebody has open as .nfsXXXX until it is closed; the next writer tries again.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            path = f"{directory[: -len(_CURRENT)]}{entry}"
            raise KeyStoreError(f"cannot remove {path}: {error.strerror}: remove it by hand") from error
    finally:
        posix.close(fd)


def _remove_empty_parents(directory: str) -> None:
    home = posix.open(_home(directory), posix.O_RDONLY | posix.O_DIRECTORY)
    try:
        outer = posix.open(_BELOW_HOME[0], posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW, dir_fd=home)
        try:
            posix.rmdir(_BELOW_HOME[1], dir_fd=outer)
        finally:
            posix.close(outer)
        posix.rmdir(_BELOW_HOME[0], dir_fd=home)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
    finally:
        posix.close(home)
