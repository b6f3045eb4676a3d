"""Fuzzes every target for a bounded time, two at a time: campaign.py SECONDS (of all together).

A failing input stays in .cache/fuzz/failing, and is shown by .cache/fuzz/venv/bin/python tests/fuzz/fuzz.py TARGET
FILE, or of a target in C by its program, .cache/fuzz/c-*/TARGET FILE. The exit status is 0 when there was none.
"""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import c_targets
from corpus import CACHE, FOUND, HERE, command, kept, names, unpack

ROOT = HERE.parents[1]
FAILING = CACHE / "failing"
PARALLEL = 2
INPUT_LIMITS = ("-max_len=4096", "-timeout=10", "-rss_limit_mb=2048")  # bytes, seconds, MiB
TAIL = 25  # lines of the log, each shorter than LONGEST
LONGEST = 300  # characters


class Outcome(NamedTuple):
    """How one target went: inputs run, edges of its code that they reach, whether one failed, and the log."""

    target: str
    inputs: int
    edges: int
    failed: bool
    log: str


def fuzz(target: str, seconds: int) -> Outcome:
    """Fuzz one target, beginning with what is kept and what was found before."""
    unpack(kept(target), FOUND / target)
    (FAILING / target).parent.mkdir(parents=True, exist_ok=True)
    arguments = [f"-max_total_time={seconds}", f"-artifact_prefix={FAILING}/{target}-", *INPUT_LIMITS]
    done = subprocess.run(
        [*command(target), *arguments, "-print_final_stats=1", FOUND / target],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    inputs, edges = (
        int([0, *re.findall(pattern, done.stdout)][-1])
        for pattern in (r"stat::number_of_executed_units: (\d+)", r" cov: (\d+) ")
    )
    return Outcome(target, inputs, edges, done.returncode != 0 or not inputs, done.stdout)


def report(outcome: Outcome) -> None:
    """Print the line of a target, and what failed."""
    verdict = "FAILED" if outcome.failed else "ok"
    print(f"{outcome.target:<14} {verdict:<7} {outcome.inputs:>10} inputs {outcome.edges:>5} edges")
    if outcome.failed:
        lines = [
            line for line in outcome.log.splitlines() if len(line) < LONGEST and not line.startswith(("#", "stat::"))
        ]
        print("\n".join(lines[-TAIL:]))
        for path in re.findall(r"Test unit written to (.+)", outcome.log):
            print(f"fuzz: {outcome.target} fails on the input in {path}")


def main(arguments: list[str]) -> int:
    """Fuzz all targets and return the exit status."""
    if len(arguments) != 1 or not arguments[0].isdigit():
        print("usage: python tests/fuzz/campaign.py SECONDS", file=sys.stderr)
        return 2
    interpreter = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    subprocess.run([ROOT / "tests" / "venv", CACHE / "venv", ROOT / "requirements/fuzz.txt", interpreter], check=True)
    c_targets.programs(CACHE)  # this may take a minute, which is not one of fuzzing
    targets = [*names(), *c_targets.NAMES]
    seconds = max(1, int(arguments[0]) * PARALLEL // len(targets))
    with ThreadPoolExecutor(PARALLEL) as pool:
        outcomes = list(pool.map(lambda target: fuzz(target, seconds), targets))
    for outcome in outcomes:
        report(outcome)
    print(f"{sum(outcome.inputs for outcome in outcomes)} inputs, {seconds} s for each of {len(targets)} targets")
    failed = sum(outcome.failed for outcome in outcomes)
    print(f"{len(targets) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
