"""What the hook takes as a whole process, as runtimes call it, against a bare interpreter in the same place: time, and
time of the processor, which counts where many containers start at once.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from containers import ALICE, ENABLED, LAUNCHER, SETTINGS, WORK, Container, Engine, plain_start
from table import Row, at_most, more_by_at_most, ratio_at_most

ROUNDS = {"crun": 40, "runc": 20, "podman-crun": 20, "rootless": 20}
PYTHON = "/usr/bin/python3"
BARE = f"{PYTHON} -I -S -c pass"
PLACE = WORK / "bench"
TIMES = PLACE / "times"
STAGES = ("createRuntime", "poststop")
PROCESSOR = "processor time of "
IN_WORDS = {"crun": "crun", "runc": "runc", "podman-crun": "podman", "rootless": "rootless podman"}
LONG, SHORT = 200_000, 20  # lines

# Stands in for the hook: runs it and a bare interpreter in the same surroundings, in either order, and notes how long
# each took, and what of the processor, with the children that it has waited for.
WRAPPER = f"""#!{PYTHON} -IS
import os, sys, time
label = os.environ.pop("BENCH")
programs = [(label, [{LAUNCHER!r}, "start-ssh-daemon"]), ("bare " + label, {BARE.split()!r})]
if os.getpid() % 2:
    programs.reverse()
status = 0
with open({str(TIMES)!r}, "a") as times:
    for name, program in programs:
        start = time.monotonic_ns()
        pid = os.posix_spawn(program[0], program, os.environ)
        _pid, ended, usage = os.wait4(pid, 0)
        took = time.monotonic_ns() - start
        status |= ended
        print(name, took, sep="\\t", file=times)
        print("{PROCESSOR}" + name, int((usage.ru_utime + usage.ru_stime) * 1e9), sep="\\t", file=times)
sys.exit(status != 0)
"""


def program(name: str, text: str) -> Path:
    """Write an executable file."""
    PLACE.mkdir(parents=True, exist_ok=True)
    path = PLACE / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def hooks_dir(wrapper: Path) -> Path:
    """A directory of hooks for podman with the wrapper at each stage."""
    directory = PLACE / "hooks.d"
    directory.mkdir(exist_ok=True)
    for stage in STAGES:
        hook = {
            "version": "1.0.0",
            "hook": {
                "path": str(wrapper),
                "args": ["ssh_hook", "start-ssh-daemon"],
                "env": [f"BENCH={stage}", *(f"{name}={value}" for name, value in SETTINGS.items())],
            },
            "when": {"annotations": {f"^{name}$": f"^{value}$" for name, value in ENABLED.items()}},
            "stages": [stage],
        }
        (directory / f"{stage}.json").write_text(json.dumps(hook), encoding="utf-8")
    return directory


def podmans_restrictions() -> dict[str, Any]:
    """What podman has a runtime take away from a container by default: system calls, and paths of the kernel's."""
    container = Engine("podman-crun").start("debian")
    config = json.loads((container.bundle() / "config.json").read_text(encoding="utf-8"))
    container.remove()
    return {name: config["linux"][name] for name in ("seccomp", "maskedPaths", "readonlyPaths")}


def plain_starter(wrapper: Path, runtime: str = "crun") -> Callable[..., Container]:
    """Starts containers of a runtime, restricted as podman's are; `label` comes before the stage in the times."""
    restrictions = podmans_restrictions()

    def start(label: str = "", settings: Mapping[str, str] | None = None) -> Container:
        def change(config: dict[str, Any]) -> None:
            config["linux"].update(restrictions)
            for stage, hooks in config["hooks"].items():
                config["hooks"][stage] = [{**hook, "env": [*hook["env"], f"BENCH={label}{stage}"]} for hook in hooks]

        return plain_start(runtime, "debian", launcher=str(wrapper), change=change, settings=settings)

    return start


def forget() -> None:
    """Begin with no times noted; users of rootless podman note theirs too."""
    TIMES.write_text("", encoding="utf-8")
    TIMES.chmod(0o666)


def noted() -> dict[str, float]:
    """The median of each time that the wrapper noted, in ms."""
    times: dict[str, list[float]] = {}
    for line in TIMES.read_text(encoding="utf-8").splitlines():
        name, nanoseconds = line.split("\t")
        times.setdefault(name, []).append(int(nanoseconds) / 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def start_and_stop(rounds: int, *starts: Callable[[], Container]) -> None:
    """Start and end a container of each kind in turn, once more than is counted."""
    for turn in range(rounds + 1):
        if turn <= 1:
            forget()  # the first ones have warmed the caches, that of seccomp too
        for start in starts:
            container = start()
            container.stop().checked()
            container.remove()


def rows() -> Iterator[Row]:
    """createRuntime and poststop, by engine."""
    wrapper = program("wrapper", WRAPPER)
    directory = hooks_dir(wrapper)
    plain = {runtime: plain_starter(wrapper, runtime) for runtime in ("crun", "runc")}
    bounds = {
        ("", "createRuntime"): (ratio_at_most(2.1),),
        (PROCESSOR, "createRuntime"): (at_most(14, "ms"),),
        ("", "poststop"): (ratio_at_most(1.0),),
    }
    for engine, rounds in ROUNDS.items():

        def start(engine: str = engine) -> Container:
            return plain[engine]() if engine in plain else Engine(engine).start("debian", hooks_dir=directory)

        start_and_stop(rounds, start)
        times = noted()
        for (kind, stage), bound in bounds.items():
            ours, bare = times[kind + stage], times[f"{kind}bare {stage}"]
            yield Row(f"{kind}{stage}, {IN_WORDS[engine]}", ours, bare, "ms", "`python3 -I -S -c pass`", bound)


def passwd_file(lines: int) -> str:
    """A PASSWD_FILE of so many lines, of which the user's is the last."""
    path = PLACE / f"passwd-{lines}"
    others = (
        f"user{uid}:x:{uid}:{uid}:Somebody Else:/home/user{uid}:/bin/bash\n" for uid in range(10_000, 9_999 + lines)
    )
    path.write_text("".join(others) + f"alice:x:{ALICE}:{ALICE}::/home/alice:/bin/bash\n", encoding="utf-8")
    return str(path)


def passwd_rows() -> Iterator[Row]:
    """createRuntime by the length of PASSWD_FILE."""
    start_plain = plain_starter(program("wrapper", WRAPPER))
    files = {lines: passwd_file(lines) for lines in (LONG, SHORT)}
    starts = [lambda lines=lines: start_plain(f"{lines} ", {"PASSWD_FILE": files[lines]}) for lines in files]
    start_and_stop(20, *starts)
    times = noted()
    yield Row(
        f"createRuntime, PASSWD_FILE of {LONG:,} lines",
        times[f"{LONG} createRuntime"],
        times[f"{SHORT} createRuntime"],
        "ms",
        f"the same with {SHORT} lines",
        (more_by_at_most(10, "ms"),),
    )
