"""Puts each fault of faults.txt into a copy of the checkout, and demands that its test fails for the reason it should.

    runner.py [WORD...]    only the faults in whose function, test or promise one of the words is

Before that all of these tests have to pass without a fault. Unit tests and linters run as they are; the others share a
bed, in which the hook is installed anew with each fault. It needs what tests/unit/run.py and tests/hook/prepare make.
The exit status is 0 when every fault was noticed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from mutants import FAULTS
from sources import Fault, FaultError, apply

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
COPY = CACHE / "mutants" / "ansible_collections" / "ocihooks" / "ssh"
BED = ROOT / "tests" / "testbed" / "bed"
ENVIRONMENT = {**os.environ, "TB_DIR": str(CACHE / "mutants-bed")}
INSTALL = "import sys; sys.path.insert(0, 'tests/hook/lib'); import install; install.install_hook()"
PYTEST = ("-B", "-m", "pytest", "--quiet", "--tb=short")
TIMEOUT = 1200  # seconds; a fault may have a test hang that has no deadline of its own
FAILED = 1  # the exit status of pytest where a test has failed; others mean that it ran none
LATE = 124  # the status of what does not end within TIMEOUT, as timeout(1) has it
TAIL = 25  # lines


def call(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the copy; its status is LATE where it does not end in time."""
    try:
        return subprocess.run(
            command,
            cwd=COPY,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, LATE, f"no end within {TIMEOUT} s")


def checked(*command: str | Path) -> None:
    """Run a command in the copy, which must succeed."""
    done = call(*command)
    if done.returncode != 0:
        raise SystemExit(f"mutants: {command[0]} failed:\n{done.stdout}")


def in_bed(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the bed, in the copy."""
    return call(BED, "exec", *command)


def make_bed() -> None:
    """Make a bed with the hook in it, in place of the one that there is."""
    checked(BED, "down")
    checked(BED, "up")
    checked(BED, "exec", sys.executable, "-B", "tests/hook/lib/install.py")


def is_linter(test: str) -> bool:
    """Tell whether a test is a linter of our own, a program."""
    return test.startswith("lint/")


def needs_bed(test: str) -> bool:
    """Tell whether a test runs in the bed, as those of the hook do."""
    return test.startswith("hook/")


def unit_python() -> Path:
    """Return the newest Python for which `make unit` has made an environment."""
    return max((CACHE / "unit").glob("*/bin/python"), key=lambda path: int(path.parts[-3].split(".")[1]))


def run_test(test: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run one test."""
    path, _colons, name = test.partition("::")
    if is_linter(test):
        return call(sys.executable, "-B", f"tests/{path}")
    arguments = [*PYTEST, *options, f"tests/{path}", *(["-k", name] if name else [])]
    if needs_bed(test):
        return in_bed(sys.executable, *arguments)
    return call(unit_python(), *arguments)


def check_all_pass(faults: Iterable[Fault]) -> bool:
    """Run the tests without a fault, those of a file at once; print which fail."""
    names: dict[str, set[str]] = {}
    for fault in faults:
        path, _colons, name = fault.test.partition("::")
        names.setdefault(path, set()).add(name)
    good = True
    for path, chosen in names.items():
        done = run_test(path if "" in chosen else f"{path}::{' or '.join(f'({name})' for name in sorted(chosen))}")
        if done.returncode != 0:
            good = False
            print(f"{path}: does not pass without a fault (exit status {done.returncode})\n{tail(done.stdout)}")
    return good


def said(output: str) -> str:
    """Return what a failing test printed, without the lines of its source, which it prints whatever has failed."""
    return re.sub(r"^(\S+:\d+: in .*)\n(?: {4}.*\n)+", r"\1\n", output, flags=re.MULTILINE)


def tail(text: str) -> str:
    """Return the last lines of a text."""
    return "\n".join(text.splitlines()[-TAIL:])


def judge(fault: Fault) -> str:
    """Put the fault in and run its test; return what is wrong with that, empty where the test noticed the fault."""
    try:
        path, before = apply(fault, COPY)
    except FaultError as error:
        return str(error)
    try:
        if needs_bed(fault.test):
            checked(BED, "exec", sys.executable, "-B", "-c", INSTALL)
        done = run_test(fault.test, "-x")
    finally:
        path.write_text(before, encoding="utf-8")
    if done.returncode == 0:
        return f"{fault.test}: passes all the same"
    if done.returncode != FAILED:
        return f"{fault.test}: exit status {done.returncode}\n{tail(done.stdout)}"
    if not re.search(fault.reason, said(done.stdout)):
        return f"{fault.test}: fails, but not for {fault.reason!r}\n{tail(done.stdout)}"
    return ""


def main(words: list[str]) -> int:
    """Try the faults that have one of `words`, or all; return the exit status."""
    faults = [
        fault
        for fault in FAULTS
        if not words or any(word in text for word in words for text in (fault.function, fault.test, fault.promise))
    ]
    if not faults:
        print("mutants: no such fault", file=sys.stderr)
        return 2
    subprocess.run([ROOT / "tests" / "snapshot", CACHE / "mutants"], check=True)
    (COPY / ".cache").symlink_to(CACHE)
    has_bed = any(needs_bed(fault.test) for fault in faults)
    failed = again = 0
    try:
        if has_bed:
            make_bed()
        if not check_all_pass(faults):
            return 1
        for fault in faults:
            start = time.monotonic()
            problem = judge(fault)
            if problem and needs_bed(fault.test):
                make_bed()  # an earlier fault may have left something that this test trips over
                problem = judge(fault)
                again += 1
            failed += bool(problem)
            seconds = time.monotonic() - start
            print(f"{'FAILED' if problem else 'ok':<7} {seconds:4.0f} s  {fault.function}: {fault.promise}", flush=True)
            if problem:
                print(f"---- {problem}\n----", flush=True)
    finally:
        if has_bed:
            checked(BED, "down")
    if again:
        print(f"tried again: {again} (faults, in a new bed)")
    print(f"{len(faults) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
