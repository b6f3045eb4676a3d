"""What a session's shell makes of the container's variables: the very bytes that its process has, whatever they are."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from containers import PATH, Container, wait_for
from shells import SHELLS, with_shell
from starter import Start

COUNT = 300
SEED = int(os.environ.get("QUOTING_SEED") or random.SystemRandom().randrange(1 << 32))
LENGTHS = (100_000, 65_536, 4096, 1)  # of the longest values, in bytes
PIECES = [
    *(
        b"'",
        b"''",
        b'"',
        b"\\",
        b"\\'",
        b"$",
        b"$(id)",
        b"${X0}",
        b"`id`",
        b"$'\\n'",
        b"!",
        b"!!",
        b"#",
        b"~",
        b"~root",
    ),
    *(b"\n", b"\r\n", b"\t", b" ", b"  ", b"\x01", b"\x1b[0m", b"\x7f", b"\x80", b"\xff", b"\xc3", b"\xed\xa0\x80"),
    *(b"%s", b"%", b"-n", b"--", b"=", b":", b";", b"&", b"|", b"<", b">", b"(", b")", b"{a,b}", b"[a-z]", b"*", b"?"),
    *(b"\xc3\xa9", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xe2\x80\xa8", b"\xc2\x85", b"\nEOF\n", b"export A", b"x"),
]


def values() -> dict[str, bytes]:
    """Other ones at each run; each test's name has the seed, which the environment variable QUOTING_SEED sets."""
    dice = random.Random(SEED)
    generated = [b"".join(dice.choices(PIECES, k=dice.randrange(12))) for _number in range(COUNT)]
    generated += [bytes(dice.randrange(1, 256) for _byte in range(60)) for _number in range(COUNT // 10)]
    generated += [(b"'\\\n\"$(id)" * length)[:length] for length in LENGTHS]
    named = {"PATH": f"/opt/my tools/bin:{PATH}:.".encode(), "_UNDERSCORE1": b""}
    return {**named, **{f"X{number}": value for number, value in enumerate([*PIECES, *generated])}}


class Session:
    """A container in which every shell is the one to be tested, and the variables that its process has."""

    def __init__(self, container: Container, variables: dict[str, bytes]) -> None:
        self.container = container
        self.variables = variables
        words = " ".join(f'"${name}"' for name in variables)
        self.script = f"printf '%s\\0' {words}\n"

    def check(self, output: bytes) -> None:
        """Fails on the first variable whose value is not the process's."""
        got = output.split(b"\0")
        assert len(got) == len(self.variables) + 1
        for (name, value), there in zip(self.variables.items(), got):
            assert there == value, name


@pytest.fixture(scope="module", params=SHELLS, ids=lambda shell: f"{shell}-seed-{SEED}")
def session(request: pytest.FixtureRequest, start_shared: Start) -> Session:
    shell = SHELLS[request.param]
    variables = values()

    def change(config: dict[str, Any]) -> None:
        given = [f"{name}={os.fsdecode(value)}" for name, value in variables.items()]
        config["process"]["env"] = ["HOME=/home/alice", *given]

    container = start_shared("runc", shell.image, network="private", prepare=with_shell(shell), change=change)
    environment = Path(f"/proc/{container.init()}/environ")
    wait_for(
        lambda: b"_LIBCONTAINER_INITPIPE=" not in (environment.read_bytes() or b"_LIBCONTAINER_INITPIPE="),
        "runc's exec of the container's program",
    )
    there = dict(entry.split(b"=", 1) for entry in environment.read_bytes().split(b"\0") if entry)
    # runc writes U+FFFD for what is no UTF-8 (crun refuses it).
    for name, value in variables.items():
        if os.fsdecode(value).isprintable() or value.isascii():
            assert there[name.encode()] == value, name
    return Session(container, {name: there[name.encode()] for name in variables})


def test_command(session: Session) -> None:
    session.check(session.container.ssh(session.script).checked().out)


def test_login_shell(session: Session) -> None:
    session.check(session.container.ssh(stdin=session.script.encode()).checked().out)


def test_login_shell_by_command(session: Session) -> None:
    script = f"exec $SHELL -l -s <<'EOF'\n{session.script}EOF\n"
    session.check(session.container.ssh(script).checked().out)


def test_each_value_alone(session: Session) -> None:
    for name, value in list(session.variables.items())[:12]:
        assert session.container.ssh(f'printf %s "${name}"').checked().out == value, name
