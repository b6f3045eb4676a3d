# SPDX-License-Identifier: GPL-3.0-or-later
"""The caller's own Slurm jobs of a certain name: submit, list and cancel them.

The commands get none of the caller's options in variables, which may be those of another job.
"""

from __future__ import annotations

import os
import re
import tempfile
import time

from ..errors import NO_CONTAINER, SYSTEM, HookError, printable
from .bounded_output import Output, TooLongError, last_line, output
from .host_notation import expand

_TIMEOUT = 20.0  # seconds for an answer
_MAX_ANSWER = 1 << 20  # bytes
_OPTIONS = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_")  # variables
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
_FIELDS = "%i|%U|%T|%S|%L|%N|%j|%r"
_NUMBER = re.compile(r"([0-9]+)(?:[_+].*)?")  # of a job, a task of an array, a component of a heterogeneous job
_SUBMITTED = re.compile(r"([0-9]+)(?:;(\S+))?\s*")
_ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT".split()
)
_COMPLETING = "COMPLETING"  # its last processes are ending: how it ended is reported later
RUNNING = "RUNNING"
PENDING = "PENDING"


class SubmissionError(HookError):
    """sbatch failed.

    Attributes:
        said: what it printed.
        status: its exit status.
    """

    def __init__(self, said: str, status: int) -> None:
        super().__init__(SYSTEM, f"sbatch failed with status {status}")
        self.said = said
        self.status = status


class OwnJob:
    """A job of the caller that has not ended.

    Attributes:
        number: its ID.
        name: the job's name.
        state: such as PENDING.
        reason: why it is pending, such as Resources.
        start: its start or expected start, in local time, or N/A.
        left: time left until its limit.
        node: its first node; empty if it has none.
    """

    def __init__(self, number: str, name: str, state: str, reason: str, start: str, left: str, node: str) -> None:
        self.number = number
        self.name = name
        self.state = state
        self.reason = reason
        self.start = start
        self.left = left
        self.node = node


def find(names: list[str]) -> list[OwnJob]:
    """Return the caller's jobs with one of these names that have not ended, the first one submitted first.

    Raises HookError.
    """
    command = ["squeue", "--noheader", f"--user={os.getuid()}", f"--name={','.join(names)}", f"--format={_FIELDS}"]
    stdout, stderr, status = _ask(command)
    if status != 0:
        raise HookError(SYSTEM, f"Slurm did not list your jobs: {last_line(stderr, 'squeue failed')}")
    found = {}
    for line in stdout.splitlines():
        fields = line.split("|", 7)
        number = _NUMBER.fullmatch(fields[0].strip())
        if len(fields) < 8 or number is None:
            continue
        _number, uid, state, start, left, nodes, name, reason = (field.strip() for field in fields)
        # Another user may have a job of this name.
        if uid == str(os.getuid()) and name in names and state not in _ENDED and number[1] not in found:
            node = expand(nodes, "the output of squeue")[0] if nodes and "(" not in nodes else ""
            found[number[1]] = OwnJob(number[1], name, state, reason, start, left, node)
    return sorted(found.values(), key=lambda job: int(job.number))


def state_of(number: str) -> str:
    """Return the state in which a job has ended, such as FAILED; empty if Slurm does not report it, or not yet."""
    stdout, _stderr, status = _ask(["squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%T"])
    state = stdout.split()[0] if status == 0 and stdout.strip() else ""
    return state if state in _ENDED - {_COMPLETING} else ""


def submit(name: str, script: bytes, directory: str, log: str) -> str:
    """Submit `script` as a job called `name`, which starts in `directory` and writes to `log`; return its number.

    It does not start before the caller's other jobs of this name have ended. In `log`, Slurm replaces ``%j`` with the
    number. Raises HookError, and SubmissionError if sbatch fails.
    """
    options = ["--parsable", f"--job-name={name}", "--dependency=singleton", f"--output={log}"]
    stdout, stderr, status = _ask(["sbatch", *options], script, directory)
    if status != 0:
        raise SubmissionError(stderr, status)
    found = _SUBMITTED.fullmatch(stdout)
    if found is None:
        raise HookError(SYSTEM, f"sbatch printed '{printable(stdout)}' instead of a job ID")
    if found[2]:
        cluster = printable(found[2])
        try:
            cancel([found[1]], f"--clusters={found[2]}")
            now = "was cancelled"
        except HookError as error:
            now = f"is still there ({error}; run 'scancel --clusters={cluster} {found[1]}')"
        raise HookError(
            NO_CONTAINER, f"job {found[1]} went to the cluster {cluster}, and {now}: remove --clusters from the profile"
        )
    return found[1]


def cancel(numbers: list[str], *options: str) -> None:
    """Cancel these jobs of the caller, by scancel with `options`. Raises HookError."""
    _stdout, stderr, status = _ask(["scancel", f"--user={os.getuid()}", *options, *numbers])
    if status != 0:
        raise HookError(SYSTEM, f"cannot cancel job {', '.join(numbers)}: {last_line(stderr, 'scancel failed')}")


def _ask(command: list[str], data: bytes = b"", directory: str = "/") -> Output:
    """Run one of Slurm's commands with `data` as standard input. Raises HookError."""
    environment = {name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(_OPTIONS)}
    try:
        with tempfile.TemporaryFile() as given:
            given.write(data)
            given.seek(0)
            return output(command, time.monotonic() + _TIMEOUT, _MAX_ANSWER, environment, directory, given)
    except FileNotFoundError:
        raise HookError(
            SYSTEM, f"there is no {command[0]} in PATH: run this where you can submit jobs to Slurm"
        ) from None
    except TimeoutError:
        raise HookError(SYSTEM, f"Slurm did not answer within {_TIMEOUT:.0f} s ({command[0]})") from None
    except (OSError, TooLongError):
        raise HookError(SYSTEM, f"cannot run {command[0]}, or its output is too long") from None
