# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh_hook status``: show the caller's containers with an SSH daemon, on this node or on others."""

from __future__ import annotations

import json
import os
import socket
import time
from argparse import ArgumentParser, Namespace
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import SYSTEM, HookError, printable
from ..health.login import Login, attempt, find_client
from ..health.unserved import find_running, unserved
from ..keys import store
from ..keys.errors import KeyStoreError
from ..keys.store import KeySet
from ..log import ERROR, WARNING, log
from ..node.caller import caller, is_root_without_keys
from ..node.inventory import Daemon, find_all_daemons
from ..schedulers import nodes
from ..schedulers.host_notation import expand

DEADLINE = 30  # seconds for one host's answer
_LOGINS, _MAX_LOGINS = 10.0, 8  # seconds for all logins on one host
_MAX_WARNINGS = 8  # of one host
_MAX_NUMBER = 2**40  # numbers include seconds since the epoch
_COLUMNS = ("NODE", "PORT", "CONTAINER", "PID", "ENGINE", "JOB", "SINCE", "SESSIONS", "NETWORK")


DESCRIPTION = "Show your containers that have an SSH daemon: port, start time, sessions, engine, job."
EXAMPLE = "ssh_hook status --hosts 'gpu[001-016]'"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--hosts",
        metavar="LIST",
        help="query these hosts over ssh, such as node1 or gpu[001-128], instead of this node",
    )


def run(arguments: Namespace, settings: dict[str, str]) -> int:
    """Print the containers; return 1 if a host did not answer. Raises HookError."""
    failing: dict[str, str] = {}
    if arguments.hosts is None:
        answers = [status(settings)]
    else:
        answers, failing = status_of_hosts(expand(arguments.hosts, "--hosts"))
    if arguments.json:
        print(json.dumps(answers if arguments.hosts is not None else answers[0], indent=2))
    elif answers:
        print(table(answers))
    for host, reason in failing.items():
        log(ERROR, f"{host}: {reason}", SYSTEM)
    return 1 if failing else 0


def status(settings: dict[str, str]) -> dict[str, Any]:
    """Return the status of this node: its name, and the caller's keys and containers.

    Warns of containers that refuse the caller's login.
    """
    keys, problem, name = None, "", ""
    try:
        directory, name = caller(settings)
        keys = None if is_root_without_keys(directory) else store.load(directory, name)
    except KeyStoreError as error:
        problem = str(error)
    daemons = find_all_daemons()
    for sentence in unserved(find_running(), daemons):
        log(WARNING, sentence)
    shown = {daemon.pid: _as_json(daemon) for daemon in daemons}  # before this command's own logins are sessions
    problems = {} if keys is None else _try_logins(daemons, keys, name, settings)
    for daemon in daemons:
        if problems.get(daemon.pid):
            called = daemon.label or f"with pid {daemon.pid}"
            log(
                WARNING,
                f"cannot log in to the container {printable(called)}, port {daemon.port}: {problems[daemon.pid]}",
            )
    return {
        "node": socket.gethostname(),
        "keys": "" if keys is None else store.fingerprint(keys),
        "keys_problem": problem,
        "containers": [{**entry, "login_problem": problems.get(pid)} for pid, entry in shown.items()],
    }


def status_of_hosts(hosts: list[str]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Ask `hosts` for their status; return the answers, and the errors of the other hosts.

    Repeats the warnings of the command there.
    """
    found: list[dict[str, Any]] = []
    failing: dict[str, str] = {}
    for host, answer in zip(hosts, nodes.ask(hosts, ["status", "--json"], _checked, DEADLINE)):
        if isinstance(answer, str):
            failing[host] = answer
            continue
        status, warnings = answer
        found.append({**status, "node": host})
        for warning in warnings[:_MAX_WARNINGS]:
            log(WARNING, f"{host}: {warning}")
    return found, failing


def table(answers: list[dict[str, Any]]) -> str:
    """Return the answers for people to read."""
    rows = [_COLUMNS, *(_row(answer["node"], entry) for answer in answers for entry in answer["containers"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    if len(rows) == 1:
        nodes = ", ".join(printable(str(answer["node"])) for answer in answers[:8]) + (", ..." if answers[8:] else "")
        lines = [f"you have no container with an SSH daemon on {nodes}: run 'ssh_hook why' there to see what failed"]
    problems = {answer["keys_problem"] for answer in answers}
    keys = {answer["keys"] for answer in answers if answer["keys"]}
    return "\n".join([*(f"keys: OK ({one})" for one in keys), *(f"keys: {one}" for one in problems if one), *lines])


def _try_logins(daemons: list[Daemon], keys: KeySet, name: str, settings: dict[str, str]) -> dict[int, str]:
    """Log in as `name`, with the user's keys, to each container that is reachable from this node.

    Return an error, or an empty string on success, for each daemon's pid. Warns if there is no SSH client.
    """
    own = [daemon for daemon in daemons if os.getuid() != 0 or daemon.uid == 0]  # root sees other users', too
    reached = [daemon for daemon in own if daemon.places and not daemon.has_own_network]
    if not reached:
        return {}
    try:
        client = find_client(settings)
    except HookError as error:
        log(WARNING, str(error), error.kind)
        return {}
    deadline = time.monotonic() + _LOGINS

    def log_in(daemon: Daemon) -> str:
        check, reason = Login(client, keys, name, daemon.port), ""
        for address in daemon.addresses:
            try:
                reason = attempt(address, daemon.port, deadline, check)
            except OSError as error:
                reason = f"cannot be checked: {error.strerror}"
            if not reason:
                break
        return reason

    with ThreadPoolExecutor(_MAX_LOGINS) as pool:
        return dict(zip([daemon.pid for daemon in reached], pool.map(log_in, reached)))


def _as_json(daemon: Daemon) -> dict[str, Any]:
    return {
        "pid": daemon.pid,
        "uid": daemon.uid,
        "owner": daemon.owner,
        "port": daemon.port,
        "addresses": [address for address, _port in daemon.places if address],
        "since": daemon.since,
        "sessions": daemon.sessions(),
        "network": "own" if daemon.has_own_network else "node",
        "engine": daemon.engine,
        "id": daemon.id,
        "name": daemon.name,
        "job": daemon.task or daemon.job,
    }


def _row(node: str, entry: dict[str, Any]) -> tuple[str, ...]:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["since"]))
    called = entry["name"] or entry["id"][:12] or "-"
    cells = (
        node,
        str(entry["port"] or "-"),
        called,
        str(entry["pid"]),
        entry["engine"] or "-",
        entry["job"] or "-",
        since,
        str(entry["sessions"]),
        entry["network"],
    )
    return tuple(printable(cell) for cell in cells)


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    """Return `answer` with only the members that `table` needs. Raises KeyError, TypeError and ValueError."""
    texts = ("engine", "id", "name", "job", "network")
    numbers = ("pid", "uid", "port", "since", "sessions")
    containers = [
        {
            **{name: printable(str(entry[name])) for name in texts},
            **{name: _number(entry[name]) for name in numbers},
            "addresses": [printable(str(address)) for address in entry["addresses"]],
        }
        for entry in answer["containers"]
    ]
    names = ("node", "keys", "keys_problem")
    return {**{name: printable(str(answer[name])) for name in names}, "containers": containers}


def _number(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < _MAX_NUMBER:
        raise ValueError
    return value
