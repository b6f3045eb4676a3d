"""How much a session carries from container to container, each way and with delay, login included."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import delay
import lab
from containers import Plain, run
from table import Bound, Row, medians, ratio_at_least

MIB = 1 << 20
TCP_PORT = 2223
DIRECTIONS = ("up", "down")
FASTEST = "aes128-gcm@openssh.com"  # of OpenSSH's ciphers, where the processor has instructions for AES


class Line(NamedTuple):
    """What lies between the containers: its round trip in ms, and how much is copied how often."""

    words: str
    round_trip: int
    mib: int
    rounds: int
    bounds: tuple[Bound, ...]


LINES = (
    Line("no delay", 0, 1024, 5, (ratio_at_least(1.0),)),
    Line("1 ms", 1, 1024, 2, ()),
    Line("10 ms", 10, 1024, 2, (ratio_at_least(1.0),)),
)


def cipher(here: Plain, *ssh: str) -> str:
    """The cipher that is used by this command to the other container."""
    said = here.exec(*ssh, "-v", lab.address(2), "true").checked().err.decode()
    found = re.search(r"kex: client->server cipher: (\S+)", said)
    assert found is not None, said
    return found.group(1)


def copy(ssh: list[str], direction: str, host: str, count: int) -> list[str]:
    """A command that copies zeros there by ssh, or takes them from there."""
    if direction == "down":
        return [*ssh, host, f"head -c {count} /dev/zero"]
    return [
        "sh",
        "-c",
        'count=$1; shift; head -c "$count" /dev/zero | "$@"',
        "sh",
        str(count),
        *ssh,
        host,
        "cat >/dev/null",
    ]


def rows() -> Iterator[Row]:
    """Each line, each way, against OpenSSH and against no encryption at all."""
    with lab.containers(2) as made, lab.clock(made[0]) as clock:
        here, there = made
        ours = cipher(here, "ssh")
        peers = {
            f"OpenSSH's default, {cipher(here, *lab.OPENSSH)}": lab.OPENSSH,
            f"OpenSSH's fastest, {FASTEST}": [*lab.OPENSSH, "-c", FASTEST],
        }
        server = [
            "crun",
            "exec",
            "--detach",
            there.name,
            "python3",
            "-B",
            f"{lab.PLACE}/tcp.py",
            "serve",
            str(TCP_PORT),
        ]
        run(server).checked()
        for line in LINES:
            yield from line_rows(line, ours, peers, clock, (here.init(), there.init()))


def line_rows(
    line: Line, ours: str, peers: dict[str, list[str]], clock: lab.Clock, pids: tuple[int, int]
) -> Iterator[Row]:
    """The rows of one line; `ours` is our cipher."""
    laid: AbstractContextManager[None] = nullcontext()
    host = lab.address(2)
    if line.round_trip:
        laid, host = delay.line(pids, line.round_trip / 1e3), delay.ADDRESSES[1]
    count = line.mib * MIB
    with laid:
        for direction in DIRECTIONS:
            commands = {"ours": copy(["ssh"], direction, host, count)}
            commands |= {peer: copy(ssh, direction, host, count) for peer, ssh in peers.items()}
            commands["plain TCP"] = ["python3", "-B", f"{lab.PLACE}/tcp.py", direction, host, str(TCP_PORT), str(count)]
            measures = {peer: rate(clock, command, line.mib) for peer, command in commands.items()}
            rates = medians(line.rounds, measures, warm_up=False)
            mine = rates.pop("ours")
            for peer, value in rates.items():
                bounds = () if peer == "plain TCP" else line.bounds
                yield Row(f"{line.mib} MiB {direction}, {line.words}, {ours}", mine, value, "MiB/s", peer, bounds)


def rate(clock: lab.Clock, command: list[str], mib: int) -> Callable[[], float]:
    """A measure: MiB in a second."""
    return lambda: mib / clock.seconds(command)
