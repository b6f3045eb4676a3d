"""Runs parts of the test suite one after the other and sums them up.

Each argument is a target of the Makefile. What a part prints goes to .cache/logs/PART.log, and its end is shown when
the part failed. The exit status is 0 when every part ran and passed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".cache" / "logs"
LIMIT = 30 * 60  # seconds; a part that hangs is ended, and has failed
TAIL = 40  # lines

# The closing line of pytest, and of our own runners: "12 passed", "1 failed, 11 passed in 0.4s", "3 passed, 0 failed".
CLOSING = re.compile(
    r"^[=\s]*(?:\w+: )?((?:\d+ [a-z]+, )*\d+ (?:passed|failed)(?:, \d+ [a-z]+)*)(?: in [\d.]+s.*)?[=\s]*$"
)


class Result(NamedTuple):
    """How one part went; seconds is its time, passed and failed count its tests."""

    part: str
    seconds: float
    passed: int
    failed: int


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


def run(part: str) -> Result:
    """Run one part in a session of its own, so that all of it can be ended."""
    path = LOGS / f"{part}.log"
    start = time.monotonic()
    with path.open("wb") as log:
        process = subprocess.Popen(
            ["make", "--no-print-directory", part],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            status = -1
            log.write(f"\nended: it took longer than {LIMIT} seconds\n".encode())
        finally:
            end(process)
    passed, failed = count(path.read_text(encoding="utf-8", errors="replace"))
    if status == 0:
        passed = passed or 1  # a part that does not count its tests is one
    else:
        failed = failed or 1
    return Result(part, time.monotonic() - start, passed, failed)


def end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a part: politely, so that it can clean up, and then for good."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def report(result: Result) -> None:
    """Print the line of a part, and the end of its log when it failed."""
    outcome = "FAILED" if result.failed else "ok"
    print(f"{result.part:<14} {outcome:<7} {result.seconds:6.0f} s", flush=True)
    if result.failed:
        path = LOGS / f"{result.part}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        print(f"---- the end of {path.relative_to(ROOT)}")
        print("\n".join(lines[-TAIL:]))
        print("----", flush=True)


def summarise(results: list[Result]) -> None:
    """Print the table of all parts and the line that counts their tests."""
    print(f"\n{'part':<14} {'passed':>7} {'failed':>7} {'time':>8}")
    for result in results:
        print(f"{result.part:<14} {result.passed:>7} {result.failed:>7} {result.seconds:>6.0f} s")
    seconds, passed, failed = (sum(column) for column in zip(*(result[1:] for result in results)))
    print(f"{'all':<14} {passed:>7} {failed:>7} {seconds:>6.0f} s\n")
    print(f"{passed} passed, {failed} failed")


def main(parts: list[str]) -> int:
    """Run the parts and return the exit status."""
    if not parts:
        print("usage: python tests/run.py PART...", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside: end the part as well
    LOGS.mkdir(parents=True, exist_ok=True)
    results = []
    for part in parts:
        try:
            results.append(run(part))
        except KeyboardInterrupt:
            print(f"interrupted in {part}", file=sys.stderr)
            return 130
        report(results[-1])
    summarise(results)
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
