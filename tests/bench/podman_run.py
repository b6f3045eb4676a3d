"""What the hook adds to a whole `podman run`, and to the time until a container's command runs.

podman notices a container's end at the next of its looks, 50 ms apart: the whole takes that much more, or nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from containers import ALICE, ENABLED, WORK, Engine, run
from table import Row, medians, ratio_at_most

ROUNDS = 20
HOOKS = "/usr/share/containers/oci/hooks.d"
ENGINES = {"podman-crun": "podman", "rootless": "rootless podman"}


def timed(engine: str, hooks_dir: str | Path, whole: bool) -> Callable[[], float]:
    """A measure: the seconds that `podman run --rm ... true` takes with the hooks of a directory; the whole, or until
    its command runs.
    """
    command = [*Engine(engine).podman, "--hooks-dir", hooks_dir, "run", "--rm", "--network", "host"]
    if engine == "podman-crun":
        command += ["--user", f"{ALICE}:{ALICE}", "--volume", "/home/alice:/home/alice", "--env", "HOME=/home/alice"]
    for name, value in ENABLED.items():
        command += ["--annotation", f"{name}={value}"]
    command += ["localhost/ssh-test/debian", *(["true"] if whole else ["date", "+%s%N"])]

    def measure() -> float:
        start = time.time_ns()
        result = run(command).checked()
        return ((time.time_ns() if whole else int(result.text)) - start) / 1e9

    return measure


def rows() -> Iterator[Row]:
    """With the hook and without it."""
    empty = WORK / "no-hooks"
    empty.mkdir(parents=True, exist_ok=True)
    for engine, words in ENGINES.items():
        for whole in (True, False):
            measures = {"with": timed(engine, HOOKS, whole), "without": timed(engine, empty, whole)}
            seconds = medians(ROUNDS, measures)
            yield Row(
                f"`podman run --rm ... true`, {words}" if whole else f"until a command of {words} runs",
                seconds["with"] * 1e3,
                seconds["without"] * 1e3,
                "ms",
                "the same without the hook",
                (ratio_at_most(1.15),) if whole else (),
            )
