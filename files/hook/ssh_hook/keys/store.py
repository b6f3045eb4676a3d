# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key store: one user's SSH keys in ``<base>/<name>/.oci-hooks/ssh/keys``.

A *set* is these files in that directory, in Dropbear's own formats:

``id_dropbear``
    the private key that the user's client logs in with;
``authorized_keys``
    its public key, one line;
``dropbear_ed25519_host_key``, ``dropbear_ecdsa_host_key``
    the private keys of the user's own server: both, or one of them. Sarus's hook creates and reads only the second.

``<base>/<name>/.oci-hooks/ssh/client`` contains the files for an OpenSSH client outside containers, with the private
key in OpenSSH's format. It is removed with the set.

All functions act with the caller's effective ids, which must be the user's: so they work on an NFS home with
root_squash, and a link or FIFO planted by the user can harm no one else. ``<base>/<name>`` may be a link, which only
the site can create; below it no link is followed. Every directory must belong to the user and not be writable by
others.

writer.py creates, replaces and removes sets; readers need no lock. If ``keys`` is missing, ``.keys.replaced`` is read.

This file is imported at every start of a container, so it imports few modules, and none from the hook or Ansible.
"""

from __future__ import annotations

import errno

from ..fast_stdlib import closing, os, read_all, stat
from .errors import KEYS_DAMAGED, KEYS_UNSAFE, NO_KEYS, REPLACE, KeyStoreError, MissingHomeError, MissingKeysError
from .formats import blob_fingerprint, check_private_key, public_blob, public_line

PRIVATE_KEY = "id_dropbear"
AUTHORIZED_KEYS = "authorized_keys"
HOST_KEYS = {  # the file of each type; clients prefer the first
    "ed25519": "dropbear_ed25519_host_key",
    "ecdsa": "dropbear_ecdsa_host_key",
}

BELOW_HOME = (".oci-hooks", "ssh")
CURRENT = "keys"
OLD = ".keys.replaced"  # a name that no user would give to a backup

_PRIVATE_KEY_LIMIT = 16 * 1024  # bytes; an RSA key of 16384 bits has 9 KiB
_AUTHORIZED_KEYS_LIMIT = 64 * 1024


class KeySet:
    """The content of one key set.

    Attributes:
        id_dropbear, authorized_keys: the contents of these files.
        host_keys: the contents of the host keys' files by name, at least one, in the order of HOST_KEYS.
    """

    __slots__ = ("authorized_keys", "host_keys", "id_dropbear")

    def __init__(self, id_dropbear: bytes, authorized_keys: bytes, host_keys: dict[str, bytes]) -> None:
        self.id_dropbear = id_dropbear
        self.authorized_keys = authorized_keys
        self.host_keys = host_keys


def key_directory(base_dir: str, name: str) -> str:
    """Return the path of the key directory of the user `name`: ``<base_dir>/<name>/.oci-hooks/ssh/keys``.

    Raises KeyStoreError if the base is not an absolute path, or the name cannot be a directory name.
    """
    if not base_dir.startswith("/") or not _is_printable(base_dir):
        raise KeyStoreError(
            NO_KEYS, f"the base directory of the users' keys must be an absolute path, not {base_dir!r}"
        )
    if name in ("", ".", "..") or "/" in name or not _is_printable(name):
        raise KeyStoreError(NO_KEYS, f"{name!r} cannot be the name of a user who has SSH keys")
    return "/".join((base_dir.rstrip("/"), name, *BELOW_HOME, CURRENT))


def load(directory: str, name: str) -> KeySet:
    """Read and check the key set of the user `name` in `directory`, the result of `key_directory`.

    Raises MissingKeysError if there is none (the text says how to make one), and KeyStoreError if
    it is incomplete, malformed, not the user's own, or open to others.
    """
    try:
        parent = open_parent(directory)
    except FileNotFoundError:
        raise _missing(directory, name) from None
    with closing(parent):
        return load_below(parent, directory, name)


def public_key(keys: KeySet) -> str:
    """Return the user's public key as OpenSSH writes it, without a comment: ``<type> <base64>``."""
    return public_line(public_blob(keys.id_dropbear))


def host_public_keys(keys: KeySet) -> list[str]:
    """Return the public keys of the user's containers, the preferred one first, each ``<type> <base64>``."""
    return [public_line(public_blob(key)) for key in keys.host_keys.values()]


def fingerprint(keys: KeySet) -> str:
    """Return the fingerprint of the user's public key as ``ssh-keygen -l`` writes it: ``SHA256:<base64>``."""
    return blob_fingerprint(public_blob(keys.id_dropbear))


# Directories and files


def _is_printable(text: str) -> bool:
    """Return whether `text` can be part of a path and of a one-line message."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return not any(character < " " or character == "\x7f" for character in text)


def _missing(directory: str, name: str) -> MissingKeysError:
    return MissingKeysError(NO_KEYS, f"{name} has no SSH keys in {directory}: run 'ssh_hook keygen'")


def home_of(directory: str) -> str:
    """Return ``<base>/<name>`` of a key directory's path. Raises KeyStoreError if it is not such a path."""
    tail = "/".join(("", *BELOW_HOME, CURRENT))
    if not directory.startswith("/") or not directory.endswith(tail):
        raise KeyStoreError(NO_KEYS, f"{directory} is not the path of a key directory: it must end in {tail}")
    return directory[: -len(tail)]


def open_parent(directory: str, create: bool = False) -> int:
    """Open the directory that holds the key directory; return its descriptor.

    With `create`, missing directories below the home are created. Raises FileNotFoundError if one is missing,
    MissingHomeError if the home is, else KeyStoreError.
    """
    path = home_of(directory)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        missing_or_other = MissingHomeError if error.errno == errno.ENOENT else KeyStoreError
        advice = ": if it is on FUSE, mount it with allow_other" if error.errno == errno.EACCES else ""
        raise missing_or_other(NO_KEYS, f"cannot open the user's directory {path}: {error.strerror}{advice}") from error
    try:
        check_owner(os.fstat(fd), path, 0o022)
        for step in BELOW_HOME:
            path = f"{path}/{step}"
            if create:
                make_directory(fd, step)
            below = open_directory(fd, step, path)
            os.close(fd)
            fd = below
    except BaseException:
        os.close(fd)
        raise
    return fd


def make_directory(parent: int, name: str) -> None:
    """Create the directory `name` in `parent` with mode 0700, unless it exists. Raises OSError."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass


def open_directory(parent: int, name: str, path: str, forbidden: int = 0o022) -> int:
    """Open the directory `name`, not a link, in `parent`. Raises FileNotFoundError, or KeyStoreError naming `path`.

    `forbidden` are mode bits that must not be set.
    """
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        raise
    except NotADirectoryError:
        raise KeyStoreError(KEYS_UNSAFE, f"{path} must be a directory, but is a file or a link: move it away") from None
    except OSError as error:
        raise KeyStoreError(KEYS_UNSAFE, f"cannot open {path}: {error.strerror}") from error
    try:
        check_owner(os.fstat(fd), path, forbidden)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_owner(status: os.stat_result, path: str, forbidden: int) -> None:
    """Raise KeyStoreError unless the caller owns the file with `status` and its mode has no bit of `forbidden`."""
    if status.st_uid != os.geteuid():
        raise KeyStoreError(
            KEYS_UNSAFE, f"{path} belongs to uid {status.st_uid}, but must belong to uid {os.geteuid()}"
        )
    if status.st_mode & forbidden & 0o022:
        raise KeyStoreError(KEYS_UNSAFE, f"{path} is writable by other users: run chmod go-w {path}")
    if status.st_mode & forbidden:
        raise KeyStoreError(KEYS_UNSAFE, f"{path} is readable by other users: run chmod go= {path}")


def _read_file(parent: int, name: str, directory: str, limit: int, forbidden: int) -> bytes | None:
    """Return the content of the file `name` in the set `parent`, or None if there is none. Raises KeyStoreError.

    `limit` is in bytes; `forbidden` are mode bits that must not be set.
    """
    path = f"{directory}/{name}"
    try:
        # O_NONBLOCK: a FIFO planted here must not block the start of a container.
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise KeyStoreError(
                KEYS_UNSAFE, f"{path} must be a regular file, but is a link or a socket: {REPLACE}"
            ) from None
        raise KeyStoreError(KEYS_UNSAFE, f"cannot open {path}: {error.strerror}") from error
    with closing(fd):
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise KeyStoreError(KEYS_UNSAFE, f"{path} must be a regular file: {REPLACE}")
            check_owner(status, path, forbidden)
            data = read_all(fd, limit)
        except OSError as error:
            raise KeyStoreError(KEYS_UNSAFE, f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit:
        raise KeyStoreError(KEYS_DAMAGED, f"{path} is larger than {limit} bytes: {REPLACE}")
    return data


# Reading a set


def load_below(parent: int, directory: str, name: str) -> KeySet:
    """Read a key set as `load` does, with the directory above `directory` open as `parent`."""
    # A writer may replace the set during the read: then read the new one.
    for _attempt in range(3):
        for entry in (CURRENT, OLD):
            try:
                fd = open_directory(parent, entry, f"{directory[: -len(CURRENT)]}{entry}")
            except FileNotFoundError:
                continue
            with closing(fd):
                try:
                    return read_set(fd, directory, name)
                except MissingKeysError:
                    continue
                except KeyStoreError:
                    if is_entry(fd, parent, entry):
                        raise
    raise _missing(directory, name)


def is_entry(fd: int, parent: int, entry: str) -> bool:
    """Return whether `entry` in `parent` is still the file that was opened as `fd`."""
    try:
        present = os.stat(entry, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = os.fstat(fd)
    return (opened.st_dev, opened.st_ino) == (present.st_dev, present.st_ino)


def read_set(fd: int, directory: str, name: str) -> KeySet:
    """Read and check the files in the directory `fd`. Raises MissingKeysError if it has none, or KeyStoreError."""
    private = _read_file(fd, PRIVATE_KEY, directory, _PRIVATE_KEY_LIMIT, 0o077)
    authorized = _read_file(fd, AUTHORIZED_KEYS, directory, _AUTHORIZED_KEYS_LIMIT, 0o022)
    host_keys = _read_host_keys(fd, directory)
    if private is None and authorized is None and not host_keys:
        raise _missing(directory, name)
    if private is None:
        raise _incomplete(directory, PRIVATE_KEY)
    if authorized is None:
        raise _incomplete(directory, AUTHORIZED_KEYS)
    if not host_keys:
        raise _incomplete(directory, " or ".join(HOST_KEYS.values()))
    check_private_key(private, f"{directory}/{PRIVATE_KEY}")
    if not _has_public_key(authorized):
        raise KeyStoreError(KEYS_DAMAGED, f"{directory}/{AUTHORIZED_KEYS} contains no public key: {REPLACE}")
    return KeySet(private, authorized, host_keys)


def _read_host_keys(fd: int, directory: str) -> dict[str, bytes]:
    """Return the contents of the host key files in the directory `fd`, keyed by name. Raises KeyStoreError."""
    found = {}
    for key_type, name in HOST_KEYS.items():
        data = _read_file(fd, name, directory, _PRIVATE_KEY_LIMIT, 0o077)
        if data is not None:
            kind = check_private_key(data, f"{directory}/{name}").decode()
            if key_type not in kind:
                raise KeyStoreError(KEYS_DAMAGED, f"{directory}/{name} contains a key of type {kind}: {REPLACE}")
            found[name] = data
    return found


def _incomplete(directory: str, file_name: str) -> KeyStoreError:
    return KeyStoreError(KEYS_DAMAGED, f"the SSH keys in {directory} are incomplete, {file_name} is missing: {REPLACE}")


def _has_public_key(text: bytes) -> bool:
    """Return whether an authorized_keys file has a line other than blank ones and comments, and no binary data."""
    return b"\0" not in text and any(
        line and not line.startswith(b"#") for line in (line.strip() for line in text.split(b"\n"))
    )
