# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook why``: show the hook's last messages about the caller's containers, on this node or on those of a job."""

from __future__ import annotations

import json
import os
import time
from argparse import ArgumentParser, Namespace

from ..errors import HookError, shorten
from ..log import WARNING, log, one_line
from ..node import last_messages, places
from ..node.inventory import find_daemons
from ..node.last_messages import SavedMessages
from .error_catalogue import CATALOGUE, plain
from .unserved import Running, find_running, unserved

_NOTHING = (
    "the hook has reported no error or warning about your containers on this node since it booted: if a container "
    "has no SSH here, run 'ssh_hook doctor'"
)
_SHOWN = 12  # characters of an id, as engines print it
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


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
        from . import why_job  # here: most calls are for this node

        return why_job.run(arguments.job, arguments.json)
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
        "messages": [{"level": level, "kind": kind, "text": text} for level, kind, text in known.messages],
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
    return "\n".join([one_line(title), *bundle, *describe_messages(known.messages)])


def describe_messages(messages: list[tuple[str, str, str]]) -> list[str]:
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
