# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ssh_hook on other nodes, through their own sshd. Their answers are untrusted: time and bytes are limited."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..errors import printable
from ..log import PREFIX
from .bounded_output import MIN_TIMEOUT, Output, TooLongError, output

T = TypeVar("T")

SUFFIX = ".container"  # of a node's name: the user's container there, through the node's own sshd
# For running ssh_hook on a node. No connection sharing: a master process could keep the output open after ssh exits.
# OpenSSH before 7.6 has no RemoteCommand.
SSH = (
    *("ssh", "-T", "-x", "-a", "-oClearAllForwardings=yes", "-oControlMaster=no"),
    *("-oIgnoreUnknown=RemoteCommand", "-oRemoteCommand=none"),
)
SRUN = "srun"  # the other way to reach a node
_MAX_PARALLEL = 64  # hosts
_MAX_ANSWER = 1 << 20  # bytes of one host: some thousand containers


def add_way(parser: ArgumentParser) -> None:
    """Add the argument for how a node is reached: --via."""
    parser.add_argument(
        "--via",
        choices=("ssh", SRUN),
        default="ssh",
        help="how to reach the node: through its own sshd, or through a step of the job if users cannot log in to "
        "nodes",
    )


def launcher() -> str:
    """Return the path of ssh_hook, which is the same on all nodes."""
    return os.path.abspath(sys.argv[0])


def command(node: str, words: list[str], *options: str) -> list[str]:
    """Return the command that runs ssh_hook with `words` on `node`; `options` are of ssh."""
    return [*SSH, *options, "--", node, launcher(), *words]


def ask(
    hosts: list[str], words: list[str], read: Callable[[Any], T], seconds: float, deadline: float = math.inf
) -> list[tuple[T, list[str]] | str]:
    """Run ssh_hook with `words` on all `hosts` in parallel; return the answer of each, with its warnings, or an error.

    `read` makes the answer from the JSON that a host prints. It may raise KeyError, TypeError, AttributeError and
    ValueError. Each host has `seconds`, and all have until `deadline` (monotonic).
    """
    with ThreadPoolExecutor(min(len(hosts), _MAX_PARALLEL)) as pool:
        outputs = list(pool.map(lambda host: _ask(command(host, words, "-oBatchMode=yes"), seconds, deadline), hosts))
    # Not in the threads, whose stacks may be too small for deeply nested JSON.
    return [one if isinstance(one, str) else _answer(one, read) for one in outputs]


def _ask(command: list[str], seconds: float, deadline: float) -> Output | str:
    late = f"no answer within {seconds:.0f} s"
    now = time.monotonic()
    if deadline - now < MIN_TIMEOUT:
        return late
    try:
        return output(command, min(deadline, now + seconds), _MAX_ANSWER)
    except TimeoutError:
        return late
    except TooLongError:
        return f"its output is longer than {_MAX_ANSWER} bytes"
    except OSError as error:
        return f"cannot run ssh: {error.strerror}"


def _answer(output: Output, read: Callable[[Any], T]) -> tuple[T, list[str]] | str:
    stdout, stderr, status = output
    lines = stderr.strip().splitlines()
    try:
        answer = read(json.loads(stdout))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return printable(lines[-1]) if lines else f"ssh exited with status {status}"
    warning = f"{PREFIX}warning: "
    return answer, [line[len(warning) :] for line in lines if line.startswith(warning)]
