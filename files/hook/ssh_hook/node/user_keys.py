# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's keys for the sessions of a container.

The provisioner reads them with the user's effective ids. Missing ones are made by a disposable process that has become
the user.
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING
from ..keys import store
from ..keys.formats import key_comment, openssh_private_key
from ..linux import disposable_process
from ..linux.identity import ActingAs

if TYPE_CHECKING:
    from ..oci.oci_config import Container
    from ..oci.settings import Settings
    from .owner import Owner


class Credentials:
    """The keys of one user.

    Attributes:
        id_dropbear, authorized_keys: the contents of these files.
        host_keys: the contents of the host key files by name, preferred first.
        host_public_keys: each ``<type> <base64>``, in the same order.
        openssh_key: the user's private key in OpenSSH's format.
    """

    def __init__(self, name: str, keys: store.KeySet, public_keys: bytes) -> None:
        """Raises KeyStoreError for a damaged RSA key.

        `name` is the user's; `public_keys` are additional lines for authorized_keys.
        """
        self.id_dropbear = keys.id_dropbear
        self.host_keys = keys.host_keys
        self.host_public_keys = store.host_public_keys(keys)
        self.openssh_key = openssh_private_key(keys.id_dropbear, key_comment(name))
        self.authorized_keys = keys.authorized_keys.rstrip(b"\n") + b"\n" + public_keys


def read_credentials(container: Container, owner: Owner, settings: Settings) -> Credentials:
    """Read the key set and the public keys named in the annotation, with the user's credentials.

    Raises MissingKeysError if there is no key set, and HookError.
    """
    directory = store.key_directory(settings.base_dir, owner.name)
    with ActingAs(owner.file_owner):
        keys = store.load(directory, owner.name)
        return Credentials(owner.name, keys, _read_public_keys(container.annotations.authorize_ssh_key))


def _read_public_keys(path: str) -> bytes:
    """Return the public keys in the file that the annotation names, if it names one. Raises HookError."""
    if not path:
        return b""

    from .userfiles import read_public_keys  # here: few containers have the annotation

    return read_public_keys(path)


def make_keys(owner: Owner, settings: Settings) -> bool:
    """Create the user's key set in a process that permanently runs as the user; return False if another did it first.

    Raises HookError.
    """
    from ..keys import writer  # here: only a user's first container needs it
    from ..keys.dropbearkey import Dropbearkey

    directory = store.key_directory(settings.base_dir, owner.name)
    key_type = settings.key_type or writer.DEFAULT_KEY_TYPE

    def make() -> bytes:
        new_keys = Dropbearkey(settings.dropbear_dir).new_keys
        return b"made" * writer.generate_first(directory, owner.name, key_type, new_keys)

    return bool(disposable_process.run(make, f"cannot create SSH keys in {directory}", owner.file_owner))
