"""Long forms of tests (lives of containers, races, faults, many sessions, floods), in a bed with the hook: see
tests/hook/soak.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import faults
import flooded
import lives
import many
import openssh
import races
from attack import CANARY, host_untouched, plant
from containers import LAUNCHER, Engine, keys
from hook_log import Syslog
from old_kernel import write_wrapper

FLOOD = 60.0  # seconds of each


def race(starts: int) -> int:
    """Race `starts` starts, and print how they went; returns how many lost a canary."""
    started = refused = lost = 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        Path(directory).chmod(0o755)
        old_kernel = write_wrapper(Path(directory, "old_kernel"))
        places = races.RACES
        for number in range(starts):
            place, turn = places[number % len(places)], number // len(places)
            try:
                error = races.race(place, turn, old_kernel if turn % 2 else LAUNCHER)
            except AssertionError as problem:
                print(f"{place}, start {turn}: {problem}", flush=True)
                lost += 1
                continue
            started += not error
            refused += bool(error)
    seconds = time.monotonic() - begin
    print(
        f"races: {starts} starts, {started} started, {refused} refused, {lost} canaries lost ({seconds:.0f} s)",
        flush=True,
    )
    return lost


def fail() -> int:
    """Make every call of a start fail in every way, and print how they went; returns how many went wrong."""
    good = faults.start(None, faults.KILL)
    total = 0
    for how in (*faults.ERRORS, faults.KILL):
        begin, wrong, refused, missed = time.monotonic(), 0, 0, 0
        calls = [call for call in good.calls if how == faults.KILL or faults.may_fail(call)]
        for call in calls:
            with host_untouched():
                outcome = faults.start(call, how)
            refused += outcome.status != 0
            missed += not outcome.hit  # how often the hook polls is not the same each time
            problem = outcome.problem(good, how) if outcome.hit else ""
            if problem:
                print(f"{how} from {call}: {problem}", flush=True)
                wrong += 1
        seconds = time.monotonic() - begin
        went = f"{len(calls)} starts, {refused} refused, {missed} not reached, {wrong} wrong"
        print(f"{how}: {went} ({seconds:.0f} s)", flush=True)
        total += wrong
    return total


def output(sessions: int) -> int:
    """Make sessions with much output, through a fast pipe and a slow one; returns how many went wrong."""
    begin = time.monotonic()
    container = Engine("crun").start("debian", network="private")
    client = many.own_client(container)
    problems = [problem for pause in (0, 0.002) for problem in many.with_output(container, client, sessions, pause)]
    container.remove()
    print("\n".join([*problems, f"output: {sessions} sessions twice, {len(problems)} wrong"]), end="")
    print(f" ({time.monotonic() - begin:.0f} s)", flush=True)
    return len(problems)


def live(count: int) -> int:
    """Start and stop `count` containers, and print what the node has before and after; returns how many went wrong."""
    lives.warm_up()
    begin, before, machine = time.monotonic(), lives.node(), lives.machine()
    problems = lives.live_all(count)
    seconds = time.monotonic() - begin
    try:
        lives.await_same(before)
    except AssertionError as problem:
        problems.append(str(problem))
    problems += lives.grown(machine)
    print("\n".join([*problems, f"lives: {count} containers, {len(problems)} problems ({seconds:.0f} s)"]))
    for one, other in ((before, lives.node()), (machine, lives.machine())):
        print(f"before: {one}\nafter:  {other}", flush=True)
    return len(problems)


def flood(seconds: float) -> int:
    """Flood a port in every way, for `seconds` each, while its owner logs in; returns how many floods went wrong."""
    wrong = 0
    key = openssh.convert(keys() / "id_dropbear", Path(tempfile.mkdtemp(), "id"))
    container = Engine("crun").start("busybox")
    for kind in flooded.KINDS:
        try:
            with flooded.flooded(kind):
                took = flooded.log_in(key, seconds)
                flooded.launch(container, key)
            print(f"flood, {kind}: {len(took)} logins, {max(took):.1f} s at most", flush=True)
        except AssertionError as problem:
            print(f"flood, {kind}: {problem}", flush=True)
            wrong += 1
    container.remove()
    return wrong


def main(count: int) -> int:
    """The exit status is 0 when no canary is lost, and nothing is wrong."""
    shutil.rmtree(CANARY, ignore_errors=True)
    plant()
    races.plant_keys()
    Syslog()
    return int(live(count) + race(count) + fail() + output(count) + flood(FLOOD) > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
