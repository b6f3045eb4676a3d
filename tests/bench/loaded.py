"""How long many starts take that come at once, as when many jobs begin on a node."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import start
from containers import Plain, plain_create, run
from table import Row, at_most

STARTS, AT_ONCE, ROUNDS = 100, 8, 3
FIRST_PORT = 20_000  # of the containers, which share a network
LIST = start.PLACE / "starts"


def without_hooks(config: dict[str, Any]) -> None:
    """Call no hook."""
    config["hooks"] = {}


def with_bare_python(config: dict[str, Any]) -> None:
    """Call a hook that does nothing."""
    config["hooks"] = {"createRuntime": [{"path": start.PYTHON, "args": start.BARE.split()}]}


def with_our_hook(_config: dict[str, Any]) -> None:
    """Call our hook, as the bundle says."""


def created(change: Callable[[dict[str, Any]], None], restrictions: dict[str, Any]) -> list[Plain]:
    """Bundles for crun, restricted as podman's containers are."""

    def restrict(config: dict[str, Any]) -> None:
        config["linux"].update(restrictions)
        change(config)

    ports = range(FIRST_PORT, FIRST_PORT + STARTS)
    return [
        plain_create("crun", "debian", change=restrict, annotations={"com.hooks.ssh.port": str(port)}) for port in ports
    ]


def seconds(containers: list[Plain]) -> float:
    """The time until all containers run, of which so many start at a time."""
    LIST.write_text("".join(f"{container.directory} {container.name}\n" for container in containers), encoding="utf-8")
    starter = ["crun", "run", "--detach", "--bundle"]
    begun = time.monotonic()
    run(["xargs", "--arg-file", LIST, "--max-lines=1", f"--max-procs={AT_ONCE}", *starter]).checked()
    return time.monotonic() - begun


def rows() -> Iterator[Row]:
    """With our hook, with one of bare Python, and with none."""
    restrictions = start.podmans_restrictions()
    start.PLACE.mkdir(parents=True, exist_ok=True)
    kinds = (with_our_hook, with_bare_python, without_hooks)
    taken: dict[Callable[[dict[str, Any]], None], list[float]] = {kind: [] for kind in kinds}
    for _round in range(ROUNDS):
        for change, values in taken.items():
            containers = created(change, restrictions)
            values.append(seconds(containers))
            for container in containers:
                container.stop().checked()
                container.remove()
    ours, bare, none = (statistics.median(taken[kind]) for kind in kinds)
    what = f"{STARTS} starts with crun, {AT_ONCE} at a time"
    yield Row(what, ours, bare, "s", "a hook of bare Python", (at_most(1.3, "s"),))
    yield Row(what, ours, none, "s", "without a hook")
