"""Times the hook as crun calls it, in a bed where it is installed, and prints a table of medians in milliseconds."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from containers import ALICE, LAUNCHER, SETTINGS, WORK, Engine, plain_start

ROUNDS = 40
KEYGEN_ROUNDS = 20
TOP = 15
PYTHON = "/usr/bin/python3"
PLACE = WORK / "bench"

# Stands in for the hook: runs it and, in the same surroundings, bare interpreters, and notes how long each took.
WRAPPER = f"""#!{PYTHON} -IS
import os, sys, time
stage = os.environ.pop("BENCH")
programs = [(stage, [{LAUNCHER!r}, "start-ssh-daemon"])]
if stage == "createRuntime":
    programs += [(name, name.split()) for name in ("{PYTHON} -I -c pass", "{PYTHON} -I -S -c pass")]
status = 0
with open({str(PLACE / "times")!r}, "a") as times:
    for name, program in programs:
        start = time.monotonic_ns()
        pid = os.posix_spawn(program[0], program, os.environ)
        status |= os.waitpid(pid, 0)[1]
        print(name, time.monotonic_ns() - start, sep="\\t", file=times)
sys.exit(status != 0)
"""

# Stands in for the hook once: what it imports, in the order of the interpreter's own report.
IMPORTS = f"""#!/bin/sh
unset BENCH
exec {PYTHON} -IS -X importtime {LAUNCHER} start-ssh-daemon 2>>{PLACE}/imports
"""


def podmans_restrictions() -> dict[str, Any]:
    """What podman has a runtime take away from a container by default: system calls, and paths of the kernel's."""
    container = Engine("podman-crun").start("debian")
    config = json.loads((container.bundle() / "config.json").read_text(encoding="utf-8"))
    container.remove()
    return {name: config["linux"][name] for name in ("seccomp", "maskedPaths", "readonlyPaths")}


def start_and_stop(wrapper: Path, restrictions: dict[str, Any]) -> None:
    """Start a container with these restrictions whose hook is `wrapper`, and stop it."""

    def change(config: dict[str, Any]) -> None:
        config["linux"].update(restrictions)
        for stage, hooks in config["hooks"].items():
            config["hooks"][stage] = [{**hook, "env": [*hook["env"], f"BENCH={stage}"]} for hook in hooks]

    container = plain_start("crun", "debian", launcher=str(wrapper), change=change)
    container.stop().checked()
    container.remove()


def program(name: str, text: str) -> Path:
    """Write an executable file."""
    path = PLACE / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def keygen() -> list[int]:
    """How long it takes alice to make keys, each time where there are none."""
    times = []
    base = PLACE / "home"
    for _round in range(KEYGEN_ROUNDS):
        (base / "alice").mkdir(parents=True)
        os.chown(base / "alice", ALICE, ALICE)
        env = {**SETTINGS, "HOOK_BASE_DIR": str(base)}
        start = time.monotonic_ns()
        subprocess.run(
            [LAUNCHER, "keygen"],
            env=env,
            check=True,
            user=ALICE,
            group=ALICE,
            extra_groups=[],
            stdout=subprocess.DEVNULL,
        )
        times.append(time.monotonic_ns() - start)
        shutil.rmtree(base)
    return times


def imports() -> list[tuple[int, int, str]]:
    """(own time, time with what it imports, both in microseconds; name) of each module that a start imports."""
    found = []
    for line in (PLACE / "imports").read_text(encoding="utf-8").splitlines():
        if not line.startswith("import time:"):
            continue
        own, total, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            found.append((int(own), int(total), name.strip()))
    return found


def main() -> int:
    """Measure and print."""
    PLACE.mkdir(parents=True, mode=0o755)
    wrapper = program("wrapper", WRAPPER)
    restrictions = podmans_restrictions()
    start_and_stop(wrapper, restrictions)  # warms the caches
    (PLACE / "times").unlink()
    for _round in range(ROUNDS):
        start_and_stop(wrapper, restrictions)
    start_and_stop(program("imports-of-start", IMPORTS), restrictions)
    times: dict[str, list[int]] = {}
    for line in (PLACE / "times").read_text(encoding="utf-8").splitlines():
        name, nanoseconds = line.split("\t")
        times.setdefault(name, []).append(int(nanoseconds))
    times["keygen"] = keygen()

    version = subprocess.run([PYTHON, "-V"], capture_output=True, text=True, check=True).stdout.strip()
    load = os.getloadavg()[0]
    print(f"{version}, {os.uname().release}, {os.cpu_count()} processors, load {load:.1f}\n")
    print(f"{'whole process':<28} {'median':>9} {'least':>9} {'most':>9} {'rounds':>7}")
    for name, values in times.items():
        least, middle, most = (value / 1e6 for value in (min(values), statistics.median(values), max(values)))
        print(f"{name:<28} {middle:>6.1f} ms {least:>6.1f} ms {most:>6.1f} ms {len(values):>7}")

    found = imports()
    start = found[: next((i for i, (*_times, name) in enumerate(found[1:], 1) if name == found[0][2]), len(found))]
    print(
        f"\nimports of a start: {len(start)} modules, {sum(own for own, *_others in start) / 1000:.1f} ms, the longest:"
    )
    for own, _cumulative, name in sorted(start, reverse=True)[:TOP]:
        print(f"{name:<28} {own / 1000:>6.2f} ms")
    shutil.rmtree(PLACE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
