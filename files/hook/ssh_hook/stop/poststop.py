# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage poststop: end the recorded daemon and its sessions, and no other process."""

from __future__ import annotations

from ..errors import SYSTEM, HookError, LateError
from ..fast_stdlib import TYPE_CHECKING, closing, os
from ..linux.process import pid_is_taken
from ..log import DEBUG, ERROR, log
from ..node import record
from ..node.places import ENTRIES
from .ending import end_recorded

if TYPE_CHECKING:
    from ..oci.state import State


def poststop(state: State) -> None:
    """End the daemon that is recorded in the bundle, and its sessions; do nothing without a record.

    Raises HookError if a process stays alive, or the record cannot be trusted.
    """
    try:
        bundle = os.open(state.bundle, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise HookError(SYSTEM, f"cannot open the bundle {state.bundle}: {error.strerror}") from None
    with closing(bundle):
        known = record.read(bundle)
        if known is None:
            log(DEBUG, f"no SSH daemon is recorded in {state.bundle}")
        else:
            try:
                end_recorded(known)
            except LateError as error:
                if pid_is_taken(known.pid):
                    raise  # nobody can tell whether that is the daemon: its record stays, and a sweep asks again
                log(ERROR, str(error), error.kind)  # it has exited; the user only blocks the removal of the pidfile
            if known.door and not known.door.startswith(f"{ENTRIES}/"):
                from ..node.own_places import remove_door  # here: a rootful engine's container needs none

                remove_door(known.door)
        record.remove(bundle, known)
