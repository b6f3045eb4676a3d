"""Runs parts of the test suite, several at a time where the machine has the processors for it, and sums them up.

    run.py [--under-load] PART...    each part is a target of the Makefile

What a part prints goes to .cache/logs/PART.log, and its end is shown when the part failed. The exit status is 0 when
every part ran and passed. LANES=1 in the environment runs one at a time.

With --under-load they run twice, beside two processes that do nothing but compute and one that writes to the disk, and
parts are named that did not pass both times with as many tests. The load ends with this program, however that ends.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".cache" / "logs"
LIMIT = 60 * 60  # seconds; a part that hangs is ended, and has failed. A slow day takes twice what EXPECTED says
PATIENCE = 60  # seconds; so long may an ended part clean up
POLL = 0.2  # seconds
LOADS = (("compute",), ("compute",), ("write", str(LOGS)))  # arguments of load.py
LANES = 3  # a part keeps one processor busy, most of the time, and two of three keep two busy all of the time
TAIL = 150  # lines; after the task that failed, ansible and molecule print some thirty

# The budget: seconds that the parts take by themselves on an idle machine with two processors, in a bare system. Beside
# two others each takes a half longer. The longest start first, so that the lanes end at about the same time.
EXPECTED = {
    "lifecycle": 1200,
    "mutants": 1450,
    "hook-tests": 1050,
    "architectures": 1000,
    "role-dropbear": 690,
    "role-ssh-hook": 680,
    "soak": 900,
    "launch-real": 600,
    "slurm-editor": 360,
    "sarus-suite": 300,
    "upgrade": 290,
    "slurm": 250,
    "old-beside-new": 240,
    "rootless": 220,
    "unit": 215,
    "debian11": 200,
    "old-kernel": 200,
    "upgrade-from-sarus": 200,
    "sanity": 200,
    "node-image": 180,
    "vm-tests": 240,
    "launchers": 110,
    "lint": 110,
    "molecule": 100,
    "fuzz": 100,
    "release-test": 100,
    "engines": 90,
    "integration": 90,
    "docs": 50,
    "demo-test": 50,
    "monitoring": 30,
}

# Parts that take more than one lane, as those that run in several beds at once.
WIDTH = {"hook-tests": 2}

# Each part has a bed, ports, a network and directories below .cache of its own. What they share has locks: apt
# (tests/testbed/packages), images, the builds of Dropbear, .cache/hook (tests/hook/prepare). Some tests tell by the
# clock whether something works, so parts that would keep more processors busy get only those of their lane:
PARALLEL = {
    "architectures": "make -j",
    "fuzz": "make -j, and two targets at a time",
    "lint": "two linters at a time",
    "role-dropbear": "make -j",
    "sanity": "a pylint for each processor",
    "vm-tests": "an emulated machine for each processor",
}

# The closing line of pytest, and of our own runners: "12 passed", "1 failed, 11 passed in 0.4s", "3 passed, 0 failed".
CLOSING = re.compile(
    r"^[=\s]*(?:\w+: )?((?:\d+ [a-z]+, )*\d+ (?:passed|failed)(?:, \d+ [a-z]+)*)(?: in [\d.]+s.*)?[=\s]*$"
)

# A line of tests/hook/conftest.py and tests/mutants/runner.py.
REPEATED = re.compile(r"^tried again: (\d+)", re.MULTILINE)


class Result(NamedTuple):
    """How one part went.

    Attributes:
        seconds: its time
        passed, failed: how many of its tests did
        repeated: how often something was tried again
        load: how many processes ran or waited for a processor or a disk meanwhile, in the mean
    """

    part: str
    seconds: float
    passed: int
    failed: int
    repeated: int = 0
    load: float = 0.0

    def is_over_budget(self) -> bool:
        """Tell whether it took more than twice its budget, which is longer where the machine had other work too."""
        return self.part in EXPECTED and self.seconds > 2 * EXPECTED[self.part] * slowness(self.load)


def slowness(load: float) -> float:
    """Return how much longer parts may take at this load: as much as it exceeds that of the parts alone."""
    return max(1.0, load / max(LANES, len(os.sched_getaffinity(0))))


def count(log: str) -> tuple[int, int]:
    """Return how many tests passed and failed by the closing lines in a log; one that was skipped did not pass."""
    passed = failed = 0
    for line in log.splitlines():
        closing = CLOSING.match(line)
        if closing:
            for number, outcome in re.findall(r"(\d+) ([a-z]+)", closing.group(1)):
                passed += int(number) if outcome == "passed" else 0
                failed += int(number) if outcome in ("failed", "error", "errors", "skipped") else 0
    return passed, failed


def count_repeated(log: str) -> int:
    """Return how often something was tried again by the lines in a log."""
    return sum(map(int, REPEATED.findall(log)))


class Run:
    """A part that runs in lanes (numbered from 0 on), in a session of its own, so that all of it can be ended."""

    def __init__(self, part: str, lanes: set[int], processors: set[int]) -> None:
        self.part = part
        self.lanes = lanes
        self._start = time.monotonic()
        self._loads: list[float] = []
        self._path = LOGS / f"{part}.log"
        with self._path.open("wb") as log, confined(processors):
            self._process = subprocess.Popen(
                ["make", "--no-print-directory", part],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_over(self) -> bool:
        """Tell whether it has ended; end it if it has run too long."""
        self._loads.append(os.getloadavg()[0])
        limit = LIMIT * slowness(statistics.fmean(self._loads))
        if self._process.poll() is None and time.monotonic() - self._start > limit:
            self.end()
            with self._path.open("ab") as log:
                log.write(f"\nended: it took longer than {limit:.0f} seconds\n".encode())
        return self._process.returncode is not None

    def end(self) -> None:
        """End what is left of it: politely, so that it can clean up, and then for good."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def result(self) -> Result:
        """Return how it went; it is over."""
        log = self._path.read_text(encoding="utf-8", errors="replace")
        passed, failed = count(log)
        if self._process.returncode == 0:
            passed = passed or 1  # a part that does not count its tests is one
        else:
            failed = failed or 1
        seconds, load = time.monotonic() - self._start, statistics.fmean(self._loads)
        return Result(self.part, seconds, passed, failed, count_repeated(log), load)


@contextmanager
def confined(processors: set[int]) -> Iterator[None]:
    """Have processes that are started meanwhile run on these processors alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def lane_processors(part: str, lane: int, lanes: int) -> set[int]:
    """Return the processors that a part in this lane (from 0 on) may use."""
    processors = sorted(os.sched_getaffinity(0))
    share = max(1, len(processors) // lanes)
    start = lane * share % len(processors)
    return set(processors[start : start + share] if part in PARALLEL else processors)


def next_lanes(part: str, free: set[int], lanes: int) -> set[int]:
    """Return the lanes that a part takes of those that are free; none while they are too few."""
    width = min(WIDTH.get(part, 1), lanes)
    return set(sorted(free)[:width]) if len(free) >= width else set()


def run_all(parts: list[str], lanes: int) -> dict[str, Result]:
    """Run the parts, report each one when it ends, and return how they went.

    With more than one lane the longest come first.
    """
    waiting = list(dict.fromkeys(parts))
    if lanes > 1:
        waiting.sort(key=lambda part: -EXPECTED.get(part, 0))
    running: list[Run] = []
    results: dict[str, Result] = {}
    free = {*range(lanes)}
    try:
        while waiting or running:
            while waiting and (taken := next_lanes(waiting[0], free, lanes)):
                part = waiting.pop(0)
                running.append(Run(part, taken, lane_processors(part, min(taken), lanes)))
                free -= taken
            time.sleep(POLL)
            for run in [run for run in running if run.is_over()]:
                running.remove(run)
                free |= run.lanes
                results[run.part] = run.result()
                report(results[run.part])
    except KeyboardInterrupt:
        print(f"interrupted in {', '.join(run.part for run in running)}", file=sys.stderr)
        raise
    finally:
        for run in running:
            run.end()
    return results


def report(result: Result) -> None:
    """Print the line of a part, and the end of its log when it failed."""
    outcome = "FAILED" if result.failed else "ok"
    print(f"{result.part:<18} {outcome:<7} {result.seconds:6.0f} s", flush=True)
    if result.failed:
        path = LOGS / f"{result.part}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        print(f"---- the end of {path.relative_to(ROOT)}")
        print("\n".join(lines[-TAIL:]))
        print("----", flush=True)


def idle() -> float:
    """Return for how many seconds the processors have had nothing to do but wait, all of them together."""
    times = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    return (int(times[4]) + int(times[5])) / os.sysconf("SC_CLK_TCK")  # see proc_stat(5): idle and iowait


def summarise(results: list[Result], seconds: float, idle_seconds: float) -> None:
    """Print the table of all parts, what to look at, and the line that counts the tests.

    Args:
        seconds: the time of all
        idle_seconds: of which each processor had nothing to do
    """
    print(f"\n{'part':<18} {'passed':>7} {'failed':>7} {'time':>8} {'budget':>8} {'load':>5}")
    for result in results:
        budget = f"{EXPECTED[result.part]:>6} s" if result.part in EXPECTED else f"{'none':>8}"
        tests = f"{result.passed:>7} {result.failed:>7}"
        print(f"{result.part:<18} {tests} {result.seconds:>6.0f} s {budget} {result.load:>5.1f}")
    passed, failed = (sum(result.passed for result in results), sum(result.failed for result in results))
    print(f"{'all':<18} {passed:>7} {failed:>7} {seconds:>6.0f} s, {idle_seconds:.0f} s without work\n")
    for result in results:
        if result.is_over_budget():
            took = f"{result.seconds:.0f} s, more than twice its budget of {EXPECTED[result.part]} s"
            print(f"warning: {result.part} took {took}")
    repeated = {result.part: result.repeated for result in results if result.repeated}
    if repeated:
        parts = ", ".join(f"{part} {number}" for part, number in repeated.items())
        print(f"tried again: {sum(repeated.values())} ({parts})")
    print(f"{passed} passed, {failed} failed")


@contextmanager
def load() -> Iterator[None]:
    """Have processes keep the processors and the disk busy meanwhile. AssertionError where one has ended by itself."""
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-B", str(ROOT / "tests" / "load.py")]
    processes = [subprocess.Popen([*command, *arguments]) for arguments in LOADS]
    try:
        yield
        assert all(process.poll() is None for process in processes), "the load has ended before the tests"
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run_twice(parts: list[str]) -> int:
    """Run the parts under load twice, and print which did not pass both times alike. Return the exit status."""
    with load():
        first = run_parts(parts)
        for result in first:
            (LOGS / f"{result.part}.log").rename(LOGS / f"{result.part}.first.log")
        second = run_parts(parts)
    differing = differences(first, second)
    print("\n".join(differing or ["each part passed twice, with as many tests"]))
    return int(bool(differing))


def differences(first: list[Result], second: list[Result]) -> list[str]:
    """Return a line for each part that did not pass twice with as many tests."""
    return [
        f"{one.part}: {one.passed} passed, {one.failed} failed, and then {two.passed} passed, {two.failed} failed"
        for one, two in zip(first, second)
        if one.failed or two.failed or one.passed != two.passed
    ]


def run_parts(parts: list[str]) -> list[Result]:
    """Run the parts, print the summary, and return how each went."""
    start, idle_before = time.monotonic(), idle()
    # Now and not while another part runs: the tests of attacks see what changes on the machine. A part that lacks a
    # package nevertheless says so itself.
    subprocess.run([ROOT / "tests" / "testbed" / "packages", *parts], check=False)
    lanes = LANES if len(os.sched_getaffinity(0)) > 1 else 1
    by_part = run_all(parts, int(os.environ.get("LANES", lanes)))
    results = [by_part[part] for part in dict.fromkeys(parts)]
    idle_seconds = (idle() - idle_before) / (os.cpu_count() or 1)
    summarise(results, time.monotonic() - start, idle_seconds)
    return results


def main(parts: list[str]) -> int:
    """Run the parts and return the exit status."""
    is_under_load = parts[:1] == ["--under-load"]
    if not parts[is_under_load:]:
        print("usage: python tests/run.py [--under-load] PART...", file=sys.stderr)
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside: end the parts as well
    try:
        if is_under_load:
            return run_twice(parts[1:])
        results = run_parts(parts)
    except KeyboardInterrupt:
        return 130
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
