# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the caller's containers on this node have an SSH daemon, by the entries that starts have made (entries.py).

Nothing is found by the name of a process, and no process's memory is read. Root's entries are believed: only root can
write them. A user's own count for that user's rights alone: whoever forges one misleads only herself. Containers of an
earlier version of the hook have no description in their entry, and are not found.
"""

from __future__ import annotations

import time

from ..errors import HookError
from ..fast_stdlib import TYPE_CHECKING, fsdecode, os, read_file
from ..linux import disposable_process
from ..linux.files import names as names_in
from ..linux.id_maps import IdMap
from ..linux.identity import Identity
from ..linux.process import MAX_ID, MAX_PID, Process, is_decimal, pid_namespace
from ..linux.process_questions import ask
from ..linux.process_search import are_running, processes_until
from ..linux.syscalls import set_name
from ..oci.settings import LAST_PORT, NO_PORT
from . import entries, entry_reader, places, record, user_child
from .engine import JOBS_PLACE, Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TypeVar

    from .record import Record

    T = TypeVar("T")

LOOPBACK = ("127.0.0.1", "::1")
_MAX_DIGITS = 10
_NOBODYS_GROUP = 65534  # no user may trace a process that has a group which is not the user's
_TIMEOUT = 2.0  # seconds to read the entries of all users, and to look for daemons of other pid namespaces
_MAX_USERS = 256
_MAX_ANSWER = 1 << 20  # bytes of one user's entries


class Daemon:
    """One of the caller's containers, with its SSH daemon.

    Attributes:
        pid: of the daemon; if /proc does not show it, that of its own pid namespace.
        uid: of the daemon, in the caller's user namespace.
        owner: the uid of the user whose container it is, in the same one.
        places: where it listens, as (address, port); the address is empty for all.
        since: when it was started, in seconds since the epoch.
        door: the path of its door (door.py); empty if it has none for the caller.
        has_own_network: whether its network namespace differs from the caller's.
        engine: such as podman; empty if unknown.
        id, name, job: of the container; empty if unknown.
        step: the number of the container's job step, such as 1; empty if there is none or it is unknown.
        leader: the number of the first component of a heterogeneous job, from root's record of the job; else empty.
        task: the job's name as a task of a Slurm array, such as 1234_5; else empty.
        mounts: the inode of the container's mount namespace.
        attached: the pid of the process that attach has attached it to, 0 if of another pid namespace; else None.
    """

    def __init__(self, pid: int, uid: int, places: list[tuple[str, int]], since: int) -> None:
        self.pid = pid
        self.uid = self.owner = uid
        self.places = places
        self.since = since
        self.door = ""
        self.has_own_network = False
        self.engine = self.id = self.name = self.job = self.step = self.task = self.leader = self.mounts = ""
        self.attached: int | None = None

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

    def sessions(self) -> int:
        """Return how many connections it serves: their processes lead sessions, a child that serves for it does not."""
        found = 0
        for child in _children(self.pid):
            leads = _ask(child, lambda process: process.leads_session(), False)
            found += 1 if leads else len(_children(child))
        return found


def find_daemons() -> list[Daemon]:
    """Return the caller's containers with an SSH daemon on this node, the oldest first; for root those of its engines.

    Raises HookError.
    """
    caller = Engine()
    return _running(_visible_entries(caller), caller)


def find_all_daemons() -> list[Daemon]:
    """Do as `find_daemons`, but for root find those of users' own engines too, to show and count them.

    Users' own entries are read by a process that is the user; none is started for a user for whom an earlier one is
    still blocked. It forks, so root must have no other thread. Raises HookError.
    """
    caller = Engine()
    known = _visible_entries(caller)
    if caller.host_uid == 0:
        known += _of_users()
    return _running(known, caller)


def find_daemon_of(owner: int, port: int) -> Daemon | None:
    """Return a container of the user `owner`, the caller or one whom root serves, that listens on `port` here.

    That is in the caller's network namespace. `owner` is a uid of the caller's user namespace. A daemon that has not
    executed Dropbear yet does not listen: the caller may be about to do so. Raises HookError.
    """
    caller = Engine()
    known = _visible_entries(caller)
    if not caller.is_rootless:
        known = [each for each in known if each.texts["owner"] == str(owner)]
    daemons = [daemon for daemon in _running(known, caller) if not daemon.has_own_network]
    found = {each.pid: each for each in daemons if port in (number for _address, number in each.places)}
    executed = ask(_has_executed, found)
    return next((daemon for pid, daemon in found.items() if executed.get(pid)), None)


def _has_executed(pid: int) -> bytes:
    """Return "yes" if a process has executed a program, else nothing. Raises OSError."""
    with Process(pid) as process:
        return b"" if process.is_before_exec() else b"yes"


def _visible_entries(caller: Engine) -> list[Record]:
    """Return the entries that the caller's own engine has made, and those that root keeps for the caller."""
    uid = caller.host_uid
    known = [each for path in entries.directories(uid) for each in entry_reader.own(path)]
    if uid:
        of_root = [record.parse(text) for _path, text in places.entries(uid, caller.is_rootless)]
        known += [each for each in of_root if each is not None]
    return known


def _running(known: Iterable[Record], caller: Engine) -> list[Daemon]:
    """Return the containers of the entries whose daemons run, the oldest first."""
    boot = _boot_time()
    found: dict[str, Record] = {}
    for each in known:
        if each.texts["owner"] and each.is_of_this_boot():
            found.setdefault(each.name(), each)  # root's come first: nobody's own replaces one
    pids = _visible_pids(found)
    daemons = [_daemon(found[name], pid, boot, caller.host_uid) for name, pid in pids.items()]
    return sorted(daemons, key=lambda daemon: (daemon.since, daemon.pid))


def _daemon(known: Record, pid: int, boot: int, caller: int) -> Daemon:
    """Return the container with this entry, whose daemon is `pid` in the caller's pid namespace.

    `boot` is in seconds since the epoch, and `caller` the caller's uid on the node.
    """
    texts, start = known.texts, known.numbers["start_time"]
    owner = _number(texts["owner"], MAX_ID)
    uid = _ask(pid, lambda process: process.uid(), owner)
    daemon = Daemon(pid, uid, _places(texts["ports"]), boot + start // os.sysconf("SC_CLK_TCK"))
    daemon.owner = owner
    daemon.door = texts["door"] if owner == caller else ""  # root sees other users', whose doors accept only them
    daemon.has_own_network = texts["network"] != str(os.stat("/proc/self/ns/net").st_ino)
    daemon.engine, daemon.id, daemon.name = texts["engine"], texts["id"], texts["name"]
    daemon.job, daemon.step, daemon.task, daemon.leader = texts["job"], texts["step"], texts["task"], texts["leader"]
    daemon.mounts = texts["mounts"]
    if texts["attached"]:
        daemon.attached = _number(texts["attached"], MAX_PID) if known.has_pids_of(pid_namespace()) else 0
    return daemon


def _places(text: str) -> list[tuple[str, int]]:
    """Return the places in `text`: 15263, or [10.1.1.1]:15263 for each address."""
    places = []
    for word in text.split():
        address, _colon, port = word.rpartition(":")
        if number := _number(port, LAST_PORT):
            places.append((address[1:-1], number))
    return places


def _number(text: str, most: int) -> int:
    """Return the number in `text`; 0 if it is none up to `most`."""
    return int(text) if is_decimal(text, _MAX_DIGITS) and int(text) <= most else 0


def _visible_pids(known: Mapping[str, Record]) -> dict[str, int]:
    """Return the pids of the daemons that run, in the caller's pid namespace, by their keys in `known`.

    Raises LateError.
    """
    namespace = pid_namespace()
    elsewhere = {each.pid for each in known.values() if not each.has_pids_of(namespace)}
    pids = _pids_here(elsewhere) if elsewhere else {}
    candidates = [
        (name, pid, each.numbers["start_time"])
        for name, each in known.items()
        for pid in ([each.pid] if each.has_pids_of(namespace) else pids.get(each.pid, []))
    ]
    running = are_running((pid, start_time) for _name, pid, start_time in candidates)
    return {name: pid for (name, pid, _start_time), runs in zip(candidates, running) if runs}


def _pids_here(elsewhere: set[int]) -> dict[int, list[int]]:
    """Return the pids in the caller's pid namespace of processes that have one of the pids `elsewhere` in another one.

    Raises LateError.
    """
    found: dict[int, list[int]] = {}
    for process in processes_until(time.monotonic() + _TIMEOUT):
        try:
            for pid in elsewhere.intersection(process.pids()):
                found.setdefault(pid, []).append(process.pid)
        except OSError:
            continue  # it has exited
    return found


def _children(pid: int) -> list[int]:
    """Return the children of a process; none if it has exited, or is hidden."""
    return _ask(pid, lambda process: process.children(), [])


def _ask(pid: int, question: Callable[[Process], T], otherwise: T) -> T:
    """Return the answer to a `question` about a process; `otherwise` if it has exited, or /proc hides it."""
    try:
        with Process(pid) as process:
            return question(process)
    except OSError:
        return otherwise


def _of_users() -> Iterator[Record]:
    """Yield the entries of users' own engines for processes of these users. Must be called by root.

    A process that is the user reads them, and is left behind if it hangs.
    """
    deadline = time.monotonic() + _TIMEOUT
    names = {name for place in ("/run/user", JOBS_PLACE) for name in names_in(place) if _number(name, MAX_ID)}
    names -= {str(uid) for uid in user_child.users_of_left()}
    for name in sorted(names, key=hash)[:_MAX_USERS]:  # in a different order each time, so that none is always missing
        uid, left = int(name), deadline - time.monotonic()
        if left <= 0:
            return
        for known in _of_user(uid, min(left, _TIMEOUT / 4)):
            if known.texts["owner"] == name and _is_process_of(uid, known.pid):
                yield known


def _is_process_of(uid: int, pid: int) -> bool:
    """Return whether a process is the user's, or in a user namespace that maps the user and not all users."""

    def belongs(process: Process) -> bool:
        if process.uid() == uid:
            return True
        ids = IdMap(process.read("uid_map").decode())
        return not ids.is_initial() and ids.inside(uid) is not None

    return _ask(pid, belongs, False)


def _of_user(uid: int, timeout: float) -> list[Record]:
    """Return the entries that a process reads which is the user; none if that takes longer than `timeout` seconds."""

    def read() -> bytes:
        set_name(user_child.NAME)
        return b"\0".join(known.data() for path in entries.directories(uid) for known in entry_reader.own(path))

    user, what = Identity(uid, _NOBODYS_GROUP), f"cannot read the entries of uid {uid}"
    try:
        answer = disposable_process.run(read, what, user, timeout=timeout, limit=_MAX_ANSWER)
    except HookError:
        return []
    return [known for known in map(record.parse, fsdecode(answer).split("\0")) if known is not None]


def _boot_time() -> int:
    """Return when the node booted, in seconds since the epoch."""
    lines = read_file("/proc/stat").split(b"\n")
    return int(next(line.split()[1] for line in lines if line.startswith(b"btime ")))
