# SPDX-License-Identifier: GPL-3.0-or-later
"""The caller's containers on this node that have an SSH daemon, from /proc and the daemons' records.

A daemon is a process whose command line starts with the path of Dropbear in containers, and that the caller may
inspect: the kernel allows that for the user's own processes and those in the user's own user namespaces. Any process
can have such a command line, so a daemon found here is trusted with no more than a TCP connection: SSH clients check
its host key.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from pathlib import Path

from ..errors import HookError, LateError, shorten
from ..linux.cgroups import job_and_step
from ..linux.fast_stdlib import closing
from ..linux.job_names import is_number
from ..linux.memory import read_memory
from ..linux.process import pid_namespace
from ..log import WARNING, log
from ..node import job_record, record
from ..node.door import name_of, places
from ..node.door_removal import ROOT_PLACE
from ..node.engine import Engine, directory_of_copies
from ..node.monitor import JOB_VARIABLES
from ..oci import container_paths as paths
from ..oci.settings import LAST_PORT, NO_PORT

CONMON = "conmon"  # the name of podman's monitor process of a container
LOOPBACK = ("127.0.0.1", "::1")
_PROC = Path("/proc")
_PARENT, _START_TIME = 1, 19  # of /proc/PID/stat, after the name
_MAX_ANCESTORS = 16
_ID = re.compile(r"(libpod|docker|moby)[-/]([0-9a-f]{64})")
_ENGINES = {"libpod": "podman", "docker": "docker", "moby": "docker"}  # moby: in bundles
_TIMEOUT = 5.0  # seconds to read the memory of all processes of a user
_MIN_TIMEOUT = 0.05  # seconds, for one process
_QUICK = 0.02  # seconds; faster reads are not counted
_MAX_SIZE = 1 << 20  # bytes of a file in /proc: a process can make its command line any length
_STEP = re.compile(r"[0-9]{1,9}")  # batch and interactive steps have more digits
_PLACE = re.compile(r"(?:\[(.*)\]:)?([0-9]{1,5})")


class Daemon:
    """One of the caller's containers, with its SSH daemon.

    Attributes:
        pid: of the daemon.
        uid: of the daemon, in the caller's user namespace.
        places: where it listens, as (address, port); the address is empty for all.
        doors: the possible paths of its door (node/door.py); empty if it has none for the caller.
        since: when it was started, in seconds since the epoch.
        sessions: how many connections it serves.
        has_own_network: whether its network namespace differs from the caller's.
        is_of_running: whether it was started in a running container, as by attach: its command line names no mount to
            wait for as the container's root.
        has_server: whether another process accepts connections for it, as it does when logins are logged.
        engine: podman or docker; empty if unknown.
        id, name, job: of the container; empty if unknown.
        step: the number of the container's job step, such as 1; empty if there is none or it is unknown.
        leader: the number of the first component of a heterogeneous job, from root's record of the job; else empty.
        task: the job's name as a task of a Slurm array, such as 1234_5; else empty.
        bundle: empty if unknown.
    """

    def __init__(self, pid: int, uid: int, places: list[tuple[str, int]], since: int) -> None:
        self.pid = pid
        self.uid = uid
        self.places = places
        self.since = since
        self.doors: list[str] = []
        self.sessions = 0
        self.has_own_network = False
        self.is_of_running = False
        self.has_server = False
        self.engine = self.id = self.name = self.job = self.step = self.task = self.leader = self.bundle = ""

    @property
    def port(self) -> int:
        """Return the port on which it listens; NO_PORT if it has only a door."""
        return self.places[0][1] if self.places else NO_PORT

    @property
    def addresses(self) -> list[str]:
        """Return where its port answers in its network namespace: on loopback too if it listens on all addresses."""
        return [address for address, _port in self.places if address] or [*LOOPBACK]

    @property
    def label(self) -> str:
        """Return the container's name, or the beginning of its id; empty if both are unknown."""
        return self.name or self.id[:12]

    def answers_to(self, name: str) -> bool:
        """Return whether `name` is the container's name, the beginning of its id, or the daemon's pid."""
        return name in (self.name, str(self.pid)) or (len(name) >= 3 and self.id.startswith(name))

    def is_of_job(self, job: str) -> bool:
        """Return whether it belongs to the scheduler's job `job`, by its cgroup or its name ``job<JOB>``."""
        return job in (self.job, self.task) or self.job.startswith(f"{job}.") or self.name == f"job{job}"

    def is_of_array(self, job: str) -> bool:
        """Return whether it belongs to a task of the Slurm array `job`."""
        return bool(self.task) and self.task.partition("_")[0] == job


class _Memory:
    """Reads files in /proc that come from the memory of processes, with one time limit for each user's processes.

    Attributes: silent, the pids of the processes whose memory could not be read in time.
    """

    def __init__(self) -> None:
        self._left: dict[int, float] = {}  # remaining seconds for slow processes, by uid
        self.silent: set[int] = set()

    def read(self, pid: int, name: str) -> str:
        """Return the content of cmdline or environ; empty if it cannot be read, or an earlier read timed out.

        Each read may use half of the remaining time, so that slow processes leave some for the others.
        """
        if pid in self.silent:
            return ""
        try:
            uid = _uid(pid)
        except OSError:
            return ""  # it has exited
        left = self._left.get(uid, _TIMEOUT)
        if left < _MIN_TIMEOUT:
            self.silent.add(pid)
            return ""
        begun = time.monotonic()
        data = b""
        try:
            with closing(os.open(_PROC / str(pid), os.O_RDONLY | os.O_DIRECTORY)) as directory:
                data = read_memory(directory, name, f"process {pid}", _MAX_SIZE, left / 2)
        except LateError:
            self.silent.add(pid)
        except (HookError, OSError):
            pass  # it has exited, or is not the caller's
        self._left[uid] = left - max(0.0, time.monotonic() - begun - _QUICK)
        return data.decode("utf-8", "replace")

    def warn(self) -> None:
        """Warn about the processes that could not be read in time, if any."""
        if self.silent:
            named = shorten([str(pid) for pid in sorted(self.silent)])
            log(
                WARNING,
                f"cannot read the memory of these processes within {_TIMEOUT:.0f} s (a file system may hang), so "
                f"containers may be missing, or shown without their job: {named}",
            )


def find_daemons() -> list[Daemon]:
    """Return the caller's containers with an SSH daemon on this node, the oldest first.

    It forks, so the caller must have no other thread. Warns of processes that cannot be read. Raises HookError.
    """
    caller = Engine()
    memory = _Memory()
    parents, starts = _processes()
    bundles = _bundles(caller.host_uid)
    boot = _boot_time()
    daemons = []
    known: set[int] = set()
    for pid, start in sorted(starts.items(), key=lambda item: (item[1], item[0])):
        if parents[pid] in known:
            known.add(pid)  # a session, which has the same name
            continue
        try:
            daemon = _read_daemon(pid, memory, start, boot, caller.host_uid)
        except (OSError, ValueError):
            continue  # it has exited, or is not the caller's
        if daemon is not None:
            daemons.append(daemon)
        if daemon is not None or pid in memory.silent:
            known.add(pid)
    children = Counter(parents.values())
    for daemon in daemons:
        daemon.sessions = sum(children[pid] for pid in _servers(daemon, parents, starts))
        daemon.bundle = bundles.get(daemon.pid, "")
        _describe(daemon, parents, memory, caller.is_rootless)
    memory.warn()
    return daemons


def _servers(daemon: Daemon, parents: dict[int, int], starts: dict[int, int]) -> list[int]:
    """Return the processes that accept connections for `daemon`: a child of it if it logs logins."""
    return [pid for pid in starts if parents[pid] == daemon.pid] if daemon.has_server else [daemon.pid]


def _processes() -> tuple[dict[int, int], dict[int, int]]:
    """Return the parents of all processes, and the start times, in clock ticks since boot, of those named Dropbear.

    The name is initially that of the program file, and a process can change it. It is not in the process's memory.
    """
    parents: dict[int, int] = {}
    starts: dict[int, int] = {}
    for path in _PROC.iterdir():
        if path.name.isdigit():
            try:
                name, fields = _stat(path)
            except OSError:
                continue  # it has exited
            parents[int(path.name)] = int(fields[_PARENT])
            if name == paths.SERVER_NAME:
                starts[int(path.name)] = int(fields[_START_TIME])
    return parents, starts


def _boot_time() -> int:
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("btime ")))


def _stat(path: Path) -> tuple[str, list[str]]:
    """Return the name of a process and the other fields of its stat. Raises OSError."""
    name, _bracket, fields = (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
    return name.partition("(")[2], fields.split()


def _read_daemon(pid: int, memory: _Memory, start: int, boot: int, caller: int) -> Daemon | None:
    """Return the daemon with the process `pid`; None if it is not a daemon. Raises OSError.

    `start` is its start time in clock ticks since `boot`, and `caller` the caller's uid on the node.
    """
    path = _PROC / str(pid)
    network = (path / "ns/net").stat()  # fails if the caller may not inspect it
    program, *arguments = memory.read(pid, "cmdline").split("\0")
    if program != paths.SERVER:
        return None
    places = []
    for option, value in zip(arguments, arguments[1:]):
        place = _PLACE.fullmatch(value)
        if option == "-p" and place is not None and int(place.group(2)) <= LAST_PORT:
            places.append((place.group(1) or "", int(place.group(2))))
    has_door = _option(arguments, "-O") != ""
    if not places and not has_door:
        return None
    daemon = Daemon(pid, _uid(pid), places, boot + start // os.sysconf("SC_CLK_TCK"))
    if has_door and (caller != 0 or daemon.uid == 0):  # root sees other users', whose doors accept only them
        name = name_of(pid, start, pid_namespace())
        daemon.doors = [f"{place}/{name}" for place in places_of_doors(caller)]
    daemon.is_of_running = _option(arguments, "-S").count(",") == 1
    daemon.has_server = bool(_option(arguments, "-L"))
    own = os.stat("/proc/self/ns/net")
    daemon.has_own_network = (network.st_dev, network.st_ino) != (own.st_dev, own.st_ino)
    return daemon


def places_of_doors(uid: int) -> list[str]:
    """Return the directories in which doors of the user `uid` can be."""
    return [ROOT_PLACE, *(places(uid) if uid else [])]


def _uid(pid: int) -> int:
    """Return the uid of a process, in the caller's user namespace. Raises OSError."""
    return uid_of((_PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace"))


def uid_of(status: str) -> int:
    """Return the uid in the content of /proc/PID/status."""
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:")))


def _bundles(caller: int) -> dict[int, str]:
    """Return the bundles of the daemons whose records the uid `caller` can read, keyed by the daemon's pid."""
    found = {}
    path = directory_of_copies(caller)
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return {}
    try:
        for name in os.listdir(directory):
            try:
                known = record.read(directory, name, path)
            except (HookError, OSError):
                continue
            if known is not None:
                found[known.pid] = known.bundle
    finally:
        os.close(directory)
    return found


def _describe(daemon: Daemon, parents: dict[int, int], memory: _Memory, is_rootless: bool) -> None:
    """Find out the container's engine, job and name, as far as the caller can see them."""
    cgroup = _read(daemon.pid, "cgroup")
    environment = [memory.read(daemon.pid, "environ")]
    identified = _ID.search(cgroup) or _ID.search(daemon.bundle)
    if identified:
        daemon.engine, daemon.id = _ENGINES[identified.group(1)], identified.group(2)
    pid = daemon.pid
    for _ancestor in range(_MAX_ANCESTORS):
        pid = parents.get(pid, 0)
        if pid <= 1:
            break
        program = _read(pid, "comm").rstrip("\n")
        if program == CONMON:
            identity, daemon.name, _bundle = container_of_conmon(memory.read(pid, "cmdline").split("\0"))
            daemon.engine = "podman"
            daemon.id = identity or daemon.id
            environment.append(memory.read(pid, "environ"))
            cgroup += _read(pid, "cgroup")
            break
        if program.startswith("containerd-shim"):
            break
    if not daemon.id and daemon.bundle:
        parts = Path(daemon.bundle).parts  # podman: .../ID/userdata
        daemon.id = parts[-2] if parts[-1] == "userdata" else parts[-1]
    variables = [_variables(text) for text in environment]
    daemon.job, daemon.step = _job_and_step(cgroup, variables)
    daemon.task = _task(daemon.job, variables)
    daemon.leader = _leader(daemon.job, is_rootless)


def _variables(environment: str) -> dict[str, str]:
    """Return the variables in the content of environ."""
    return dict(entry.split("=", 1) for entry in environment.split("\0") if "=" in entry)


def _job_and_step(cgroup: str, environments: list[dict[str, str]]) -> tuple[str, str]:
    """Return the numbers of the scheduler's job and step: from the cgroup, or variables of container and engine."""
    in_cgroup = job_and_step(cgroup.split("\n"))
    if in_cgroup[0]:
        return in_cgroup
    for values in environments:
        for name in JOB_VARIABLES:
            if values.get(name):
                step = values.get("SLURM_STEP_ID", "")
                return values[name], step if _STEP.fullmatch(step) else ""
    return "", ""


def _task(job: str, environments: list[dict[str, str]]) -> str:
    """Return the name of `job` as an array task, from the variables that Slurm sets in it; empty if it has none."""
    for values in environments:
        array, index = values.get("SLURM_ARRAY_JOB_ID"), values.get("SLURM_ARRAY_TASK_ID")
        if array and index and values.get("SLURM_JOB_ID") == job:
            return f"{array}_{index}"
    return ""


def _leader(job: str, is_rootless: bool) -> str:
    """Return the leader of the heterogeneous job that `job` belongs to, from root's record; empty if there is none."""
    try:
        known = job_record.read(job, is_rootless) if is_number(job) else None
    except HookError:
        return ""
    return "" if known is None else str(known.leader)


def container_of_conmon(arguments: list[str]) -> tuple[str, str, str]:
    """Return a container's id, name and bundle from its conmon's command line; each is empty if missing there."""
    return _option(arguments, "-c"), _option(arguments, "-n"), _option(arguments, "-b")


def _option(arguments: list[str], name: str) -> str:
    return next((value for option, value in zip(arguments, arguments[1:]) if option == name), "")


def _read(pid: int, name: str) -> str:
    """Return the content of a file in /proc that is not in the process's memory; empty if it cannot be read."""
    try:
        with (_PROC / str(pid) / name).open("rb") as file:
            return file.read(_MAX_SIZE).decode("utf-8", "replace")
    except OSError:
        return ""
