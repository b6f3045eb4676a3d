# SPDX-License-Identifier: GPL-3.0-or-later
"""Where entries of daemons (record.py) are kept for sweeps and the inventory: written at a start, removed at the end.

A rootful engine's are root's: one below /var/lib, which survives a power failure, and one for the container's user
(places.py). Those of a rootless engine, of enroot and of an attach are the user's own (own_places.py).
"""

from __future__ import annotations

import errno

from ..errors import SYSTEM
from ..fast_stdlib import TYPE_CHECKING, closing
from ..log import INFO, WARNING, log
from . import own_places, places

if TYPE_CHECKING:
    from .record import Record

_FULL = (errno.ENOSPC, errno.EDQUOT)


def directories(uid: int) -> list[str]:
    """Return the directories in which an engine of `uid`, an id of the initial user namespace, keeps its own entries.

    A job's is the user's only while she has a job.
    """
    return own_places.for_entries(uid) if uid else [places.ROOT_COPIES]


def keep(known: Record, engine_uid: int, in_job: bool) -> None:
    """Keep an entry, and note in it where. It never fails: without it, a container only cannot be found.

    `engine_uid` is that of the engine in the initial user namespace. `in_job`: whether the container ends with a job.
    """
    if engine_uid == 0:
        _keep_for_user(known)
        _keep_copy(known)
        return
    job, session, temporary = own_places.for_entries(engine_uid)
    # The end of a job, or a logout, removes its directory, but perhaps not the container: then the other file counts.
    choices = [("copy", job if in_job else session), ("copy", session if in_job else job), ("entry", temporary)]
    problems = []
    for name, path in choices:
        if known.texts[name]:
            continue
        known.texts[name] = f"{path}/{known.name()}"
        try:
            _keep_own(known, path)
        except OSError as error:
            known.texts[name] = ""
            problems.append(f"{path}: {error.strerror or 'other users can write to it'}")
    if known.texts["copy"] or known.texts["entry"]:
        return
    log(
        WARNING,
        f"'ssh_hook status' and 'connect' will not find the container, since no entry can be made in "
        f"{', or in '.join(problems)}: log in to this node, or have the administrator remove what is in the way",
        SYSTEM,
    )


def _keep_own(known: Record, path: str) -> None:
    """Write the entry into the user's directory `path`; make the directory, or room in it. Raises OSError."""
    with closing(own_places.open_own(path, create=True)) as directory:
        try:
            own_places.write(known, directory)
        except OSError as error:
            from .entry_reader import collect  # here: few starts need room

            if error.errno not in _FULL or not collect(path):
                raise
            own_places.write(known, directory)


def _keep_for_user(known: Record) -> None:
    """Keep the entry for the container's user. A sweep removes doors that no such entry names."""
    owner = known.texts["owner"]
    if not owner:
        return
    try:
        known.texts["entry"] = places.add(int(owner), known.data())
    except OSError as error:
        log(INFO, f"no entry for the container's user in {places.ENTRIES}: {error.strerror}")


def _keep_copy(known: Record) -> None:
    """Keep root's copy, which survives a power failure."""
    known.texts["copy"] = f"{places.ROOT_COPIES}/{known.name()}"
    try:
        with closing(own_places.open_own(places.ROOT_COPIES, create=True)) as directory:
            own_places.write(known, directory)
    except OSError as error:
        log(INFO, f"cannot copy the record to {known.texts['copy']}: {error.strerror}")
