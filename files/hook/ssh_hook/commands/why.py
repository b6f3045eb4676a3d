# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook why``: show the hook's last messages about the caller's containers, on this node or on those of a job."""

from __future__ import annotations

import json
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import Any

from ..errors import ARGUMENTS_WRONG, SYSTEM, HookError, printable, shorten
from ..health.error_catalogue import CATALOGUE, plain
from ..health.unserved import Running, find_running, unserved
from ..log import ERROR, NAMES, WARNING, log, one_line
from ..node import last_messages, places
from ..node.inventory import find_daemons
from ..node.last_messages import SavedMessages
from ..schedulers import nodes, slurm
from ..schedulers.job_names import split_step

_NOTHING = (
    "the hook has reported no error or warning about your containers on this node since it booted: if a container "
    "has no SSH here, run 'ssh_hook doctor'"
)
_SHOWN = 12  # characters of an id, as engines print it
_JOB_SECONDS = 10.0  # for all nodes of a job
_MAX_MESSAGES = 16  # of one node of a job
_NO_MESSAGE = "the hook has reported nothing about your containers"
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))

Message = tuple[str, str, str]  # level, kind, text

DESCRIPTION = "Show the last error and the last warnings of the hook for your containers, and what to do."
EXAMPLE = "ssh_hook why --job 1234"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--job", help="show the messages from all nodes of this Slurm job (over ssh) instead of this node"
    )


def run(arguments: Namespace, _settings: dict[str, str]) -> int:
    """Print the caller's last error and warnings, newest first; as root, those of all users on the node.

    Return 1 if a node of --job did not answer. Raises HookError.
    """
    if arguments.job is not None:
        return of_job(arguments.job, arguments.json)
    found = sorted(find(os.getuid()), key=lambda item: item[1].time, reverse=True)
    running = find_running()
    for sentence in unserved(running, find_daemons() if running else []):
        log(WARNING, sentence)
    if arguments.json:
        print(json.dumps([_as_json(uid, known) for uid, known in found], indent=2))
    elif found:
        now = time.time()
        print(_summary([known for _uid, known in found], running, now))
        print("\n".join(_describe(uid, known, now) for uid, known in found))
    else:
        print(_NOTHING)
    return 0


def find(uid: int) -> list[tuple[int, SavedMessages]]:
    """Return each saved file about the user `uid`, with its user's uid."""
    if uid == 0:
        candidates = [(owner, path) for owner in places.users() for path in last_messages.roots_paths(owner)]
    else:
        candidates = [(uid, path) for path in last_messages.paths(uid)]
    found = []
    for owner, path in candidates:
        try:
            known = last_messages.read(path)
        except HookError as error:  # the other files may have the answer
            log(WARNING, str(error), error.kind)
            continue
        if known is not None:
            found.append((owner, known))
    return found


def _as_json(uid: int, known: SavedMessages) -> dict[str, object]:
    return {
        "uid": uid,
        "time": known.time,
        "container": known.container,
        "bundle": known.bundle,
        "job": known.job,
        "messages": _messages_as_json(known.messages),
    }


def _summary(found: list[SavedMessages], running: list[Running], now: float) -> str:
    """Return a summary: the containers and ages of the messages in `found`, newest first, and what is running."""
    ids = list(dict.fromkeys(known.container or "(unknown)" for known in found))
    age = _age(now - found[0].time)
    text = f"messages about container {shorten([one[:_SHOWN] for one in ids])} (newest: {age} ago)"
    others = [each.label() for each in running if each.id not in ids]
    return one_line(f"{text}; no message about {shorten(others)}" if others else text)


def _describe(uid: int, known: SavedMessages, now: float) -> str:
    """Return the text lines; for root they name the container's user."""
    whose = f" of uid {uid}" if os.getuid() == 0 else ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(known.time))
    title = f"{_age(now - known.time)} ago ({when}), container {known.container or '(unknown)'}{whose}"
    bundle = [f"  bundle: {one_line(known.bundle)}"] if known.bundle else []
    return "\n".join([one_line(title), *bundle, *_describe_messages(known.messages)])


def _describe_messages(messages: Iterable[Message]) -> list[str]:
    """Return a line for each message (level, kind, text), and what the user, or root, should do about its kind."""
    lines = []
    for level, kind, text in messages:
        lines.append(f"  {level}: {one_line(text)}" + (f" [{kind}]" if kind else ""))
        entry = CATALOGUE.get(kind)
        if entry is not None:
            lines.append(f"    what to do: {plain(entry.admin if os.getuid() == 0 else entry.user)}")
    return lines


def _age(seconds: float) -> str:
    for size, name in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "a moment"


def of_job(text: str, as_json: bool) -> int:
    """Print the messages of all nodes of the Slurm job `text`, identical ones once; return 1 if a node did not answer.

    A job whose container failed has often ended when its user asks. Raises HookError if Slurm reports no nodes.
    """
    deadline = time.monotonic() + _JOB_SECONDS
    job, step = split_step(text) or ("", "")
    if not job or step:
        raise HookError(ARGUMENTS_WRONG, f"--job is '{printable(text)}': give the number of a Slurm job")
    numbers, hosts = slurm.find_nodes_even_ended(job, deadline)
    groups, failing = _ask(hosts, {job, *numbers}, deadline)
    if as_json:
        answers = [{"nodes": names, "messages": _messages_as_json(messages)} for messages, names in groups.items()]
        print(json.dumps(answers, indent=2))
    else:
        for messages, names in groups.items():
            print("\n".join([f"{shorten(names)}:", *(_describe_messages(messages) or [f"  {_NO_MESSAGE}"])]))
    for reason, names in failing.items():
        log(ERROR, f"{shorten(names)}: {reason}", SYSTEM)
    return 1 if failing else 0


def _ask(
    hosts: list[str], jobs: set[str], deadline: float
) -> tuple[dict[tuple[Message, ...], list[str]], dict[str, list[str]]]:
    """Ask `hosts` for messages about `jobs`; return the hosts of each answer, and the hosts of each error."""
    groups: dict[tuple[Message, ...], list[str]] = {}
    failing: dict[str, list[str]] = {}
    answers = nodes.ask(hosts, ["why", "--json"], lambda answer: _messages(answer, jobs), _JOB_SECONDS, deadline)
    for host, answer in zip(hosts, answers):
        if isinstance(answer, str):
            failing.setdefault(answer, []).append(host)
            continue
        messages, warnings = answer  # such as those about misspelled annotations
        messages += [("warning", "", one_line(warning)) for warning in warnings]
        groups.setdefault(tuple(messages[:_MAX_MESSAGES]), []).append(host)
    return groups, failing


def _messages(answer: list[dict[str, Any]], jobs: set[str]) -> list[Message]:
    """Return the messages about `jobs` in an answer. Raises KeyError, TypeError, AttributeError and ValueError."""
    if not isinstance(answer, list):
        raise ValueError
    messages = [one for entry in answer if entry["job"] in jobs for one in entry["messages"]]
    found = [(str(one["level"]), str(one.get("kind", "")), one_line(str(one["text"]))) for one in messages]
    return [(level, kind if kind in CATALOGUE else "", text) for level, kind, text in found if level in NAMES]


def _messages_as_json(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [{"level": level, "kind": kind, "text": text} for level, kind, text in messages]
