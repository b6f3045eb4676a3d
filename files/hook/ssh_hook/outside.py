# SPDX-License-Identifier: GPL-3.0-or-later
"""createRuntime, seen from the host: the daemon's record."""

from __future__ import annotations

from . import record, userfiles
from .errors import CONTAINER_ENDED, HookError
from .log import INFO, log
from .watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .child import Child
    from .identity import Identity
    from .owner import Owner
    from .target import Target


def accompany(target: Target, owner: Owner, words: int, child: Child) -> None:
    """Record the daemon, and have it started. Raises HookError; then there is no daemon. `words` is what Watch takes."""
    watch = _watch(words, child)
    try:
        daemon = record.record_of(
            watch.identity,
            target.init,
            owner.keeper,
            target.container.annotations.pidfile_host,
            target.bundle,
            record.directory_of_copies(target.engine.runner),
        )
    except OSError as error:
        raise _unrecorded(target, error) from None
    try:
        _write(daemon, target, owner.keeper)
        child.go_on()
        watch.wait_until_listening(target.port)
        if target.init is not None and not target.init.is_alive():
            raise HookError(CONTAINER_ENDED)
    except BaseException:
        watch.take_back()
        record.remove(target.bundle, daemon)
        if daemon.pidfile_host:
            userfiles.remove_pidfile(daemon.pidfile_host, daemon.pid, owner.keeper)
        raise
    log(INFO, f"the SSH daemon of {owner.name} listens on port {target.port} (pid {daemon.pid})")


def _watch(words: int, child: Child) -> Watch:
    numbers = child.daemon()
    try:
        return Watch(words, *numbers)
    except OSError:
        child.give_up()  # it has ended: nothing of a process is denied to the hook before that


def _write(daemon: record.Record, target: Target, keeper: Identity) -> None:
    try:
        record.write(daemon, target.bundle)
        if daemon.pidfile_host:
            userfiles.write_pidfile(daemon.pidfile_host, daemon.pid, keeper)
    except OSError as error:
        raise _unrecorded(target, error) from None


def _unrecorded(target: Target, error: OSError) -> HookError:
    return HookError(f"cannot record the SSH daemon in {target.path}: {error.strerror}")
