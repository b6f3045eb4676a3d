# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create, replace and remove the key sets that store.py describes and reads.

A set is only ever replaced as a whole. A new one is created in ``keys.tmp.<random>`` beside ``keys``, flushed to disk,
read back, and then put in place

* by one atomic rename, if there is no set yet;
* by renameat2(RENAME_EXCHANGE), which is also atomic, if the file system supports it;
* else (NFS, Lustre, ...) by two renames, ``keys`` to ``.keys.replaced`` and the new one to ``keys``. If ``keys`` is
  missing, between the two or after a crash, `store.load` reads ``.keys.replaced``, and the next `generate` or `remove`
  moves it back first.

So a complete set can be loaded at any time, and after a crash it is the old or the new one. Writers exclude each other
with flock(2) on ``keygen.lock``, which the kernel releases when the holder dies. (Linux NFS clients turn it into a lock
on the server, so it holds across nodes too, unless the mount says ``nolock`` or ``local_lock``.) The next writer
removes leftovers of a killed one. ``keys.lock`` is not used: for Sarus's hook the mere existence of that file means
"locked".

A user's first container creates the set without that lock (`generate_first`), since locks may not work across nodes,
and several may start at once. The set that is renamed to ``keys`` first wins. These sets are created in
``keys.first.<random>``, which other writers do not touch for an hour.

Modules that only some functions need are imported there.
"""

from __future__ import annotations

import errno

from ..fast_stdlib import TYPE_CHECKING, closing, create_file, os, stat
from .errors import (
    DISK_FULL,
    KEYS_DAMAGED,
    KEYS_UNSAFE,
    NO_KEYS,
    REPLACE,
    KeyStoreError,
    MissingKeysError,
    MissingLibraryError,
    kind_of_os,
)
from .formats import (
    HOST_KEY_ALIAS,
    key_comment,
    known_hosts,
    mpint,
    openssh_private_key,
    public_blob,
    public_line,
    string,
)
from .store import (
    AUTHORIZED_KEYS,
    BELOW_HOME,
    CURRENT,
    HOST_KEYS,
    OLD,
    PRIVATE_KEY,
    KeySet,
    check_owner,
    home_of,
    host_public_keys,
    is_entry,
    load_below,
    make_directory,
    open_directory,
    open_parent,
    read_set,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DEFAULT_KEY_TYPE = "ed25519"
KEY_TYPES = {  # of the private key, and of the host keys created with it
    "ed25519": ("ed25519", "ecdsa"),  # nodes with Sarus's hook may share the homes, and need the ECDSA host key
    "ecdsa": ("ecdsa",),  # as Sarus's hook does
}

_CLIENT = "client"
# In the client's directory.
CLIENT_KEY, CLIENT_KNOWN_HOSTS, CLIENT_CONFIG = "id_container", "known_hosts", "config"
_MAX_CLIENT = 1 << 20  # bytes of one of these files
_TEMPORARY = "keys.tmp."
_FIRST = "keys.first."
_FIRST_SECONDS = 3600.0  # then its writer is certainly gone: no start of a container takes this long
_LOCK = "keygen.lock"
_LOCK_SECONDS = 30.0
_RENAME_EXCHANGE = 2  # linux/fs.h
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)  # a directory; which of the two depends on the file system


def _failure(error: OSError, problem: str, directory: str) -> KeyStoreError:
    """Return the error for a failed change in the home above the key directory, with what to do."""
    home = home_of(directory)
    kind = kind_of_os(error, NO_KEYS)
    remedy = f": free space in {home}" if kind == DISK_FULL else ""
    if error.errno in _NOT_WRITABLE:
        remedy = f": {home} must be writable for its owner"
    return KeyStoreError(kind, f"{problem}: {error.strerror}{remedy}")


def host_key_names(key_type: str) -> list[str]:
    """Return the file names of the host keys in a new set of the type `key_type`."""
    return [HOST_KEYS[kind] for kind in KEY_TYPES[key_type]]


def examine(directory: str, name: str, overwrite: bool = False) -> KeySet | None:
    """Return the set that `generate` would find; None if there is none, or with `overwrite` an invalid one.

    Changes nothing. Raises KeyStoreError if `generate` would, as far as that can be predicted.
    """
    try:
        parent = open_parent(directory)
    except FileNotFoundError:
        return None
    with closing(parent):
        return _examine(parent, directory, name, overwrite)


def generate(
    directory: str,
    name: str,
    key_type: str = DEFAULT_KEY_TYPE,
    overwrite: bool = False,
    new_keys: Callable[[list[str]], list[bytes]] | None = None,
) -> tuple[bool, KeySet]:
    """Create a key set in `directory` unless one exists; return whether one was created, and the set.

    `new_keys` returns a new private key of each type; the default uses the package cryptography.

    An existing set of any type is kept as it is, unless `overwrite`: running containers use its keys. An incomplete or
    invalid one is an error unless `overwrite`, since it may contain the only copy of a private key. With `overwrite`,
    the files of `ssh_hook client-config` get the new keys, too.

    Raises KeyStoreError, or MissingLibraryError; an existing set is then unchanged.
    """
    if key_type not in KEY_TYPES:
        raise KeyStoreError(NO_KEYS, f"the type of SSH keys must be one of {', '.join(KEY_TYPES)}, not {key_type!r}")
    existing = examine(directory, name, overwrite)
    if existing and not overwrite and not left_behind(directory):
        return False, existing
    # Before any change, so that a missing library leaves nothing behind.
    fresh = None if existing and not overwrite else _new_set(key_type, name, new_keys)
    mask = os.umask(0o077)  # the user's umask may be stricter, and deny access to new directories
    try:
        with _Locked(directory, create=True) as parent:
            _clean_up(parent, directory)
            existing = _examine(parent, directory, name, overwrite)
            if existing and not overwrite:
                return False, existing
            fresh = fresh or _new_set(key_type, name, new_keys)
            if not existing and not overwrite:
                # A container may have created the first set in the meantime, without the lock.
                if _install_first(parent, directory, fresh, _TEMPORARY):
                    return True, fresh
                return False, load_below(parent, directory, name)
            _install(parent, directory, fresh)
            _renew_client(parent, directory, fresh, name)
            return True, fresh
    except OSError as error:
        raise _failure(error, f"cannot create SSH keys in {directory}", directory) from error
    finally:
        os.umask(mask)


def generate_first(
    directory: str,
    name: str,
    key_type: str = DEFAULT_KEY_TYPE,
    new_keys: Callable[[list[str]], list[bytes]] | None = None,
) -> bool:
    """Create a key set in `directory` if there is none at all; return False if another writer has just created one.

    `new_keys` is as in `generate`. Takes no lock and does not wait. Raises KeyStoreError, or MissingLibraryError.
    """
    if key_type not in KEY_TYPES:
        raise KeyStoreError(NO_KEYS, f"the type of SSH keys must be one of {', '.join(KEY_TYPES)}, not {key_type!r}")
    fresh = _new_set(key_type, name, new_keys)  # before any change, so that a missing library leaves nothing behind
    mask = os.umask(0o077)
    try:
        with closing(open_parent(directory, create=True)) as parent:
            return _install_first(parent, directory, fresh, _FIRST)
    except OSError as error:
        raise _failure(error, f"cannot create SSH keys in {directory}", directory) from error
    finally:
        os.umask(mask)


def removable(directory: str) -> bool:
    """Return whether `remove` would remove anything. Raises KeyStoreError if `remove` would."""
    try:
        parent = open_parent(directory)
    except FileNotFoundError:
        return False
    with closing(parent):
        left = _contents(parent, directory) is not None or bool(_leftovers(parent))
        return left or _CLIENT in os.listdir(parent)


def remove(directory: str) -> bool:
    """Remove the key set in `directory`, and then empty directories above it, up to the home.

    Return whether there was anything to remove. Raises KeyStoreError.
    """
    if not removable(directory):
        return False
    try:
        with _Locked(directory) as parent:
            _clean_up(parent, directory)
            if _contents(parent, directory) is not None:
                # Rename first: a reader must never see half a set.
                trash = _temporary_name()
                _rename(parent, CURRENT, trash)
                _remove_entry(parent, directory, trash)
            _remove_entry(parent, directory, _CLIENT)
            os.unlink(_LOCK, dir_fd=parent)
        _remove_empty_parents(directory)
    except OSError as error:
        raise _failure(error, f"cannot remove the SSH keys in {directory}", directory) from error
    return True


def left_behind(directory: str) -> bool:
    """Return whether a writer was killed in `directory`, or is at work. Raises KeyStoreError."""
    try:
        parent = open_parent(directory)
    except FileNotFoundError:
        return False
    with closing(parent):
        return bool(_leftovers(parent))


def client_directory(directory: str) -> str:
    """Return the path of the directory for a client outside containers, beside the key directory."""
    return f"{home_of(directory)}/{'/'.join(BELOW_HOME)}/{_CLIENT}"


def write_client(directory: str, files: dict[str, bytes]) -> None:
    """Write files (mode 0600) into the client's directory, in this order, each by an atomic rename.

    Other files there stay. Raises KeyStoreError.
    """
    path = client_directory(directory)
    mask = os.umask(0o077)
    try:
        with _Locked(directory) as parent:
            make_directory(parent, _CLIENT)
            with closing(open_directory(parent, _CLIENT, path)) as fd:
                os.fchmod(fd, 0o700)
                for name, data in files.items():
                    _write_client_file(fd, name, data)
    except OSError as error:
        raise _failure(error, f"cannot write into {path}", directory) from error
    finally:
        os.umask(mask)


def has_old_client(directory: str, keys: KeySet, name: str) -> bool:
    """Return whether the client's directory has a key that is not the one of `keys`. Raises KeyStoreError."""
    with closing(open_parent(directory)) as parent:
        try:
            client = open_directory(parent, _CLIENT, client_directory(directory))
        except FileNotFoundError:
            return False
        with closing(client) as fd:
            found = _client_file(fd, CLIENT_KEY)
    return found is not None and found != openssh_private_key(keys.id_dropbear, key_comment(name))


def _renew_client(parent: int, directory: str, keys: KeySet, name: str) -> None:
    """Replace the keys in the client's files, if there are any. Raises KeyStoreError."""
    path = client_directory(directory)
    try:
        client = open_directory(parent, _CLIENT, path)
    except FileNotFoundError:
        return
    import re

    host_keys = host_public_keys(keys)
    algorithms = ",".join(key.split()[0] for key in host_keys).encode()
    with closing(client) as fd:
        hosts, config = _client_file(fd, CLIENT_KNOWN_HOSTS), _client_file(fd, CLIENT_CONFIG)
        if hosts is None or config is None or _client_file(fd, CLIENT_KEY) is None:
            return
        names = dict.fromkeys(line.split(b" ")[0].decode("utf-8", "replace") for line in hosts.splitlines())
        others = [each for each in names if each not in ("", HOST_KEY_ALIAS)]
        try:
            _write_client_file(fd, CLIENT_KEY, openssh_private_key(keys.id_dropbear, key_comment(name)))
            _write_client_file(fd, CLIENT_KNOWN_HOSTS, known_hosts(host_keys, others))
            types = re.sub(rb"(?m)^( *HostKeyAlgorithms ).*", lambda found: found[1] + algorithms, config)
            _write_client_file(fd, CLIENT_CONFIG, types)
        except OSError as error:
            raise KeyStoreError(
                kind_of_os(error, NO_KEYS),
                f"the keys are new, but {path} has the old ones ({error.strerror}): run 'ssh_hook client-config'",
            ) from error


def _client_file(parent: int, name: str) -> bytes | None:
    """Return the content of a file of the client's directory; None unless it is the caller's file of mode 0600."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=parent)
    except OSError:
        return None
    with closing(fd):
        status = os.fstat(fd)
        is_own = status.st_mode == stat.S_IFREG | 0o600 and status.st_uid == os.geteuid()
        return os.pread(fd, status.st_size, 0) if is_own and status.st_size <= _MAX_CLIENT else None


# Making a set


def warm_up() -> None:
    """Import what `generate` imports, and let OpenSSL load what its first key in a process needs. Raises ImportError.

    Programs that fork for each user call it before. The key is a constant, so that the forked processes do not share
    the state of a random number generator.
    """
    import importlib

    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ed25519

    importlib.import_module("cryptography.hazmat.primitives.asymmetric.ec")
    try:
        _ed25519_file(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)))
    except UnsupportedAlgorithm:
        pass  # with OpenSSL's FIPS provider only ECDSA keys can be created


def _new_set(key_type: str, name: str, new_keys: Callable[[list[str]], list[bytes]] | None = None) -> KeySet:
    make = new_keys or _new_keys
    try:
        private, *host_keys = make([key_type, *KEY_TYPES[key_type]])
    except ImportError as error:
        raise MissingLibraryError(
            NO_KEYS, f"cannot create SSH keys without the Python package cryptography: {error}"
        ) from error
    line = f"{public_line(public_blob(private))} {key_comment(name)}\n"
    return KeySet(private, line.encode("utf-8", "surrogateescape"), dict(zip(host_key_names(key_type), host_keys)))


def _new_keys(key_types: list[str]) -> list[bytes]:
    return [_new_key(key_type) for key_type in key_types]


def _new_key(key_type: str) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return _new_ed25519() if key_type == "ed25519" else _new_ecdsa()
    except UnsupportedAlgorithm as error:  # Ed25519 with OpenSSL's FIPS provider
        raise KeyStoreError(
            NO_KEYS,
            f"the package cryptography cannot create keys of type {key_type} on this host, which may be in FIPS mode: "
            "choose ecdsa (SSH_KEY_TYPE of 'ssh_hook keygen', key_type of the module user_keys)",
        ) from error


def _new_ecdsa() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    point = b"\x04" + key.public_numbers.x.to_bytes(32, "big") + key.public_numbers.y.to_bytes(32, "big")
    return string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(point) + mpint(key.private_value)


def _new_ed25519() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return _ed25519_file(ed25519.Ed25519PrivateKey.generate())


def _ed25519_file(key: Ed25519PrivateKey) -> bytes:
    if hasattr(key, "private_bytes_raw"):  # since cryptography 40
        seed, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    else:
        from cryptography.hazmat.primitives import serialization  # which takes 20 ms

        raw, plain = serialization.Encoding.Raw, serialization.NoEncryption()
        seed = key.private_bytes(raw, serialization.PrivateFormat.Raw, plain)
        public = key.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
    return string(b"ssh-ed25519") + string(seed + public)


# Putting a set in place. All functions below that change anything need the lock, except _install_first.


class _Locked:
    """Context manager that takes the writers' lock, and returns a descriptor of the directory above a key directory."""

    def __init__(self, directory: str, create: bool = False) -> None:
        self._directory = directory
        self._create = create
        self._descriptors: list[int] = []

    def __enter__(self) -> int:
        parent = open_parent(self._directory, self._create)
        try:
            self._descriptors = [_lock(parent, self._directory), parent]
        except BaseException:
            os.close(parent)
            raise
        return parent

    def __exit__(self, *_exception: object) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)


def _lock(parent: int, directory: str) -> int:
    """Take the writers' lock; return a descriptor that holds it until it is closed.

    Raises KeyStoreError if another process holds it for `_LOCK_SECONDS`, or the file system does not support locks.
    """
    import fcntl
    import time

    path = f"{directory[: -len(CURRENT)]}{_LOCK}"
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=parent)
        except OSError as error:
            raise _failure(error, f"cannot open the lock {path}", directory) from error
        try:
            check_owner(os.fstat(fd), path, 0o022)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_entry(fd, parent, _LOCK):  # otherwise `remove` has just unlinked it
                return fd
        except BlockingIOError:
            pass
        except OSError as error:
            os.close(fd)
            raise KeyStoreError(
                NO_KEYS,
                f"cannot lock {path}: {error.strerror}: its file system must be mounted with support for file locks",
            ) from error
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if time.monotonic() > deadline:
            raise KeyStoreError(
                NO_KEYS,
                f"another process is changing these SSH keys and has held the lock {path} for more than"
                f" {_LOCK_SECONDS:.0f} s: wait for it, or end it",
            )
        time.sleep(0.05)


def _examine(parent: int, directory: str, name: str, overwrite: bool) -> KeySet | None:
    if overwrite:
        _contents(parent, directory)
    try:
        return load_below(parent, directory, name)
    except MissingKeysError:
        if overwrite or not _contents(parent, directory):
            return None
    except KeyStoreError:
        if overwrite:
            return None
        raise
    try:
        return load_below(parent, directory, name)  # again: another writer may have put its set there in the meantime
    except MissingKeysError:
        raise KeyStoreError(KEYS_DAMAGED, f"{directory} is not empty, but contains no SSH keys: {REPLACE}") from None


def _contents(parent: int, directory: str) -> list[str] | None:
    """Return the names of the files in the key directory, or None if it is missing.

    Raises KeyStoreError if the directory must not be replaced or removed.
    """
    try:
        fd = open_directory(parent, CURRENT, directory, forbidden=0)
    except FileNotFoundError:
        return None
    try:
        names = os.listdir(fd)
        for name in names:
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                raise KeyStoreError(
                    KEYS_UNSAFE, f"{directory}/{name} is a directory, which does not belong in a key set: move it away"
                )
        return names
    except OSError as error:
        raise KeyStoreError(kind_of_os(error, KEYS_UNSAFE), f"cannot read {directory}: {error.strerror}") from error
    finally:
        os.close(fd)


def _install(parent: int, directory: str, keys: KeySet) -> None:
    """Put `keys` in place of any existing set (see the module's docstring). Raises OSError and KeyStoreError."""
    fresh = _temporary_name()
    try:
        _write_set(parent, directory, fresh, keys)
        replaced = _put_in_place(parent, fresh)
    except BaseException:
        _remove_entry(parent, directory, fresh)
        raise
    os.fsync(parent)
    if replaced:
        _remove_entry(parent, directory, replaced)


def _install_first(parent: int, directory: str, keys: KeySet, prefix: str) -> bool:
    """Put `keys` in place if there is no set; return False if there is one. Raises OSError and KeyStoreError.

    `prefix` is that of the temporary directory's name.
    """
    fresh = prefix + os.urandom(8).hex()
    is_first = False
    try:
        _write_set(parent, directory, fresh, keys)
        is_first = _rename_to_free(parent, fresh, CURRENT)
    finally:
        if not is_first:
            _remove_entry(parent, directory, fresh)
    os.fsync(parent)
    return is_first


def _temporary_name() -> str:
    return _TEMPORARY + os.urandom(8).hex()


def _write_set(parent: int, directory: str, entry: str, keys: KeySet) -> None:
    """Create the directory `entry` with the files of `keys`, flush it to disk, and read it back."""
    os.mkdir(entry, 0o700, dir_fd=parent)
    with closing(os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)) as fd:
        _write_file(fd, PRIVATE_KEY, keys.id_dropbear)
        _write_file(fd, AUTHORIZED_KEYS, keys.authorized_keys)
        for name, data in keys.host_keys.items():
            _write_file(fd, name, data)
        os.fsync(fd)
        # Check before replacing the old set: the file system may ignore modes, for example.
        read_set(fd, directory, "")


def _write_file(parent: int, name: str, data: bytes) -> None:
    with closing(create_file(name, data, 0o600, parent)) as fd:
        os.fsync(fd)


def _write_client_file(parent: int, name: str, data: bytes) -> None:
    """Replace `name`, of any type, by a file with the content `data`, unless it is one already."""
    if _client_file(parent, name) == data:
        return
    fresh = f".{name}.new"
    try:
        os.unlink(fresh, dir_fd=parent)  # left by a killed writer
    except FileNotFoundError:
        pass
    _write_file(parent, fresh, data)
    _rename(parent, fresh, name)


def _put_in_place(parent: int, fresh: str) -> str | None:
    """Rename the set `fresh` to its final name; return the new name of the set that it replaced, or None."""
    if _rename_to_free(parent, fresh, CURRENT):
        return None
    if _exchange(parent, fresh, CURRENT):
        return fresh
    _rename(parent, CURRENT, OLD)
    try:
        _rename(parent, fresh, CURRENT)
    except BaseException:
        _rename(parent, OLD, CURRENT)
        raise
    return OLD


def _rename(parent: int, source: str, target: str) -> None:
    os.rename(source, target, src_dir_fd=parent, dst_dir_fd=parent)


def _rename_to_free(parent: int, source: str, target: str) -> bool:
    """Rename a directory; return False, on every file system, unless the target is missing or an empty directory."""
    try:
        _rename(parent, source, target)
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise
        return False
    return True


def _exchange(parent: int, first: str, second: str) -> bool:
    """Swap two names atomically; return False if libc, kernel or file system does not support it."""
    try:
        import ctypes

        renameat2 = ctypes.CDLL(None).renameat2
    except (ImportError, AttributeError):
        return False
    return bool(renameat2(parent, first.encode(), parent, second.encode(), _RENAME_EXCHANGE) == 0)


def _leftovers(parent: int) -> list[str]:
    return [
        entry
        for entry in os.listdir(parent)
        if entry == OLD or entry.startswith(_TEMPORARY) or (entry.startswith(_FIRST) and _is_old(parent, entry))
    ]


def _is_old(parent: int, entry: str) -> bool:
    """Return whether the last change of `entry` is longer ago than a container's start may take."""
    import time

    try:
        return time.time() - os.stat(entry, dir_fd=parent, follow_symlinks=False).st_mtime > _FIRST_SECONDS
    except FileNotFoundError:
        return False  # it is in place now


def _clean_up(parent: int, directory: str) -> None:
    """Restore the set that a killed writer moved aside, and remove its other files."""
    for entry in _leftovers(parent):
        is_old = entry == OLD and stat.S_ISDIR(os.stat(OLD, dir_fd=parent, follow_symlinks=False).st_mode)
        if not (is_old and _rename_to_free(parent, OLD, CURRENT)):
            _remove_entry(parent, directory, entry)


def _remove_entry(parent: int, directory: str, entry: str) -> None:
    """Remove the directory `entry` and the files in it."""
    if entry == OLD:
        # Rename first, so that the name is free even if NFS keeps a file in the directory (see below).
        entry = _temporary_name()
        _rename(parent, OLD, entry)
    try:
        fd = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(entry, dir_fd=parent)
        return
    try:
        os.fchmod(fd, 0o700)
        for name in os.listdir(fd):
            os.unlink(name, dir_fd=fd)
        os.rmdir(entry, dir_fd=parent)
    except OSError as error:
        # NFS keeps an open file as .nfsXXXX until it is closed; the next writer tries again.
        if error.errno not in _NOT_EMPTY:
            path = f"{directory[: -len(CURRENT)]}{entry}"
            raise KeyStoreError(
                kind_of_os(error, KEYS_UNSAFE), f"cannot remove {path}: {error.strerror}: remove it by hand"
            ) from error
    finally:
        os.close(fd)


def _remove_empty_parents(directory: str) -> None:
    with closing(os.open(home_of(directory), os.O_RDONLY | os.O_DIRECTORY)) as home:
        try:
            with closing(os.open(BELOW_HOME[0], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=home)) as outer:
                os.rmdir(BELOW_HOME[1], dir_fd=outer)
            os.rmdir(BELOW_HOME[0], dir_fd=home)
        except OSError as error:
            if error.errno not in (*_NOT_EMPTY, errno.ENOENT):
                raise
