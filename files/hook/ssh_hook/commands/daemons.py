# SPDX-License-Identifier: GPL-3.0-or-later
"""The caller's containers on this node that have an SSH daemon, as /proc and the daemons' records show them.

A daemon is a process with the path of Dropbear in containers as its name, which the caller may inspect: the kernel
allows that for the user's own processes and those in the user's own user namespaces. Anybody can give a process this
name, so nothing that is found here is trusted with more than a TCP connection: whoever logs in checks the host key.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import HookError
from ..host import record
from ..host.engine import Engine, directory_of_copies
from ..spec import container_paths as paths
from ..spec.settings import LAST_PORT
from .scheduler import JOB_VARIABLES

LOOPBACK = ("127.0.0.1", "::1")
_PROC = Path("/proc")
_PARENT, _START_TIME = 1, 19  # of /proc/PID/stat, after the name
_MAX_ANCESTORS = 16
_ID = re.compile(r"(libpod|docker)[-/]([0-9a-f]{64})")
_SLURM = re.compile(r"/job_([0-9]+)(?:/|$)")
_ENGINES = {"libpod": "podman", "docker": "docker"}
_MOST = 1 << 20  # bytes of a file in /proc: what a process calls its arguments can be endless
_PLACE = re.compile(r"(?:\[(.*)\]:)?([0-9]{1,5})")


class Daemon:
    """One container of the caller's, with its SSH daemon.

    Attributes:
        pid: the daemon's.
        uid: as whom it runs, in the caller's user namespace.
        places: where it listens, as (address, port); the address is empty for all.
        since: when it was started, in seconds since the epoch.
        sessions: how many connections it serves.
        has_own_network: whether its network namespace is not the caller's.
        engine: podman or docker; empty where that is not known.
        id, name, job: of the container; empty where they are not known.
        bundle: empty where it is not known.
    """

    def __init__(self, pid: int, uid: int, places: list[tuple[str, int]], since: int) -> None:
        self.pid = pid
        self.uid = uid
        self.places = places
        self.since = since
        self.sessions = 0
        self.has_own_network = False
        self.engine = self.id = self.name = self.job = self.bundle = ""

    @property
    def port(self) -> int:
        """Return the port on which it listens."""
        return self.places[0][1]

    def answers_to(self, name: str) -> bool:
        """Tell whether `name` is the container's name, the beginning of its id, or the daemon's pid."""
        return name in (self.name, str(self.pid)) or (len(name) >= 3 and self.id.startswith(name))

    def is_of_job(self, job: str) -> bool:
        """Tell whether it belongs to the scheduler's job `job`, by what the kernel says or by its name ``job<JOB>``."""
        return self.job == job or self.job.startswith(f"{job}.") or self.name == f"job{job}"


def find_daemons() -> list[Daemon]:
    """Return the caller's containers with an SSH daemon on this node, the oldest first."""
    bundles = _bundles()
    parents: dict[int, int] = {}
    found = []
    boot = _boot_time()
    for path in _PROC.iterdir():
        if not path.name.isdigit():
            continue
        try:
            fields = _stat(path)
            parents[int(path.name)] = int(fields[_PARENT])
            daemon = _read_daemon(path, boot + int(fields[_START_TIME]) // os.sysconf("SC_CLK_TCK"))
        except (OSError, ValueError):
            continue  # it ended meanwhile, or is not the caller's
        if daemon is not None:
            found.append(daemon)
    # A session is a child of its daemon, by the same name.
    pids = {daemon.pid for daemon in found}
    daemons = [daemon for daemon in found if parents.get(daemon.pid) not in pids]
    for daemon in daemons:
        daemon.sessions = sum(parent == daemon.pid for parent in parents.values())
        daemon.bundle = bundles.get(daemon.pid, "")
        _describe(daemon, parents)
    return sorted(daemons, key=lambda daemon: (daemon.since, daemon.pid))


def _boot_time() -> int:
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("btime ")))


def _stat(path: Path) -> list[str]:
    return (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _read_daemon(path: Path, since: int) -> Daemon | None:
    """Return the daemon that is the process with the directory `path`; None where it is none. Raises OSError."""
    network = (path / "ns/net").stat()  # fails where the caller may not inspect it; cmdline is in its memory
    with (path / "cmdline").open("rb") as file:
        if file.read(len(paths.SERVER) + 1) != f"{paths.SERVER}\0".encode():
            return None
        arguments = file.read(_MOST).decode("utf-8", "replace").split("\0")
    places = []
    for option, value in zip(arguments, arguments[1:]):
        place = _PLACE.fullmatch(value)
        if option == "-p" and place is not None and int(place.group(2)) <= LAST_PORT:
            places.append((place.group(1) or "", int(place.group(2))))
    if not places:
        return None
    status = (path / "status").read_text(encoding="utf-8", errors="replace")
    uid = int(next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:")))
    daemon = Daemon(int(path.name), uid, places, since)
    own = os.stat("/proc/self/ns/net")
    daemon.has_own_network = (network.st_dev, network.st_ino) != (own.st_dev, own.st_ino)
    return daemon


def _bundles() -> dict[int, str]:
    """Return the bundles of the daemons whose records the caller can read, by the daemon's pid."""
    found = {}
    try:
        path = directory_of_copies(Engine().host_uid)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (HookError, OSError):
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


def _describe(daemon: Daemon, parents: dict[int, int]) -> None:
    """Find out what engine and job the container is of, and what it is called, as far as the caller can see that."""
    cgroup = _read(daemon.pid, "cgroup")
    environment = [_read(daemon.pid, "environ")]
    identified = _ID.search(cgroup) or _ID.search(daemon.bundle)
    if identified:
        daemon.engine, daemon.id = _ENGINES[identified.group(1)], identified.group(2)
    pid = daemon.pid
    for _ancestor in range(_MAX_ANCESTORS):
        pid = parents.get(pid, 0)
        if pid <= 1:
            break
        arguments = _read(pid, "cmdline").split("\0")
        program = arguments[0].rpartition("/")[2]
        if program == "conmon":
            daemon.engine = "podman"
            daemon.id = _option(arguments, "-c") or daemon.id
            daemon.name = _option(arguments, "-n")
            environment.append(_read(pid, "environ"))
            cgroup += _read(pid, "cgroup")
            break
        if program.startswith("containerd-shim"):
            break
    if not daemon.id and daemon.bundle:
        parts = Path(daemon.bundle).parts  # podman: .../ID/userdata
        daemon.id = parts[-2] if parts[-1] == "userdata" else parts[-1]
    daemon.job = _job(cgroup, environment)


def _job(cgroup: str, environments: list[str]) -> str:
    """Return the number of the scheduler's job: from the cgroup, or from the variables of container and engine."""
    in_cgroup = _SLURM.search(cgroup)
    if in_cgroup:
        return in_cgroup.group(1)
    for environment in environments:
        values = dict(entry.split("=", 1) for entry in environment.split("\0") if "=" in entry)
        for name in JOB_VARIABLES:
            if values.get(name):
                return values[name]
    return ""


def _option(arguments: list[str], name: str) -> str:
    return next((value for option, value in zip(arguments, arguments[1:]) if option == name), "")


def _read(pid: int, name: str) -> str:
    try:
        with (_PROC / str(pid) / name).open("rb") as file:
            return file.read(_MOST).decode("utf-8", "replace")
    except OSError:
        return ""
