# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a job, or of a user's command: from the command line, a host file, or Slurm's list of nodes."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping

from ..errors import ARGUMENTS_WRONG, HookError, printable
from ..linux.process import is_decimal
from ..oci import host_list

MAX_HOSTS = 65536
_MAX_FILE = 1 << 24  # bytes: PBS lists a host once per process of the job
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
    parser.add_argument("--hostfile", metavar="FILE", help="read the hosts from FILE, one per line")
    parser.add_argument(
        "--port", help="the containers' port (default: the site's; at sites with a port for each job, the job's)"
    )


def selected_hosts(arguments: Namespace, settings: Mapping[str, str]) -> list[str]:
    """Return the hosts from the command line, the host file or the Slurm job, each once, in order.

    Raises HookError.
    """
    lists = [(word, "the command line") for word in arguments.hosts]
    if arguments.hostfile is not None:
        lists += [(text, where) for text, _slots, where in _read_host_file(arguments.hostfile, "--hostfile")]
    elif not lists:
        nodelist = settings.get("SLURM_JOB_NODELIST")
        if not nodelist:
            raise HookError(
                ARGUMENTS_WRONG, "no hosts: give them, or a file with --hostfile, or run this in a Slurm job"
            )
        lists = [(nodelist, "SLURM_JOB_NODELIST")]
    hosts: dict[str, None] = {}
    for text, where in lists:
        hosts.update(dict.fromkeys(expand(text, where)))
        if len(hosts) > MAX_HOSTS:
            raise HookError(ARGUMENTS_WRONG, f"{where} has more than {MAX_HOSTS} hosts")
    if not hosts:
        raise HookError(ARGUMENTS_WRONG, f"--hostfile {printable(arguments.hostfile)} lists no host")
    return list(hosts)


def read_slots(path: str, source: str) -> Iterator[tuple[str, int | None]]:
    """Yield the hosts of a host file, as often as it lists them, each with its slots if the line has any.

    `source` is where the path comes from, for messages. Raises HookError, also for a file without hosts.
    """
    known: dict[str, list[str]] = {}
    for text, slots, where in _read_host_file(path, source):
        if text not in known:
            known[text] = expand(text, where)
        for host in known[text]:
            yield host, slots
    if not known:
        raise HookError(ARGUMENTS_WRONG, f"{source} {printable(path)} lists no host")


def add_up(counted: Iterable[tuple[str, int | None]]) -> dict[str, int]:
    """Return the slots of each host, in order of first appearance: the sum, with 1 for None."""
    slots: dict[str, int] = {}
    for host, count in counted:
        slots[host] = slots.get(host, 0) + (1 if count is None else count)
    return slots


def whole_nodes(processes: dict[str, int], count_cpus: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return the slots of a job's hosts: its processes there or, if each host has one, to start a container, its CPUs.

    `count_cpus` may return nothing.
    """
    return processes if max(processes.values()) > 1 else count_cpus() or processes


def is_count(text: str) -> bool:
    """Return whether `text` is a number of processes or CPUs, at least 1."""
    return is_decimal(text, 5) and int(text) > 0


def required(environment: Mapping[str, str], name: str) -> str:
    """Return the value of a scheduler's variable. Raises HookError if it is not set, or empty."""
    value = environment.get(name)
    if not value:
        raise HookError(ARGUMENTS_WRONG, f"{name} is not set: give the hosts with --hosts")
    return value


def expand_slots(text: str, where: str) -> list[tuple[str, int | None]]:
    """Return the hosts of a list as `expand` does; ``:SLOTS`` may follow each item. Raises HookError."""
    hosts: list[tuple[str, int | None]] = []
    for item in host_list.split_items(text, where, ARGUMENTS_WRONG):
        name, slots = _split_slots(item)
        found = host_list.expand_item(name, where, ARGUMENTS_WRONG, MAX_HOSTS, len(hosts))
        hosts += [(host, slots) for host in found]
    return hosts


def _read_host_file(path: str, source: str) -> Iterator[tuple[str, int | None, str]]:
    """Yield host, slots (None if there are none) and position of each line. Comments begin with ``#``.

    Slots are written as in MPICH, ``node1:4``, or as in Open MPI and DeepSpeed, ``node1 slots=4``.
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
    return host_list.expand(text, where, ARGUMENTS_WRONG, MAX_HOSTS)
