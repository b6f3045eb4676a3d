# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook sweep``: end daemons and remove files of containers whose runtime was killed before poststop ran.

As root it also removes the records of jobs whose Epilog did not run.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace

from ..errors import HOME_HANGS, LateError
from ..linux.syscalls import set_name
from ..log import ERROR, log
from ..node import entries
from ..node.door_collection import collect_doors
from ..node.engine import Engine
from ..stop.lost_jobs import remove_lost_jobs
from ..stop.sweep import NAME, is_held_up, sweep, sweep_entries_of_users

DESCRIPTION = """Clean up after containers whose runtime was killed: stop their SSH daemons and remove their files.
Root cleans up after all rootful containers, and a user after their own. A timer runs this."""
EXAMPLE = "ssh_hook sweep --verbose"
INCOMPLETE = 3  # an exit status: users can cause it, so root's systemd unit does not treat it as a failure


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--metrics",
        metavar="FILE",
        help="write metrics, such as counts of daemons and failures, to FILE",
    )


def run(arguments: Namespace, _settings: dict[str, str]) -> int:
    """Clean up after this user's ended containers; return the exit status, INCOMPLETE if anything is left.

    Raises HookError if the directory of copies cannot be used, or the metrics cannot be written.
    """
    set_name(NAME)
    host_uid = Engine().host_uid
    collected = failures = 0
    for path in entries.directories(host_uid):
        some, failed = sweep(path)
        collected, failures = collected + some, failures + failed
    if host_uid == 0:
        sweep_entries_of_users()
    if not is_held_up():
        failures += collect_doors(host_uid, ERROR)
    if arguments.metrics is not None and not is_held_up():
        from . import metrics  # here: most sweeps need no metrics

        try:
            metrics.update(arguments.metrics, collected, failures)
        except LateError as error:
            log(ERROR, str(error), error.kind)
            failures += 1
    if host_uid == 0:
        failures += remove_lost_jobs(time.time())  # last: it waits for a Prolog or Epilog that has the lock
    if is_held_up():
        log(
            ERROR,
            "a root process of this or an earlier sweep is blocked on a user's file system: until that process exits, "
            "a sweep still stops daemons, but does not remove root's files or write metrics",
            HOME_HANGS,
        )
        failures += 1
    return INCOMPLETE if failures else 0
