# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook sweep``: end daemons and remove files of containers whose runtime was killed before poststop ran.

As root it also cleans up below /run/ocihooks-ssh (stop/janitor.py).
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..errors import LateError
from ..log import ERROR, log
from ..node import entries
from ..node.engine import Engine
from ..node.entry_reader import collect_own
from ..stop import janitor
from ..stop.orphans import sweep

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
    host_uid = Engine().host_uid
    collected = failures = 0
    for path in entries.directories(host_uid):
        some, failed = sweep(path)
        collected, failures = collected + some, failures + failed
    if host_uid == 0:
        failures += janitor.clean_up()
    else:
        failures += collect_own(host_uid, ERROR)
    if arguments.metrics is not None:
        from ..health import metrics  # here: most sweeps need no metrics

        try:
            metrics.update(arguments.metrics, collected, failures)
        except LateError as error:
            log(ERROR, str(error), error.kind)
            failures += 1
    return INCOMPLETE if failures else 0
