# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of a user's command: from the command line, a host file, or Slurm."""

from __future__ import annotations

import itertools
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping

from ..errors import ARGUMENTS_WRONG, HookError, printable
from ..oci.host_list import is_host
from ..oci.settings import default_port, parse_port

SUFFIX = ".container"  # of a node's name, for the user's container there by way of the node's own sshd
SSH = ("ssh", "-T", "-x", "-a", "-oClearAllForwardings=yes", "-oRemoteCommand=none")  # to run ssh_hook on a node
MAX_HOSTS = 65536
_MAX_FILE = 1 << 24  # bytes: PBS names a host once for each process of a job
_ITEM = re.compile(r"(?:[^\[\],]|\[[^\[\]]*\])+")  # of a list; commas in brackets do not separate items
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_SLOTS = re.compile(r"([^:]+):([0-9]{1,5})")
_SLOTS_WORD = re.compile(r"slots=([0-9]{1,5})")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments that choose hosts and their port: HOST..., --hostfile and --port."""
    parser.add_argument(
        "hosts",
        nargs="*",
        metavar="HOST",
        help="a name or an address, or a list such as gpu[001-128]; without any, the hosts of the Slurm job",
    )
    parser.add_argument("--hostfile", metavar="FILE", help="read the hosts from FILE, one a line")
    parser.add_argument("--port", help="the containers' port, if it is not the site's")


def launcher() -> str:
    """Return the path of ssh_hook, which is the same on all nodes."""
    return os.path.abspath(sys.argv[0])


def selected_port(arguments: Namespace, settings: Mapping[str, str]) -> int:
    """Return the port of containers: that of --port, or the site's. Raises HookError."""
    return default_port(settings) if arguments.port is None else parse_port(arguments.port, "--port", ARGUMENTS_WRONG)


def selected_hosts(arguments: Namespace, settings: Mapping[str, str]) -> list[str]:
    """Return the hosts that the command line, the host file or the Slurm job names, each once, in order.

    Raises HookError.
    """
    return _select_hosts(arguments.hosts, arguments.hostfile, settings.get("SLURM_JOB_NODELIST"))


def _select_hosts(words: list[str], file: str | None, nodelist: str | None) -> list[str]:
    lists = [(word, "the command line") for word in words]
    if file is not None:
        lists += [(text, where) for text, _slots, where in _read_host_file(file, "--hostfile")]
    elif not words:
        if not nodelist:
            raise HookError(
                ARGUMENTS_WRONG, "no hosts: name them, or a file with --hostfile, or run this in a Slurm job"
            )
        lists = [(nodelist, "SLURM_JOB_NODELIST")]
    hosts: dict[str, None] = {}
    for text, where in lists:
        hosts.update(dict.fromkeys(expand(text, where)))
        if len(hosts) > MAX_HOSTS:
            raise _too_many(where)
    if not hosts:
        raise HookError(ARGUMENTS_WRONG, f"--hostfile {printable(file or '')} names no host")
    return list(hosts)


def read_slots(path: str, source: str) -> Iterator[tuple[str, int | None]]:
    """Yield the hosts of a host file, as often as it names them, each with its slots where the line has any.

    `source` says in messages where the path comes from. Raises HookError, also for a file that names no host.
    """
    known: dict[str, list[str]] = {}
    for text, slots, where in _read_host_file(path, source):
        if text not in known:
            known[text] = expand(text, where)
        for host in known[text]:
            yield host, slots
    if not known:
        raise HookError(ARGUMENTS_WRONG, f"{source} {printable(path)} names no host")


def expand_slots(text: str, where: str) -> list[tuple[str, int | None]]:
    """Return the hosts of a list as `expand` does; ``:SLOTS`` may follow each item. Raises HookError."""
    hosts: list[tuple[str, int | None]] = []
    for item in _items(text, where):
        name, slots = _split_slots(item)
        hosts += [(host, slots) for host in _expand_item(name, where, MAX_HOSTS - len(hosts))]
    return hosts


def _read_host_file(path: str, source: str) -> Iterator[tuple[str, int | None, str]]:
    """Yield the hosts, the slots (None without any) and the place of each line. Comments begin with ``#``.

    Slots are written as MPICH has them, ``node1:4``, or as Open MPI and DeepSpeed do, ``node1 slots=4``.
    """
    name = printable(path)
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise HookError(ARGUMENTS_WRONG, f"cannot read {source} {name}: {reason}") from None
    if len(data) > _MAX_FILE:
        raise HookError(ARGUMENTS_WRONG, f"{source} {name} is larger than {_MAX_FILE} bytes")
    for number, line in enumerate(data.decode("utf-8", "backslashreplace").splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            hosts, slots = _split_slots(words[0])
            for option in filter(None, map(_SLOTS_WORD.fullmatch, words[1:])):
                slots = int(option.group(1))
            yield hosts, slots, f"{name} line {number}"


def _split_slots(word: str) -> tuple[str, int | None]:
    found = _SLOTS.fullmatch(word)
    return (found.group(1), int(found.group(2))) if found else (word, None)


def expand(text: str, where: str) -> list[str]:
    """Return the hosts of a list in Slurm's notation: ``login1,gpu[001-003,7],rack[1-2]n[0-1]``.

    Raises HookError, which begins with `where`, for a malformed list, an invalid host name, or too many hosts.
    """
    hosts: list[str] = []
    for item in _items(text, where):
        hosts += _expand_item(item, where, MAX_HOSTS - len(hosts))
    return hosts


def _items(text: str, where: str) -> Iterator[str]:
    """Yield the items of a list between its commas. Raises HookError."""
    position = 0
    while True:
        item = _ITEM.match(text, position)
        if item is None:
            raise HookError(ARGUMENTS_WRONG, f"{where} has '{printable(text)}': that is no host and no list of hosts")
        yield item.group()
        position = item.end() + 1
        if position > len(text):
            return
        if text[position - 1] != ",":
            raise HookError(ARGUMENTS_WRONG, f"{where} has '{printable(text)}': its brackets do not match")


def _expand_item(item: str, where: str, limit: int) -> list[str]:
    parts = re.split(r"\[([^\]]*)\]", item)  # alternately literal text and the inside of brackets
    choices: list[list[str]] = []
    count = 1
    for index, part in enumerate(parts):
        choice = [part] if index % 2 == 0 else _numbers(part, item, where, limit)
        count *= len(choice)
        if count > limit:
            raise _too_many(where)
        choices.append(choice)
    hosts = []
    for host in map("".join, itertools.product(*choices)):
        if not is_host(host):
            raise HookError(ARGUMENTS_WRONG, f"{where} has '{printable(item)}': that is no name or address of a host")
        hosts.append(host)
    return hosts


def _numbers(ranges: str, item: str, where: str, limit: int) -> list[str]:
    """Return the numbers in ``001-003,7``, each as wide as the first of its range is written."""
    numbers: list[str] = []
    for text in ranges.split(","):
        found = _RANGE.fullmatch(text)
        first = int(found.group(1)) if found else 0
        last = int(found.group(2) or first) if found else -1
        if found is None or last < first:
            raise HookError(
                ARGUMENTS_WRONG, f"{where} has '{printable(item)}': '{printable(text)}' is no range of numbers"
            )
        if last - first >= limit - len(numbers):
            raise _too_many(where)
        width = len(found.group(1))
        numbers += [f"{number:0{width}d}" for number in range(first, last + 1)]
    return numbers


def _too_many(where: str) -> HookError:
    return HookError(ARGUMENTS_WRONG, f"{where} has more than {MAX_HOSTS} hosts")
