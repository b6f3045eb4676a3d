# SPDX-License-Identifier: GPL-3.0-or-later
"""createRuntime, seen from the host: the user, the user's keys, the daemon's record."""

from __future__ import annotations

from . import keystore, record, userfiles
from .child import Child, Login
from .engine import outside_user
from .errors import HookError
from .identity import ActingAs, Identity
from .log import INFO, log
from .owner import find_owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .container import Container
    from .owner import Owner
    from .settings import Settings
    from .target import Target


def accompany(target: Target, child: Child) -> None:
    """Tell the child what it has to know of the user, and record the daemon. Raises HookError; then there is no daemon."""
    container, settings = target.container, target.settings
    engine = target.engine
    owner = find_owner(outside_user(target), engine, settings.passwd_file)
    log.stdout = userfiles.log_descriptor(container.annotations.log_stdout, owner.keeper, log.stdout)
    log.stderr = userfiles.log_descriptor(container.annotations.log_stderr, owner.keeper, log.stderr)
    try:
        child.introduce(_login(container, owner, settings))
    except keystore.KeyStoreError as error:
        raise HookError(str(error)) from None
    try:
        daemon = record.record_of(
            child.daemon(),
            target.init,
            owner.keeper,
            container.annotations.pidfile_host,
            target.bundle,
            record.directory_of_copies(engine.runner),
        )
        _keep(daemon, target.bundle, owner.keeper, child)
    except OSError as error:
        raise HookError(f"cannot record the SSH daemon in {target.path}: {error.strerror}") from None
    log(INFO, f"the SSH daemon of {owner.name} listens on port {target.port} (pid {daemon.pid})")


def _login(container: Container, owner: Owner, settings: Settings) -> Login:
    """Read the user's keys, as the user. Raises HookError and KeyStoreError."""
    directory = keystore.key_directory(settings.base_dir, owner.name)
    with ActingAs(owner.keeper):
        keys = keystore.load(directory, owner.name)
    authorized_keys = keys.authorized_keys.rstrip(b"\n") + b"\n"
    if container.annotations.authorize_ssh_key:
        authorized_keys += userfiles.read_public_keys(container.annotations.authorize_ssh_key, owner.keeper)
    return Login(
        owner.name,
        keys.id_dropbear,
        keys.host_key,
        keys.host_key_name,
        keystore.host_public_key(keys),
        _openssh_key(keys),
        authorized_keys,
    )


def _openssh_key(keys: keystore.KeySet) -> bytes:
    try:
        return keystore.openssh_private_key(keys)
    except keystore.KeyStoreError:
        return b""  # of a kind that OpenSSH does not take; Dropbear does


def _keep(daemon: record.Record, bundle: int, keeper: Identity, child: Child) -> None:
    """Record the daemon, and have it started. Raises HookError and OSError; then there is no trace of it."""
    try:
        record.write(daemon, bundle)
        if daemon.pidfile_host:
            userfiles.write_pidfile(daemon.pidfile_host, daemon.pid, keeper)
        child.go_on()
    except BaseException:
        child.take_back()
        record.remove(bundle, daemon)
        if daemon.pidfile_host:
            userfiles.remove_pidfile(daemon.pidfile_host, daemon.pid, keeper)
        raise
