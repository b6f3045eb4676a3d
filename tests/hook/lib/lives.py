"""Containers that start and stop, several at a time, each with sessions; and what the node has, before and after."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from containers import ENGINES, ENTRIES, LAUNCHER, Container, Engine, records, run, wait_for
from containers import listening as ports

AT_ONCE = 8
FIRST_PORT = 16000
_PATIENCE = 60.0  # seconds for what ends late, as what the kernel frees
_SETTLED = 2.0  # seconds
_STATE = ("/run", "/var/lib/ocihooks-ssh", "/var/lib/containers/storage", "/home/alice/.local/share/containers")
_DEVICES = "/run/hook-test-dev"  # the bed's own /dev, and nothing of a container


class Node(NamedTuple):
    """What a bed has: all of its processes' descriptors, the mounts that they see, and so on."""

    processes: int
    descriptors: int
    mounts: int
    namespaces: int
    cgroups: int
    ports: int
    records: int
    files: int


class Machine(NamedTuple):
    """What the kernel has in all, in which others than the bed have a part; memory in kB."""

    open_files: int
    cgroups: int
    keys: int
    used_memory: int
    fixed_slab: int


# What others may take meanwhile.
_SLACK = Machine(open_files=900, cgroups=900, keys=400, used_memory=1 << 20, fixed_slab=64 << 10)


def _entries(path: Path) -> int:
    try:
        return len(os.listdir(path))
    except OSError:
        return 0  # it ended meanwhile


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _namespaces(process: Path) -> Iterator[str]:
    for kind in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"):
        try:
            yield os.readlink(process / "ns" / kind)
        except OSError:
            return


def _tree(top: str, but: str = "") -> Iterator[str]:
    """All directories and files below `top`, on its own file system."""
    device = os.stat(top).st_dev
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if f"{directory}/{name}" != but]
        names[:] = [name for name in names if os.lstat(f"{directory}/{name}").st_dev == device]
        yield from names
        yield from files


def _free() -> int:
    """How many of root's entries for users are free: such a file stays, for a next one (node/places.py)."""
    entries = (path for path in ENTRIES.glob("*/*") if path.name.removeprefix("j").isdigit())
    return sum(path.read_bytes()[:1] in (b"", b"\0") for path in entries)


def _sweep() -> None:
    """As a timer does, when the doors of ended daemons are a minute old: it removes root's names of them."""
    for door in ENTRIES.glob("*/*-*-*"):
        os.utime(door, (0, 0))
    run([LAUNCHER, "sweep"]).checked()


def node() -> Node:
    """What the bed has now."""
    processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    return Node(
        len(processes),
        sum(_entries(process / "fd") for process in processes),
        sum(len(_lines(process / "mountinfo")) for process in processes),
        len({namespace for process in processes for namespace in _namespaces(process)}),
        sum(1 for _directory in os.walk("/sys/fs/cgroup")),
        len(ports()),
        len(records()),
        sum(len(list(_tree(top, _DEVICES))) for top in _STATE if os.path.isdir(top)) - _free(),
    )


def machine() -> Machine:
    """What the kernel has now."""
    memory = {line.split(":")[0]: int(line.split()[1]) for line in _lines(Path("/proc/meminfo"))}
    return Machine(
        int(_lines(Path("/proc/sys/fs/file-nr"))[0].split()[0]),
        # of memory those that are gone count until the kernel is short of it
        sum(int(line.split()[2]) for line in _lines(Path("/proc/cgroups"))[1:] if not line.startswith("memory")),
        sum(int(line.split()[2].split("/")[0]) for line in _lines(Path("/proc/key-users"))),
        memory["MemTotal"] - memory["MemAvailable"],
        memory["SUnreclaim"],
    )


def _end(container: Container, number: int) -> None:
    """End the container in one of the ways in which containers end."""
    if number % 3 == 0:
        container.stop().checked()
    elif number % 3 == 1:
        os.kill(container.init(), signal.SIGKILL)
    container.remove()


def live(number: int, port: int) -> str:
    """Start a container with its daemon on `port`, open two sessions, one of which leaves a process, and end it.

    `number` chooses engine and end. Returns what went wrong, or "".
    """
    engine = ENGINES[number % len(ENGINES)]
    try:
        container = Engine(engine).start("busybox", annotations={"com.hooks.ssh.port": str(port)})
        try:
            said = container.ssh(f"sleep 1000 >/dev/null 2>&1 & echo {number}").checked().text
            assert said == str(number), f"said {said!r}"
            container.ssh("cat", stdin=b"end").checked()
        finally:
            _end(container, number // len(ENGINES))
        wait_for(lambda: port not in ports(), "end of the daemon", _PATIENCE)
    except Exception as error:  # whatever it is, the others go on, and it is told
        return f"{engine}, container {number}: {error.__class__.__name__}: {error}"
    return ""


def live_all(count: int) -> list[str]:
    """What went wrong in `count` lives, AT_ONCE at a time."""
    free: Queue[int] = Queue()
    for slot in range(AT_ONCE):
        free.put(FIRST_PORT + slot)

    def one(number: int) -> str:
        port = free.get()
        try:
            return live(number, port)
        finally:
            free.put(port)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [problem for problem in pool.map(one, range(count)) if problem]


def warm_up() -> None:
    """Let each engine make what it keeps, and wait until nothing changes: podman tidies up behind its containers."""
    assert live_all(2 * len(ENGINES)) == []
    _sweep()
    before, since = node(), time.monotonic()

    def is_settled() -> bool:
        nonlocal before, since
        now = node()
        if now != before:
            before, since = now, time.monotonic()
        return time.monotonic() - since > _SETTLED

    wait_for(is_settled, "end of what the warming up started", _PATIENCE)


def await_same(before: Node) -> None:
    """Wait until the bed has what it had `before`; AssertionError where that does not come."""
    _sweep()
    try:
        wait_for(lambda: node() == before, "the same as before", _PATIENCE)
    except AssertionError:
        raise AssertionError(f"{before} is now {node()}") from None


def grown(before: Machine) -> list[str]:
    """What the machine has clearly more of than `before`, and does not give back."""
    try:
        wait_for(lambda: not _more(before), "less", _PATIENCE)
    except AssertionError:
        return _more(before)
    return []


def _more(before: Machine) -> list[str]:
    now = machine()
    return [
        f"{name}: {was}, now {is_now}"
        for name, was, is_now, slack in zip(Machine._fields, before, now, _SLACK)
        if is_now > was + slack
    ]
