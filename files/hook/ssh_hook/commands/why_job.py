# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook why --job``: get the hook's messages from the nodes of a Slurm job, from a login node.

A job whose container failed has often ended when its user asks. So Slurm is also queried for ended jobs.
"""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import ARGUMENTS_WRONG, NO_CONTAINER, SYSTEM, HookError, printable, shorten
from ..log import ERROR, NAMES, PREFIX, log, one_line
from .bounded_output import MIN_TIMEOUT, Output, TooLongError, output
from .error_catalogue import CATALOGUE
from .hosts import SSH, expand, launcher
from .why import describe_messages

DEADLINE = 10.0  # seconds for all answers
_MAX_PARALLEL = 64  # hosts
_MAX_ANSWER = 1 << 20  # bytes per host: messages are few and short
_MAX_NODES = 1 << 24  # bytes from Slurm: a line for each array task
_JOB = re.compile(r"(?:job)?([0-9]{1,18}(?:_[0-9]{1,9})?)")
_MAX_MESSAGES = 16  # of one host
_NOTHING = "the hook has reported nothing about your containers"
# Each prints lines with a job's own number, not its array's, and its nodes.
_SOURCES = (
    ("squeue", "--noheader", "--states=all", "--format=%A %N"),
    ("sacct", "--noheader", "--parsable2", "--delimiter= ", "--allocations", "--format=JobIDRaw,NodeList"),
)

Message = tuple[str, str, str]  # level, kind, text


def run(text: str, as_json: bool) -> int:
    """Print the answers of the nodes of the job `text`, identical ones once; return 1 if a node did not answer.

    Raises HookError if no scheduler reports the nodes.
    """
    deadline = time.monotonic() + DEADLINE
    found = _JOB.fullmatch(text)
    if found is None:
        raise HookError(ARGUMENTS_WRONG, f"--job is '{printable(text)}': give the number of a Slurm job")
    job = found.group(1)
    numbers, hosts = _nodes(job, deadline)
    groups, failing = ask(hosts, {job, *numbers}, deadline, launcher())
    if as_json:
        print(json.dumps([_as_json(names, messages) for messages, names in groups.items()], indent=2))
    else:
        for messages, names in groups.items():
            print("\n".join([f"{shorten(names)}:", *(describe_messages(list(messages)) or [f"  {_NOTHING}"])]))
    for reason, names in failing.items():
        log(ERROR, f"{shorten(names)}: {reason}", SYSTEM)
    return 1 if failing else 0


def ask(
    hosts: list[str], jobs: set[str], deadline: float, program: str
) -> tuple[dict[tuple[Message, ...], list[str]], dict[str, list[str]]]:
    """Query all `hosts` in parallel for messages about `jobs`, through their own sshd, until `deadline` (monotonic).

    Return the hosts of each answer, and the hosts of each error. `program` is ssh_hook's path on the hosts.
    """
    with ThreadPoolExecutor(min(len(hosts), _MAX_PARALLEL)) as pool:
        done = list(pool.map(lambda host: _ask(host, deadline, program), hosts))
    # Not in the threads, whose stacks may be too small for deeply nested JSON.
    answers = [one if isinstance(one, str) else _answer(one, jobs) for one in done]
    groups: dict[tuple[Message, ...], list[str]] = {}
    failing: dict[str, list[str]] = {}
    for host, answer in zip(hosts, answers):
        if isinstance(answer, str):
            failing.setdefault(answer, []).append(host)
        else:
            groups.setdefault(answer, []).append(host)
    return groups, failing


def _nodes(job: str, deadline: float) -> tuple[set[str], list[str]]:
    """Return the job's own number and those of its tasks, and its nodes. Raises HookError."""
    is_there = False
    for source in _SOURCES:
        try:
            now = time.monotonic()
            lines, _stderr, _status = output(
                [*source, f"--jobs={job}"], now + max(MIN_TIMEOUT, (deadline - now) / 2), _MAX_NODES
            )
        except FileNotFoundError:
            continue
        except (OSError, TooLongError):
            is_there = True
            continue
        is_there = True
        fields = [line.split() for line in lines.splitlines()]
        placed = [words for words in fields if len(words) == 2 and words[0].isdigit() and "(" not in words[1]]
        if placed:
            hosts = [host for _number, nodes in placed for host in expand(nodes, f"the output of {source[0]}")]
            return {number for number, _nodes in placed}, list(dict.fromkeys(hosts))
    if not is_there:
        raise HookError(SYSTEM, "there is no squeue in PATH: run 'ssh_hook why' on the job's nodes")
    raise HookError(
        NO_CONTAINER,
        f"Slurm lists no nodes for job {job} (has it started?): see sacct --jobs {job}, or run 'ssh_hook why' on the "
        "nodes",
    )


def _ask(host: str, deadline: float, program: str) -> Output | str:
    """Return the output of ssh to `host`, or an error."""
    late = f"no answer within {DEADLINE:.0f} s"
    left = deadline - time.monotonic()
    if left < MIN_TIMEOUT:
        return late
    command = [*SSH, "-oBatchMode=yes", "--", host, program, "why", "--json"]
    try:
        return output(command, deadline, _MAX_ANSWER)
    except TimeoutError:
        return late
    except TooLongError:
        return f"its output is longer than {_MAX_ANSWER} bytes"
    except OSError as error:
        return f"cannot run ssh: {error.strerror}"


def _answer(output: Output, jobs: set[str]) -> tuple[Message, ...] | str:
    """Return the messages about `jobs` from a host, newest first, or an error."""
    stdout, stderr, status = output
    try:
        messages = _messages(json.loads(stdout), jobs)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        said = stderr.strip().splitlines()
        return printable(said[-1]) if said else f"ssh exited with status {status}"
    return tuple([*messages, *_warnings(stderr)][:_MAX_MESSAGES])


def _messages(answer: list[dict[str, Any]], jobs: set[str]) -> list[Message]:
    """Return the messages about `jobs` in an answer. Raises KeyError, TypeError, AttributeError and ValueError."""
    if not isinstance(answer, list):
        raise ValueError
    messages = [one for entry in answer if entry["job"] in jobs for one in entry["messages"]]
    found = [(str(one["level"]), str(one.get("kind", "")), one_line(str(one["text"]))) for one in messages]
    return [(level, kind if kind in CATALOGUE else "", text) for level, kind, text in found if level in NAMES]


def _warnings(stderr: str) -> list[Message]:
    """Return the warnings that the command printed on a host, such as those about misspelled annotations."""
    start = f"{PREFIX}warning: "
    lines = [line[len(start) :] for line in stderr.splitlines() if line.startswith(start)]
    return [("warning", "", one_line(line)) for line in lines]


def _as_json(names: list[str], messages: tuple[Message, ...]) -> dict[str, Any]:
    return {
        "nodes": names,
        "messages": [{"level": level, "kind": kind, "text": text} for level, kind, text in messages],
    }
