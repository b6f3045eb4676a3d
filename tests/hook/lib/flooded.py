"""A container whose port is flooded (flood.py), and its owner, who logs in meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import flood
import many
import openssh
from containers import ALICE, PORT, Container, as_user
from patience import within

KINDS = ("silent", "banner", "exchanged")  # what is held, until the server drops it
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")  # the owner logs in from the first
EACH = 256  # connections from each
OTHER = "127.0.0.9"  # does not flood
AT_ONCE = 128  # logins of a launcher
LOGIN = 3.0  # seconds that a login may take
BUSY = 3  # times as long where much else runs: a flood and its server take all of a small machine


@contextmanager
def flooded(kind: str, port: int = PORT, each: int = EACH, addresses: tuple[str, ...] = ADDRESSES) -> Iterator[None]:
    """Flood the port of loopback, from when all connections have got as far as they can until the end."""
    with _running([sys.executable, "-I", flood.__file__, kind, str(each), "127.0.0.1", str(port), *addresses]):
        yield


@contextmanager
def flooded_door(kind: str, door: Path, each: int = EACH) -> Iterator[None]:
    """Have alice flood a door, likewise: nobody else may connect there."""
    program = Path(flood.__file__).read_text(encoding="utf-8")
    with _running(as_user(ALICE, "python3", "-I", "-c", program, kind, str(each), str(door))):
        yield


@contextmanager
def _running(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "complete\n"
        try:
            yield
        finally:
            renewed, _nothing = process.communicate()
        print(f"{renewed.strip()} connections renewed")
    assert process.returncode == 0


def log_in(key: Path, seconds: float, address: str = ADDRESSES[0], options: tuple[str, ...] = ()) -> list[float]:
    """Log in from an address again and again, for so long and at least three times; return how long each took.

    With the `options` openssh.BY_DOOR that is by the door, from no address.
    """
    end = time.monotonic() + seconds
    took: list[float] = []
    while len(took) < 3 or time.monotonic() < end:
        begin = time.monotonic()
        assert openssh.login(key, "echo here", options=("-b", address, *options)).checked().text == "here"
        took.append(time.monotonic() - begin)
        assert took[-1] < within(LOGIN * BUSY)
        time.sleep(0.2)
    return took


def launch(container: Container, key: Path) -> None:
    """Have a launcher's sessions all be there at the same time.

    From an address that does not flood: on a very busy machine one of so many takes two seconds for a step, after which
    it may give way where its address has more than its share.
    """
    client = many.openssh_client(container, key, "-b", OTHER)
    sessions = many.all_at_once(container, client, AT_ONCE)
    assert sessions == [many.Session(0, b"%d\n" % number, b"") for number in range(AT_ONCE)]
