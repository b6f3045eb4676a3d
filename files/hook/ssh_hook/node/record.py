# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry of a running daemon: whose it is, where it listens, and from what poststop and sweeps identify it.

A pid alone does not identify a process, since it may have been reused, and a pidfile may be writable by others. So an
entry identifies the process by pid, start time and boot id, and its program by device and inode. The program is the
one that the process will exec; before that, it is not compared. Only root, or a rootless engine's user, can write it.

The entry is in the bundle, for poststop, and where sweeps and the inventory find it (entries.py).

Format: a line "ssh_hook 1", then "name=value" lines; values hold no control characters. Other names are ignored.
"""

from __future__ import annotations

from ..errors import NOT_TRUSTED, SYSTEM, HookError, LateError, printable
from ..fast_stdlib import TYPE_CHECKING, create_file, dirname, fsdecode, fsencode, os, read_file
from ..linux.files import read_own
from ..linux.process import MAX_ID, MAX_PID, Process, is_decimal, pid_is_taken, pid_namespace
from ..linux.process_questions import ask
from . import places

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..linux.identity import Identity

NAME = "ssh_hook.daemon"
TEMPORARY = NAME + ".new"
_VERSION = "ssh_hook 1"
_MAX_SIZE = 64 << 10  # bytes
_MAX_DIGITS = 20  # of 64 bits
_PATIENCE = 5.0  # seconds for an answer about one process, on a busy node
_PIDS = ("pid", "init_pid")
_NUMBERS = ("pid", "start_time", "program_device", "program_inode", "uid", "gid", "init_pid", "init_start_time")
_PID_NAMESPACE = "pid_namespace"  # a number that older records lack
_TEXTS = ("boot_id", "pidfile_host", "bundle", "copy")
# What people choose a container by, and where it answers. The last is `owner`: who reads during the write misses it.
DESCRIPTION = (
    *("engine", "id", "name", "job", "step", "task", "leader", "cluster", "ports"),
    *("network", "mounts", "attached", "owner"),
)
_ADDED = ("door", "entry", *DESCRIPTION)  # texts that older records lack: empty


class Record:
    """The record of one daemon. Ids are in the hook's namespaces.

    Attributes:
        numbers: by name: pid; start_time, in clock ticks since boot; program_device and program_inode; uid and gid of
            the owner of pidfile_host; init_pid and init_start_time of the container's first process; pid_namespace, the
            inode of the hook's pid namespace, in which these pids are (missing in older records).
        texts: by name: boot_id; pidfile_host, empty if there is none; bundle, a path without links, empty if it is not
            printable; copy and entry, the paths where it is kept too (entries.py), each empty if there is none; door,
            the path of the daemon's door (door.py), empty if there is none. The others describe the container, as far
            as they are known: engine, such as podman; id and name; job, the scheduler's, with step, task (the name of
            an array's task), leader (the number of a heterogeneous job's first component) and cluster; ports, such as
            15263, or [10.1.1.1]:15263 for each address, empty for none; network and mounts, the inodes of the
            container's network and mount namespaces; attached, the pid of the process that `ssh_hook attach` has
            attached it to, empty for others; owner, the uid of the user on the node.
    """

    def __init__(self, numbers: dict[str, int], texts: dict[str, str]) -> None:
        self.numbers = numbers
        self.texts = texts

    @property
    def pid(self) -> int:
        """Return the daemon's pid."""
        return self.numbers["pid"]

    @property
    def pidfile_host(self) -> str:
        """Return the path of the pidfile on the host; empty if there is none."""
        return self.texts["pidfile_host"]

    @property
    def bundle(self) -> str:
        """Return the path of the bundle, without links; empty if it is not printable."""
        return self.texts["bundle"]

    @property
    def door(self) -> str:
        """Return the path of the daemon's door; empty if it has none."""
        return self.texts["door"]

    def without_container(self) -> Record:
        """Return the same record for a container whose end only its own processes know: its daemon stands for it.

        Sweeps, also of earlier versions, then end nothing. Later changes of texts are changes of both.
        """
        daemon = {"init_pid": self.numbers["pid"], "init_start_time": self.numbers["start_time"]}
        return Record({**self.numbers, **daemon}, self.texts)

    def data(self) -> bytes:
        """Return the content of the record's file."""
        fields = [f"{name}={value}" for name, value in [*self.numbers.items(), *self.texts.items()]]
        return fsencode("\n".join([_VERSION, *fields, ""]))

    def process(self) -> Process | None:
        """Return the recorded process; None if it is gone, even if its pid was reused.

        Raises OSError, HookError if /proc hides the process that has the pid, and LateError if it does not answer.
        """
        try:
            process = Process(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            if pid_is_taken(self.pid) and self.is_of_this_boot():
                raise HookError(
                    SYSTEM,
                    f"cannot tell whether process {self.pid} is the SSH daemon, since /proc hides it (hidepid): check "
                    "it as root, and end it if it is",
                ) from None
            return None
        is_same = False
        try:
            is_same = process.is_alive() and self.is_of_this_boot() and _answer(process, self._describes)
        finally:
            if not is_same:
                process.close()
        return process if is_same else None

    def _describes(self, process: Process) -> bool:
        is_same = process.start_time() == self.numbers["start_time"]
        return is_same and (process.is_before_exec() or process.program() in (None, self._program()))

    def container_is_gone(self) -> bool:
        """Return whether the container's first process has exited.

        It counts as running if its pid is in another pid namespace, which the caller's /proc does not cover, or belongs
        to a process that /proc hides (hidepid). Raises OSError, and LateError if the process does not answer.
        """
        if not self.is_of_this_boot():
            return True
        if not self.has_pids_of(pid_namespace()):
            return False
        try:
            with Process(self.numbers["init_pid"]) as init:
                return not (init.is_alive() and _answer(init, self.is_of))
        except (FileNotFoundError, ProcessLookupError):
            return not pid_is_taken(self.numbers["init_pid"])

    def is_of(self, init: Process) -> bool:
        """Return whether `init` is the recorded first process of the container. Raises OSError if it is gone."""
        recorded = self.numbers["init_pid"], self.numbers["init_start_time"]
        return self.is_of_this_boot() and recorded == (init.pid, init.start_time())

    def has_pids_of(self, namespace: int) -> bool:
        """Return whether its pids are of the pid namespace with this inode."""
        return self.numbers.get(_PID_NAMESPACE, namespace) == namespace

    def is_of_this_boot(self) -> bool:
        """Return whether the daemon was started since the node has booted."""
        return _boot_id() == self.texts["boot_id"]

    def name(self) -> str:
        """Return a name for its files that no other daemon has."""
        return f"{self.pid}-{self.numbers['start_time']}-{self.texts['boot_id'][:8]}"

    def is_same(self, text: str) -> bool:
        """Return whether `text` is a record of the same daemon."""
        other = parse(text)
        own = self.numbers.get(_PID_NAMESPACE)
        return other is not None and (other.name(), other.numbers.get(_PID_NAMESPACE)) == (self.name(), own)

    def _program(self) -> tuple[int, int]:
        return self.numbers["program_device"], self.numbers["program_inode"]


def record_of(
    identity: tuple[int, int, int, int],
    namespace: int,
    init: Process,
    file_owner: Identity,
    pidfile_host: str,
    bundle: str,
    door: str,
    description: Mapping[str, str],
) -> Record:
    """Return a record of the process with this `identity` (pid, start time, device and inode of the program).

    `namespace` is the inode of the caller's pid namespace. `init` is the container's first process. `file_owner` owns
    `pidfile_host`. `bundle` is a path without links, or empty. `door` is the path of the daemon's door. `description`
    has texts by the names of DESCRIPTION. Raises OSError.
    """
    container = init.pid, init.start_time()
    numbers = dict(zip(_NUMBERS, (*identity, file_owner.uid, file_owner.gid, *container)))
    numbers[_PID_NAMESPACE] = namespace
    texts = {"boot_id": _boot_id(), "pidfile_host": pidfile_host, "bundle": bundle if bundle.isprintable() else ""}
    # Copy and entry are known when they are written.
    texts.update({"copy": "", "door": door, "entry": ""})
    return Record(numbers, {**texts, **dict.fromkeys(DESCRIPTION, ""), **description})


def write(record: Record, bundle: int) -> None:
    """Write `record` into the open directory `bundle`, replacing that of an earlier start. Raises OSError."""
    remove(bundle)
    os.close(create_file(TEMPORARY, record.data(), dir_fd=bundle))
    os.rename(TEMPORARY, NAME, src_dir_fd=bundle, dst_dir_fd=bundle)


def remove_kept(record: Record) -> None:
    """Remove what `entries.py` has kept of the record: its copy, and the entry for its user.

    A container that sees the node's /tmp can write a user's records. So these are removed only where they can be.
    """
    for path in filter(None, (record.texts["copy"], record.texts["entry"])):
        try:
            if path.startswith(f"{places.ENTRIES}/"):
                places.free(path, record.is_same)
            elif dirname(path) == places.ROOT_COPIES or _is_users(path, record.name()):
                os.unlink(path)
        except OSError:
            pass  # it was never written, or a sweep removes it


def _is_users(path: str, name: str) -> bool:
    from .own_places import is_entry  # here: the end of a rootful engine's container needs none

    return is_entry(path, name)


def read(directory: int, name: str = NAME, where: str = "the bundle") -> Record | None:
    """Read the record `name` in the open `directory`; return None if there is none. `where` is its path for messages.

    Raises HookError if it is writable by others than the caller, or its format is wrong.
    """
    try:
        data = read_own(name, _MAX_SIZE, directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HookError(SYSTEM, f"cannot read {printable(name)} in {where}: {error.strerror}") from None
    what = f"{printable(name)} in {where} is not"
    remedy = "remove it when its container is gone"
    if data is None:
        raise HookError(NOT_TRUSTED, f"{what} a file that only root can write: {remedy}")
    record = parse(fsdecode(data))
    if record is None:
        raise HookError(NOT_TRUSTED, f"{what} a record of this hook: {remedy}")
    return record


def is_started(bundle: int, init: Process) -> bool:
    """Return whether the open directory `bundle` has a daemon's record for the container's first process `init`.

    A restart keeps the bundle, but has another first process. Raises OSError if `init` is gone.
    """
    try:
        known = read(bundle)
    except HookError:
        return False  # not the hook's: the start replaces it
    return known is not None and known.is_of(init)


def remove(bundle: int, record: Record | None = None) -> None:
    """Remove the record, even unfinished, from the open directory `bundle`, and what is kept of it. Raises OSError."""
    for name in (TEMPORARY, NAME):
        try:
            os.unlink(name, dir_fd=bundle)
        except FileNotFoundError:
            pass
    if record is not None:
        remove_kept(record)


def parse(text: str) -> Record | None:
    """Return the record with this text; None if it is none, or unfinished."""
    version, *lines = text.split("\n")
    fields = {**dict.fromkeys(_ADDED, ""), **dict(line.split("=", 1) for line in lines if "=" in line)}
    try:
        numbers = {name: _number(fields[name]) for name in _NUMBERS}
        if _PID_NAMESPACE in fields:
            numbers[_PID_NAMESPACE] = _number(fields[_PID_NAMESPACE])
        texts = {name: fields[name] for name in (*_TEXTS, *_ADDED)}
    except (KeyError, ValueError):
        return None
    are_pids = all(2 <= numbers[name] <= MAX_PID for name in _PIDS)
    are_ids = max(numbers["uid"], numbers["gid"]) <= MAX_ID
    is_whole = version == _VERSION and text.endswith("\n") and "\0" not in text and "/" not in texts["boot_id"]
    return Record(numbers, texts) if is_whole and are_pids and are_ids else None


def _answer(process: Process, question: Callable[[Process], bool]) -> bool:
    """Return the answer to a question about a process that may be any user's. Raises OSError and LateError."""
    answers = ask(lambda _pid: b"yes" if question(process) else b"", [process.pid], _PATIENCE)
    if process.pid not in answers:
        raise LateError(
            SYSTEM,
            f"cannot tell whether process {process.pid} is of a container with an SSH daemon: reading its files in "
            f"/proc takes longer than {_PATIENCE:.0f} s, because its user delays the program that it executes: end it",
        )
    return answers[process.pid] == b"yes"


def _number(text: str) -> int:
    if not is_decimal(text, _MAX_DIGITS):
        raise ValueError
    return int(text)


def _boot_id() -> str:
    return read_file("/proc/sys/kernel/random/boot_id").decode().strip()
