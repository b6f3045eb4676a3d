# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's keys, as a container's sessions take them."""

from __future__ import annotations

from . import keystore, userfiles
from .errors import HookError
from .identity import ActingAs

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
    """Read the user's keys, as the user. Raises HookError."""
    path = container.annotations.authorize_ssh_key
    try:
        directory = keystore.key_directory(settings.base_dir, owner.name)
        with ActingAs(owner.file_owner):
            keys = keystore.load(directory, owner.name)
            public_keys = userfiles.read_public_keys(path) if path else b""
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


def _openssh_key(keys: keystore.KeySet) -> bytes:
    try:
        return keystore.openssh_private_key(keys)
    except keystore.KeyStoreError:
        return b""  # of a kind that OpenSSH does not take; Dropbear does
