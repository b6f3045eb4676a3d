# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's keys, as a container's sessions take them."""

from __future__ import annotations

from . import disposable, keystore, userfiles
from .errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .container import Container
    from .owner import Owner
    from .settings import Settings


class Login:
    """What sessions of a container take of its user.

    Attributes: name, of the user; id_dropbear, host_key and authorized_keys, the contents of these files; host_key_name, the
    name of the host key's; host_public_key, a line; openssh_key, the user's private key for the image's own client, empty
    where there is none.
    """

    def __init__(
        self,
        name: str,
        id_dropbear: bytes,
        host_key: bytes,
        host_key_name: str,
        host_public_key: str,
        openssh_key: bytes,
        authorized_keys: bytes,
    ) -> None:
        self.name = name
        self.id_dropbear = id_dropbear
        self.host_key = host_key
        self.host_key_name = host_key_name
        self.host_public_key = host_public_key
        self.openssh_key = openssh_key
        self.authorized_keys = authorized_keys


def read_login(container: Container, owner: Owner, settings: Settings) -> Login:
    """Read the user's keys, by a disposable process that is the user's. Raises HookError."""
    path = container.annotations.authorize_ssh_key
    try:
        directory = keystore.key_directory(settings.base_dir, owner.name)
        answer = disposable.run(
            lambda: _read(directory, owner.name, path), f"cannot read the SSH keys in {directory}", owner.file_owner
        )
        keys, public_keys = _take(answer)
        keystore.check_contents(keys, directory)
        return Login(
            owner.name,
            keys.id_dropbear,
            keys.host_key,
            keys.host_key_name,
            keystore.host_public_key(keys),
            _openssh_key(keys),
            keys.authorized_keys.rstrip(b"\n") + b"\n" + public_keys,
        )
    except keystore.KeyStoreError as error:
        raise HookError(str(error)) from None


def _read(directory: str, name: str, path: str) -> bytes:
    """The user's keys, and the public keys in the file `path` if there is one, as strings of the SSH protocol."""
    try:
        keys = keystore.load(directory, name)
    except keystore.KeyStoreError as error:
        raise HookError(str(error)) from None
    public_keys = userfiles.read_public_keys(path) if path else b""
    fields = keys.id_dropbear, keys.authorized_keys, keys.host_key, keys.host_key_name.encode(), public_keys
    return b"".join(map(keystore.string, fields))


def _take(answer: bytes) -> tuple[keystore.KeySet, bytes]:
    """What `_read` gave, as a process of the user's says."""
    fields = keystore.strings(answer) or []
    if len(fields) != 5:
        raise HookError("the SSH keys cannot be read: the process that reads them was changed")
    id_dropbear, authorized_keys, host_key, name, public_keys = fields
    return keystore.KeySet(id_dropbear, authorized_keys, host_key, name.decode("ascii", "replace")), public_keys


def _openssh_key(keys: keystore.KeySet) -> bytes:
    try:
        return keystore.openssh_private_key(keys)
    except keystore.KeyStoreError:
        return b""  # of a kind that OpenSSH does not take; Dropbear does
