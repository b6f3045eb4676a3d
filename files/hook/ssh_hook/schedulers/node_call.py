# SPDX-License-Identifier: GPL-3.0-or-later
"""A call by the scheduler on a node, as root: it ends with 0 within two seconds, whatever fails or hangs."""

from __future__ import annotations

import os

from .. import system_log
from ..errors import ARGUMENTS_WRONG, SYSTEM, HookError, LateError, describe_failure, kind_of, printable
from ..fast_stdlib import TYPE_CHECKING
from ..linux import disposable_process
from ..linux.job_names import is_name
from ..log import ERROR, log, one_line
from . import jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_WORK, _REPORT = 1.0, 0.5  # seconds; in total less than 2 with the interpreter's start and a child that exits late


def bounded(work: Callable[[], None], whose: str, environment: Mapping[str, str]) -> int:
    """Run `work`, as root, in a process that is left behind if it takes too long; return 0.

    A failure is reported for the job in the variables `environment`; `whose` begins the message.
    """
    job = jobs.raw_name(environment)
    what = f"{whose} {f'job {printable(job)}' if job else 'the job'}"

    def report() -> bytes:
        log(ERROR, failure, kind)
        fields = {"kind": kind, "job": job if is_name(job) else ""}
        system_log.send(system_log.ERROR, one_line(f"{failure} [{kind}]"), fields)
        return b""

    def answer() -> bytes:
        _require_root()
        work()
        return b""

    try:
        disposable_process.run(answer, what, None, timeout=_WORK)
        return 0
    except LateError:
        kind, failure = SYSTEM, f"{what} timed out after {_WORK:.0f} s: /run hangs, or the node is overloaded"
    except Exception as error:
        said = describe_failure(error)
        kind, failure = kind_of(error), said if said.startswith(what) else f"{what}: {said}"
    try:
        disposable_process.run(report, what, None, (2,), _REPORT)  # the system log may hang too
    except Exception:
        pass  # there is no other place to report it
    return 0


def _require_root() -> None:
    """Raise HookError unless the caller is root."""
    if os.geteuid() != 0:
        raise HookError(
            ARGUMENTS_WRONG,
            "only root can write job records: slurmd's Prolog and Epilog, or a PBS hook, must call this",
        )
