"""A user who logs in before the container's first process has run, and a set-user-ID program: nobody gets to the host.

The runtime's way into the container's root leads past the host's: see lib/early.c, which the image's programs are. The
user connects from before the start, and a slow hook, or a log file that the user holds, gives the session time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import openssh
import pytest
from containers import (
    ALICE,
    ENABLED,
    IMAGES,
    SETTINGS,
    WORK,
    Container,
    Engine,
    Result,
    as_user,
    hook_json,
    keys,
    listening,
    run,
)
from held import NO_WRITES, held
from patience import within

STARTS = 20  # of each case
AT_ONCE = 2
FIRST_PORT = 16300
HOST = Path("/run/hook-escape")  # stands for the host's tree; lib/early.c looks for it
SECRETS = {"roots": 0, "alices": ALICE}  # files in it, and their owners, who alone may read them
IMAGE = "localhost/ssh-test/early"
SLOW = "0.3"  # seconds of a hook after ours; a login takes half as long
SLOWER = "2"  # the same for a tracer, which a busy machine may keep waiting
HOLD = 0.4  # seconds for which the log file is held after the port has been opened
PORT_WAIT = 0.8  # seconds for which it is held where the hook does not open the port before it has logged
LOGS = Path("/home/alice/early-logs")


class Case(NamedTuple):
    """How containers are started; `holds_log`: alice holds the file that the hook logs to, instead of a slow hook."""

    engine: str
    stage: str = "createRuntime"
    is_without_pivot: bool = False
    holds_log: bool = False


CASES = {
    "crun": Case("crun"),
    "runc": Case("runc"),
    "podman-crun": Case("podman-crun"),
    "podman-runc": Case("podman-runc"),
    "rootless": Case("rootless"),
    "crun-no-pivot": Case("crun", is_without_pivot=True),
    "runc-no-pivot": Case("runc", is_without_pivot=True),
    "podman-no-pivot": Case("podman-crun", is_without_pivot=True),
    "crun-no-join": Case("crun", "createContainer"),
    "runc-no-join": Case("runc", "createContainer"),
    "crun-held-log": Case("crun", holds_log=True),
    "runc-held-log": Case("runc", holds_log=True),
}


class Hostile(NamedTuple):
    """What the image's author and the user try. `command` is what the user asks for, `may_gain` whether the container
    allows programs to gain privileges.
    """

    command: str
    may_gain: bool


SETUID = Hostile("hunt", True)  # the user, with a program of root's in the image
SHELL = Hostile("true", False)  # the image's author against the user, whose shell it is


class Bed(NamedTuple):
    """What all starts of this module use: programs of the image; directories of hooks for podman; alice's key."""

    program: Path
    hooks: Path
    no_pivot: Path
    key: Path


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with tempfile.TemporaryDirectory(dir=WORK) as name:
        directory = Path(name)
        directory.chmod(0o755)
        made = Bed(*(directory / name for name in ("program", "hooks", "no_pivot.conf", "key")))
        source = Path(__file__).with_name("lib") / "early.c"
        run(["musl-gcc", "-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o", made.program, source]).checked()
        openssh.convert(keys() / "id_dropbear", made.key)
        made.no_pivot.write_text("[engine]\nno_pivot_root = true\n", encoding="ascii")
        for seconds in (SLOW, SLOWER):
            write_hooks(made.hooks / seconds, seconds)
        tree = directory / "tree"
        run(["cp", "-a", (IMAGES / "busybox.rootfs").resolve(), tree]).checked()
        furnish(made.program)(tree)
        tar = run(["tar", "-C", tree, "-c", "."]).checked().out
        podmans = [Engine(name).podman for name in ("podman-crun", "rootless")]
        for podman in podmans:
            run([*podman, "import", "--quiet", "-", IMAGE], tar).checked()
        yield made
        for podman in podmans:
            run([*podman, "rmi", "-f", IMAGE]).checked()


def slow_hook(seconds: str) -> dict[str, object]:
    return {"path": "/bin/sleep", "args": ["sleep", seconds]}


def write_hooks(directory: Path, seconds: str) -> None:
    """Make a directory of hooks for podman: ours, and one after it that takes `seconds`."""
    directory.mkdir(parents=True)
    when = {"annotations": {f"^{name}$": f"^{value}$" for name, value in ENABLED.items()}}
    for name, hook in (("07-ssh-hook", hook_json(SETTINGS)), ("08-slow", slow_hook(seconds))):
        stages = ["createRuntime", "poststop"] if name == "07-ssh-hook" else ["createRuntime"]
        text = json.dumps({"version": "1.0.0", "hook": hook, "when": when, "stages": stages})
        (directory / f"{name}.json").write_text(text, encoding="ascii")


@pytest.fixture
def host(nothing_left: None) -> Iterator[Path]:
    HOST.mkdir()
    HOST.chmod(0o1777)
    for name, uid in SECRETS.items():
        (HOST / name).write_text(f"secret of {name}", encoding="ascii")
        (HOST / name).chmod(0o600)
        os.chown(HOST / name, uid, uid)
    LOGS.mkdir()
    os.chown(LOGS, ALICE, ALICE)
    yield HOST
    for directory in (HOST, LOGS):
        shutil.rmtree(directory)


def furnish(program: Path) -> Callable[[Path], None]:
    """Prepares an image's tree, with `program` in it by its three names."""

    def prepare(root: Path) -> None:
        (root / "bin/sh").unlink()  # busybox, by a link
        for name, mode in (("first", 0o755), ("sh", 0o755), ("hunt", 0o4755)):
            shutil.copy(program, root / "bin" / name)
            (root / "bin" / name).chmod(mode)

    return prepare


class EarlyUser:
    """Alice, who connects from before the start; it ends when a session of hers has ended."""

    def __init__(self, key: Path, port: int, command: str) -> None:
        self._client = [*openssh.client(key, port=port), "alice@127.0.0.1", command]
        self._port = port
        self._result: Result | None = None
        self._is_over = False
        self._thread = threading.Thread(target=self._connect)

    def __enter__(self) -> EarlyUser:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()

    def _connect(self) -> None:
        while not self._is_over and (self._result is None or self._result.status == 255):
            if self._port in listening():
                self._result = run(self._client)
            else:
                time.sleep(0.002)

    def saw(self) -> list[str]:
        """What the session has found, when it has ended. AssertionError where it did not work."""
        self._thread.join()
        assert self._result is not None
        *found, last = self._result.checked().text.splitlines()
        assert last == "ended"
        return found


def log_of(port: int) -> Path:
    return LOGS / str(port)


def start(case: Case, bed: Bed, hostile: Hostile, port: int, seconds: str = SLOW) -> Container:
    """Start a container; the hook after ours takes `seconds`, which are SLOW or SLOWER."""
    annotations = {"com.hooks.ssh.port": str(port)}
    if case.holds_log:
        annotations |= {"com.hooks.logging.stdoutfd": str(log_of(port)), "com.hooks.logging.level": "1"}
    engine = Engine(case.engine)
    if engine.is_podman:
        if case.is_without_pivot:
            engine.podman = ["env", f"CONTAINERS_CONF_OVERRIDE={bed.no_pivot}", *engine.podman]
        options = [] if hostile.may_gain else ["--security-opt=no-new-privileges", "--cap-drop=all"]
        command = ["/bin/first"]
        hooks = bed.hooks / seconds
        return engine.start("early", annotations=annotations, options=options, command=command, hooks_dir=hooks)

    def change(config: dict[str, Any]) -> None:
        config["process"].update(args=["/bin/first"], noNewPrivileges=not hostile.may_gain)
        if not hostile.may_gain:
            config["process"]["capabilities"] = {}
        if not case.holds_log:
            config["hooks"][case.stage].append(slow_hook(seconds))

    return engine.start(
        "busybox",
        prepare=furnish(bed.program),
        change=change,
        annotations=annotations,
        stage=case.stage,
        settings={"JOIN_NAMESPACES": "false"} if case.stage == "createContainer" else {},
        options=["--no-pivot"] if case.is_without_pivot else [],
    )


def hostile_of(number: int) -> Hostile:
    return (SETUID, SHELL)[number // AT_ONCE % 2]


def attempt(case: Case, bed: Bed, number: int) -> list[str]:
    """Start a container, and have alice log in to it as early as can be. Return what her session found of the host."""
    hostile = hostile_of(number)
    port = FIRST_PORT + number
    with EarlyUser(bed.key, port, hostile.command) as user:
        if case.holds_log:
            log_of(port).touch()
            os.chown(log_of(port), ALICE, ALICE)
            with ThreadPoolExecutor(1) as pool:
                with held(log_of(port), NO_WRITES):
                    starting = pool.submit(start, case, bed, hostile, port)
                    give_up = time.monotonic() + PORT_WAIT
                    while port not in listening() and time.monotonic() < give_up:
                        time.sleep(0.01)
                    if port in listening():
                        time.sleep(HOLD)
                container = starting.result()
        else:
            container = start(case, bed, hostile, port)
        try:
            return user.saw()
        finally:
            container.remove()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_early_session_stays_in_the_container(host: Path, bed: Bed, case: Case) -> None:
    before = set(os.listdir(host))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda number: attempt(case, bed, number), range(STARTS)))
    written = sorted(set(os.listdir(host)) - before)
    reached = [hostile_of(number).command for number, lines in enumerate(found) if lines]
    assert (reached, written) == ([], []), f"{len(reached)} of {STARTS} sessions got to the host, and saw {found}"


# Says what could be done to Dropbear, as the user who runs it: this would act with its root, or in its place.
TRACER = """
import ctypes, os, sys, time
libc, seen, done = ctypes.CDLL(None), 0, set()
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[1])
while not seen and time.monotonic() < end:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = open(f"/proc/{pid}/status").read()
        except OSError:
            continue
        if "Name:\\tdropbear\\n" not in status or "\\nUid:\\t2001\\t2001" not in status or "State:\\tZ" in status:
            continue
        seen += 1
        for name in ("fd", "mem", "maps", "environ", "root/..", "cwd", "exe"):
            try:
                path = f"/proc/{pid}/{name}"
                os.listdir(path) if name == "fd" else os.open(path, os.O_RDONLY)
                done.add(name)
            except OSError:
                continue
        if libc.ptrace(0x4206, int(pid), None, None) == 0:  # PTRACE_SEIZE
            done.add("ptrace")
print(seen > 0, *sorted(done))
"""


@pytest.mark.parametrize("name", ["crun", "podman-crun", "crun-no-join"])
def test_nobody_traces_the_daemon_before_the_start(host: Path, bed: Bed, name: str) -> None:
    command = as_user(ALICE, "/usr/bin/python3", "-ISBc", TRACER, str(within(10)))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        tracer.stdout.readline()
        start(CASES[name], bed, SHELL, FIRST_PORT, SLOWER).remove()
        assert tracer.communicate()[0] == "True\n"
