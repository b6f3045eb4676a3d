"""What the hook adds to a whole `podman run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from containers import ALICE, ENABLED, WORK, Engine, run
from table import Row, medians, ratio_at_most

ROUNDS = 20
HOOKS = "/usr/share/containers/oci/hooks.d"
ENGINES = {"podman-crun": "podman", "rootless": "rootless podman"}


def timed(engine: str, hooks_dir: str | Path) -> Callable[[], float]:
    """A measure: the seconds that `podman run --rm ... true` takes with the hooks of a directory."""
    command = [*Engine(engine).podman, "--hooks-dir", hooks_dir, "run", "--rm", "--network", "host"]
    if engine == "podman-crun":
        command += ["--user", f"{ALICE}:{ALICE}", "--volume", "/home/alice:/home/alice", "--env", "HOME=/home/alice"]
    for name, value in ENABLED.items():
        command += ["--annotation", f"{name}={value}"]
    command += ["localhost/ssh-test/debian", "true"]

    def measure() -> float:
        start = time.monotonic()
        run(command).checked()
        return time.monotonic() - start

    return measure


def rows() -> Iterator[Row]:
    """With the hook and without it."""
    empty = WORK / "no-hooks"
    empty.mkdir(parents=True, exist_ok=True)
    for engine, words in ENGINES.items():
        seconds = medians(ROUNDS, {"with": timed(engine, HOOKS), "without": timed(engine, empty)})
        what = f"`podman run --rm ... true`, {words}"
        yield Row(
            what,
            seconds["with"] * 1e3,
            seconds["without"] * 1e3,
            "ms",
            "the same without the hook",
            (ratio_at_most(1.15),),
        )
