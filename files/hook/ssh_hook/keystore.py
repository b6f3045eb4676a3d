# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key store: one user's SSH keys in ``<base>/<name>/.oci-hooks/ssh/keys``.

A *set* is three files in that directory, in Dropbear's own formats:

``id_dropbear``
    the private key that the user's client logs in with;
``authorized_keys``
    its public key, one line;
``dropbear_ecdsa_host_key`` or ``dropbear_ed25519_host_key``
    the private key of the user's own server. If both are there the first one counts.

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

import errno
import fcntl
import os
import stat

KEY_TYPES = ("ecdsa", "ed25519")  # the first is the default
PRIVATE_KEY = "id_dropbear"
AUTHORIZED_KEYS = "authorized_keys"
HOST_KEYS = {"ecdsa": "dropbear_ecdsa_host_key", "ed25519": "dropbear_ed25519_host_key"}


class KeyStoreError(Exception):
    """Something is wrong with a key set; the text is one whole sentence, ready for the user."""


class MissingKeysError(KeyStoreError):
    """There is no key set at all."""


class MissingLibraryError(KeyStoreError):
    """Keys cannot be made, because the Python package cryptography cannot be imported."""


class KeySet:
    """The contents of one key set.

    ``id_dropbear``, ``authorized_keys`` and ``host_key`` are the files' bytes, ``host_key_name``
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

    Raises KeyStoreError for a base that is not an absolute path, or a name that is no file name.
    """
    raise NotImplementedError


def load(directory: str, name: str) -> KeySet:
    """Read and check the key set in `directory`, which `key_directory` gave for the user `name`.

    Raises MissingKeysError if there is none (the text says how to make one), and KeyStoreError if
    it is incomplete, malformed, not the user's own, or open to others.
    """
    raise NotImplementedError


def exists(directory: str, name: str) -> bool:
    """Tell whether `directory` holds a complete, valid set: as `load`, but False if there is none."""
    raise NotImplementedError


def generate(directory: str, name: str, key_type: str = KEY_TYPES[0], overwrite: bool = False) -> tuple[bool, KeySet]:
    """Make sure that `directory` holds a key set; return whether one was made, and the set.

    An existing set is kept, whatever its type, unless `overwrite`. An incomplete or broken one is
    an error unless `overwrite`: it may hold the only copy of a private key.

    Raises KeyStoreError, or MissingLibraryError, and leaves what was there as it was.
    """
    raise NotImplementedError


def remove(directory: str, name: str) -> bool:
    """Remove the key set in `directory`, and the directories above it that are then empty.

    Returns whether there was anything to remove.
    """
    raise NotImplementedError


def public_key(keys: KeySet) -> str:
    """Return the user's public key as OpenSSH writes it, without a comment: ``<type> <base64>``."""
    raise NotImplementedError


def fingerprint(keys: KeySet) -> str:
    """Return the fingerprint of the user's public key as ``ssh-keygen -l`` writes it: ``SHA256:<base64>``."""
    raise NotImplementedError
